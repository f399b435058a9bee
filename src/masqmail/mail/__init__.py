"""Values every other package speaks in: mailboxes, envelopes, statuses, outcomes, headers, reports.

Pure: bytes and values in, values and bytes out; no socket, file, clock or logger. Start with
`address.Mailbox`, then `envelope.Envelope`, `status.Status` and `outcome.Outcome`.
"""
