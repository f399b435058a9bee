"""How messages leave a folder of an IMAP server: deleted, or moved to another folder there. For the worker thread."""

import re
from collections.abc import Collection
from contextlib import suppress
from typing import Protocol

from masqmail.retrieval.imapplan import Refusal, uid_sets

_CODE = re.compile(r"\[([A-Z]+)", re.IGNORECASE)

#: What a server says when there is no such folder to copy to, RFC 9051 §6.4.7 and RFC 5530 §3. Some say nothing.
_MISSING = frozenset({"TRYCREATE", "NONEXISTENT"})


class Speaker(Protocol):
    """The session, as far as it is needed here: a folder is selected for writing."""

    def has(self, *capabilities: str) -> bool:
        """Whether the server has one of these."""

    def carry_out(self, name: str, command: str) -> None:
        """A command whose answer nobody wants. Raises `Refusal`."""

    def search(self, what: str) -> list[int]:
        """The UIDs of such messages. Raises `Refusal`."""

    def folder_argument(self, name: str) -> str:
        """The name of a folder as commands have it."""


def delete(session: Speaker, uids: Collection[int]) -> int:
    """Deletes messages. Returns how many; those it cannot take away without others it only marks.

    Raises `Refusal`, as `move` does.
    """
    can_expunge_some = session.has("UIDPLUS", "IMAP4REV2")
    for uid_set in uid_sets(uids):  # one command at a time: Dovecot may expunge before it looks at the new flags
        session.carry_out("STORE", f"UID STORE {uid_set} +FLAGS.SILENT (\\Deleted)")
        if can_expunge_some:
            session.carry_out("EXPUNGE", f"UID EXPUNGE {uid_set}")  # RFC 4315 §2.1
    if can_expunge_some:
        return len(uids)
    if not set(session.search("DELETED")).issubset(uids):
        return 0  # EXPUNGE takes all that are marked, and somebody else's wait for their end, too
    session.carry_out("EXPUNGE", "EXPUNGE")
    return len(uids)


def move(session: Speaker, uids: Collection[int], folder: str) -> int:
    """Moves messages to a folder, which is made when it is missing. Returns how many, as `delete` does.

    In one step where the server has that (RFC 6851). Else each is deleted when its copy is there; one that is marked
    `\\Deleted` was copied before.
    """
    target = session.folder_argument(folder)
    if session.has("MOVE", "IMAP4REV2"):
        for uid_set in uid_sets(uids):
            _put(session, "MOVE", uid_set, target)
        return len(uids)
    for uid_set in uid_sets(set(uids).difference(session.search("DELETED"))):
        _put(session, "COPY", uid_set, target)
        session.carry_out("STORE", f"UID STORE {uid_set} +FLAGS.SILENT (\\Deleted)")
    return delete(session, uids)


def _put(session: Speaker, verb: str, uid_set: str, target: str) -> None:
    """MOVE or COPY; once more when the folder had to be made."""
    command = f"UID {verb} {uid_set} {target}"
    try:
        session.carry_out(verb, command)
    except Refusal as refusal:
        code = _CODE.match(str(refusal))
        if code is not None and code[1].upper() not in _MISSING:
            raise
        try:
            session.carry_out("CREATE", f"CREATE {target}")
        except Refusal as other:
            raise Refusal(f"{refusal}; nor can it be made: {other}") from refusal
        with suppress(Refusal):
            session.carry_out("SUBSCRIBE", f"SUBSCRIBE {target}")  # many programs show no other folders
        session.carry_out(verb, command)
