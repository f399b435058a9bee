"""The only place that opens connections.

`stream` is a connection (plain or TLS), `listen` waits for others', `dial` finds and reaches a host, `dns` knows
who takes a domain's mail, `tls` and `tlsengine` protect, `fake` is all of it in memory for tests. What can go
wrong is in `errors`.
"""
