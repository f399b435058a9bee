"""Only what stands in an alias file now is run or written to."""

import os
import threading
from pathlib import Path

import pytest

from masqmail.daemon.parent.payload import decode_result, encode_job, encode_result
from masqmail.daemon.parent.wire import WireError
from masqmail.daemon.parent.worker import carry_out, check_forward, check_source
from masqmail.delivery.files import NotUsable
from masqmail.delivery.forward import Forward
from masqmail.delivery.job import LocalJob
from masqmail.delivery.local import Plan, plan_for
from masqmail.mail.outcome import Culprit, Deferred
from masqmail.spool.api import TargetKind
from masqmail.system.accounts import Account
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


def test_what_a_glob_file_names_is_allowed(tmp_path: Path) -> None:
    file = tmp_path / "globs"
    file.write_text('fax*@home.example: "|/bin/fax"\n')
    job = support.job(TargetKind.PIPE, "|/bin/fax", source=f"{file}:fax*@home.example")
    check_source(job, [], [str(file)])
    with pytest.raises(NotUsable, match="does not name"):
        check_source(job, [str(file)])


def forward_job(target: str, kind: TargetKind = TargetKind.PIPE) -> LocalJob:
    return support.job(kind, target, source="~bob/.forward")


@pytest.fixture
def bob(tmp_path: Path) -> Account:
    tmp_path.chmod(0o755)
    (tmp_path / "more").write_text("|/bin/more\n")
    (tmp_path / ".forward").write_text(f'"|/bin/fax ${{sender}}", /srv/box, :include:{tmp_path}/more\n')
    for name in (".forward", "more"):
        (tmp_path / name).chmod(0o600)
    return support.account("bob", os.geteuid(), os.getegid(), tmp_path)


def plan(job: LocalJob, bob: Account, tmp_path: Path) -> Plan:
    return plan_for(job, support.settings(tmp_path), {"bob": bob}.get)


@pytest.mark.parametrize(
    ("target", "kind"),
    [("|/bin/fax ${sender}", TargetKind.PIPE), ("|/bin/more", TargetKind.PIPE), ("/srv/box", TargetKind.FILE)],
)
def test_what_a_forward_file_names_is_the_users(tmp_path: Path, bob: Account, target: str, kind: TargetKind) -> None:
    job = forward_job(target, kind)
    found = plan(job, bob, tmp_path)
    assert found.account == bob
    check_forward(job, found)


@pytest.mark.parametrize(
    ("target", "kind"),
    [("|/bin/fax", TargetKind.PIPE), ("|/srv/box", TargetKind.PIPE), ("/srv/box/", TargetKind.FILE)],
)
def test_anything_else_in_the_name_of_a_forward_file_is_refused(
    tmp_path: Path, bob: Account, target: str, kind: TargetKind
) -> None:
    job = forward_job(target, kind)
    with pytest.raises(NotUsable, match=r"~bob/\.forward does not name"):
        check_forward(job, plan(job, bob, tmp_path))


def test_a_forward_file_that_has_become_unsafe_runs_nothing(tmp_path: Path, bob: Account) -> None:
    (tmp_path / ".forward").chmod(0o666)
    job = forward_job("|/bin/more")
    with pytest.raises(NotUsable, match="passed over"):
        check_forward(job, plan(job, bob, tmp_path))


@pytest.mark.parametrize("texts", [(), (("/home/bob/.forward", "bob\n\\joe\udce9 é"), ("/x", ""))])
def test_what_was_found_goes_through_the_parent_unchanged(texts: tuple[tuple[str, str], ...]) -> None:
    found = Forward(texts, "" if texts else "it was passed over")
    assert decode_result(encode_result(found)) == found


def test_what_would_not_fit_into_a_packet_is_put_off() -> None:
    result = decode_result(encode_result(Forward((("/home/bob/.forward", "\udce9" * 16_000),))))
    assert isinstance(result, Deferred)


@pytest.mark.parametrize("payload", [b'{"texts": 1}', b'{"texts": [["a"]]}', b'{"texts": []}'])
def test_a_result_that_makes_no_sense_is_refused(payload: bytes) -> None:
    with pytest.raises(WireError):
        decode_result(payload)
