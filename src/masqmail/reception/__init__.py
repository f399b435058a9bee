"""How messages come in: `smtp` (the LAN listener and the submission socket) and `pickup` (the drop folder)."""
