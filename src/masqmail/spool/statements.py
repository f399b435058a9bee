"""SQL statements by name, out of the .sql files beside this module.

A file in `sql/` holds named statements (`-- name: add_message` above each). Their text never changes while the
program runs, so sqlite3 prepares each of them once.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

_HERE = Path(__file__).parent  # importlib.resources would load what opens ZIP files
_NAMED = re.compile(r"^-- name: (\w+)\n(.*?;)$", re.MULTILINE | re.DOTALL)


def load(topic: str) -> Mapping[str, str]:
    """The statements of `sql/TOPIC.sql`."""
    text = (_HERE / "sql" / f"{topic}.sql").read_text("utf-8")
    return dict(_NAMED.findall(text))


@cache
def schema_changes() -> Sequence[str]:
    """The scripts in `schema/` in the order of their numbers, which begin at 1 and have no gaps."""
    return tuple(script.read_text("utf-8") for script in sorted((_HERE / "schema").iterdir()))
