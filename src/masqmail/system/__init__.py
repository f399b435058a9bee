"""What we ask of the operating system: clocks, file watches, accounts, event logging, service notification."""
