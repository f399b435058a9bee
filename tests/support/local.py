"""Jobs, accounts and settings for tests of local delivery."""

from collections.abc import Mapping
from pathlib import Path

from masqmail.delivery.job import LocalJob, LocalMethod, Mailstore
from masqmail.delivery.local import LocalSettings
from masqmail.delivery.variables import variables_of
from masqmail.mail.address import Mailbox
from masqmail.spool.api import TargetKind
from masqmail.system.accounts import Account


def job(kind: TargetKind, target: str, *, source: str = "", identity: str = "0a1b2c.1") -> LocalJob:
    variables = variables_of(
        user="fax",
        recipient=Mailbox("fax+12", "home.example"),
        sender=Mailbox("ann", "example.org"),
        queue_id="0a1b2c",
    )
    return LocalJob(kind, target, identity, variables, source)


def account(name: str, uid: int, gid: int, home: Path | str = "/nonexistent") -> Account:
    return Account(name, uid, gid, str(home), "/bin/sh")


def settings(
    directory: Path,
    *,
    alias_user: str = "alias",
    methods: Mapping[str, LocalMethod] | None = None,
    mailstores: Mapping[str, Mailstore] | None = None,
    pipe_timeout_seconds: float = 30.0,
) -> LocalSettings:
    """Mailboxes below `directory`: `mail/USER` or `mail/USER.d`."""

    def mailbox_of(user: str) -> Mailstore:
        if user in (mailstores or {}):
            return (mailstores or {})[user]
        if (methods or {}).get(user) is LocalMethod.MAILDIR:
            return Mailstore(LocalMethod.MAILDIR, f"{directory}/mail/${{user}}.d")
        return Mailstore(LocalMethod.MBOX, f"{directory}/mail/${{user}}")

    return LocalSettings("gateway.example", alias_user, mailbox_of, pipe_timeout_seconds)
