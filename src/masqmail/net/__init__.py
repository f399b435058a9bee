"""The only place that opens connections: `stream` (plain and TLS), `tls`, `dns`, and `fake` for tests."""
