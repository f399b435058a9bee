"""Only what stands in an alias file now is run or written to."""

import os
import threading
from pathlib import Path

import pytest

from masqmail.daemon.parent_payload import encode_job
from masqmail.daemon.parent_worker import carry_out, check_source
from masqmail.delivery.files import NotUsable
from masqmail.mail.outcome import Culprit, Deferred
from masqmail.spool.api import TargetKind
from support import local as support


@pytest.fixture
def aliases(tmp_path: Path) -> str:
    (tmp_path / "list").write_text("|/bin/listed\n:include:" + str(tmp_path / "list") + "\n")
    lines = [
        """fax: "|/bin/fax 'a b' ${sender}", bob""",
        "archive: /srv/archive, /srv/box/",
        f"list: :include:{tmp_path}/list",
        "odd: :include:/dev/zero",
    ]
    (tmp_path / "aliases").write_text("\n".join(lines))
    return str(tmp_path / "aliases")


def check(aliases: str, kind: TargetKind, target: str, name: str) -> None:
    check_source(support.job(kind, target, source=f"{aliases}:{name}"), ["/nonexistent:x", aliases])


@pytest.mark.parametrize(
    ("kind", "target", "name"),
    [
        (TargetKind.PIPE, "|/bin/fax 'a b' ${sender}", "fax"),
        (TargetKind.PIPE, "/bin/fax 'a b' ${sender}", "fax"),
        (TargetKind.FILE, "/srv/archive", "archive"),
        (TargetKind.FILE, "/srv/box/", "archive"),
        (TargetKind.PIPE, "|/bin/listed", "list"),
    ],
)
def test_what_an_entry_names_is_allowed(aliases: str, kind: TargetKind, target: str, name: str) -> None:
    check(aliases, kind, target, name)


@pytest.mark.parametrize(
    ("kind", "target", "name"),
    [
        (TargetKind.PIPE, "|/bin/fax", "fax"),
        (TargetKind.PIPE, "|/bin/fax 'a b' ${sender} more", "fax"),
        (TargetKind.PIPE, "|/bin/fax 'a b' ${sender}", "archive"),
        (TargetKind.PIPE, "|/bin/fax 'a b' ${sender}", "nobody"),
        (TargetKind.PIPE, "|/srv/archive", "archive"),
        (TargetKind.FILE, "/srv/box", "archive"),
        (TargetKind.FILE, "bob", "fax"),
        (TargetKind.PIPE, "|x", "odd"),
    ],
)
def test_anything_else_is_not(aliases: str, kind: TargetKind, target: str, name: str) -> None:
    with pytest.raises(NotUsable):
        check(aliases, kind, target, name)


def test_a_file_that_is_not_configured_is_not_read(tmp_path: Path, aliases: str) -> None:
    job = support.job(TargetKind.PIPE, "|/bin/fax 'a b' ${sender}", source=f"{aliases}:fax")
    with pytest.raises(NotUsable, match="does not name"):
        check_source(job, [str(tmp_path / "others")])


def test_a_request_without_content_or_sense_defers(tmp_path: Path) -> None:
    outcome = carry_out(b"{}", [], support.settings(tmp_path), (), lambda name: None, threading.Event())
    assert isinstance(outcome, Deferred)
    assert outcome.culprit is Culprit.US


def test_a_missing_alias_file_defers(tmp_path: Path) -> None:
    path = f"{tmp_path}/aliases"
    memfd = os.memfd_create("content")
    payload = encode_job(support.job(TargetKind.PIPE, "|true", source=f"{path}:x"))
    outcome = carry_out(payload, [memfd], support.settings(tmp_path), (path,), lambda name: None, threading.Event())
    os.close(memfd)
    assert isinstance(outcome, Deferred)
    assert (outcome.culprit, outcome.reason) == (Culprit.LOCAL, f"{path}: no such file or directory")
