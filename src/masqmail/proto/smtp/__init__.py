"""SMTP, both sides, RFC 5321 with its extensions: `server` and `client` are the machines."""
