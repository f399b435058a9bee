"""Sans-IO protocol machines: bytes in, events and bytes out. They know no socket, clock, file or logger.

Start with `smtp.server.Server` and `smtp.client.Client`; a machine is pulled with `next_event()` and the
shell around it (`reception.conversation`, `delivery.smtp`) moves the bytes and keeps the time.
"""
