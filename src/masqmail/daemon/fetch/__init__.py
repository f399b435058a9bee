"""Mail fetched from the accounts of [fetch]: `wiring` makes the `fetcher`, which has a `task` for each account.

A `visit` runs one of the retrievers of `masqmail.retrieval`, whose messages come through the `inbox`.
"""
