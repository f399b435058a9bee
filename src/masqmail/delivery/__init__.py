"""Delivery methods, one per file: `smtp`, `maildir`, `mbox`, `pipe`. What they get and give is in `job`."""
