"""Brings a queue file to the schema of this program: numbered scripts, each in a transaction of its own."""

import sqlite3
from collections.abc import Sequence

from masqmail.spool.api import SpoolError
from masqmail.spool.statements import schema_changes

#: In the header of every queue file of ours ("MasQ"), so that we never write into somebody else's database.
APPLICATION_ID = 0x4D617351


def migrate(connection: sqlite3.Connection, changes: Sequence[str] | None = None) -> None:
    """Runs the schema changes that the file has not seen; `changes` defaults to those in `schema/`.

    Raises `SpoolError` when the file is no queue of ours or was written by a newer program.
    """
    changes = schema_changes() if changes is None else changes
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if tables and application_id != APPLICATION_ID:
        raise SpoolError("the queue file holds something else than a MasqMail queue")
    if version > len(changes):
        raise SpoolError(
            f"the queue file has version {version}, this program knows {len(changes)}; use the newer MasqMail"
        )
    for number, script in enumerate(changes[version:], version + 1):
        connection.executescript(
            f"BEGIN; PRAGMA application_id = {APPLICATION_ID}; {script}; PRAGMA user_version = {number}; COMMIT;"
        )
