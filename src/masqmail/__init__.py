"""MasqMail: the mail server for hosts and networks that are not always online.

Start reading in `masqmail.cli.main`, then follow a message: `daemon.wiring`, `daemon.scheduler`,
`routing.decide`, `delivery.smtp`, `proto.smtp.client`. The layers are described in
`docs/explanation/architecture.md`.
"""

__version__ = "2.0.0.dev0"
