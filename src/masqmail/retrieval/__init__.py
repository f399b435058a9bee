"""The ways to fetch mail, one per file: `pop3`, `imap`, `odmr`. What they share is in `account`.

A retriever speaks to one account's server. What was taken before, where a message goes and what a person is told is
the business of its `Inbox`, which the daemon makes.
"""
