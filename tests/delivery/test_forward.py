"""A .forward counts when nobody but its user and root could have written it; otherwise it is passed over."""

import os
from pathlib import Path

import pytest

from masqmail.delivery import forward
from masqmail.delivery.forward import MAX_BYTES, Forward, look, names, trouble_in
from masqmail.routing.aliasfile import ItemKind
from masqmail.system.accounts import Account
from support import local as support


@pytest.fixture
def bob(tmp_path: Path) -> Account:
    tmp_path.chmod(0o755)
    return support.account("bob", os.geteuid(), os.getegid(), tmp_path)


def write(bob: Account, text: str, mode: int = 0o644) -> Path:
    path = Path(bob.home) / ".forward"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_no_file_and_no_home_are_nothing(bob: Account) -> None:
    assert look(bob) == Forward()
    assert look(support.account("bin", os.geteuid(), os.getegid(), "/nonexistent")) == Forward()


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", " , ,\n"])
def test_a_file_that_names_nobody_is_nothing(bob: Account, text: str) -> None:
    write(bob, text)
    assert look(bob) == Forward()


def test_the_mark_that_some_editors_put_first_is_no_part_of_the_text(bob: Account) -> None:
    path = write(bob, "\ufeffann@x\n")
    assert look(bob) == Forward(((str(path), "ann@x\n"),))


def test_the_text_comes_with_the_files_it_includes(bob: Account, tmp_path: Path) -> None:
    more, most = tmp_path / "more", tmp_path / "most"
    path = write(bob, f"\\bob\n:include:{more}, :include:/nonexistent\n")
    more.write_text(f'"|/bin/x", :include:{most}, :include:{more}\n')
    most.write_text("x@isp.example\n")
    for file in (more, most):
        file.chmod(0o600)
    found = look(bob)
    assert [name for name, _ in found.texts] == [str(path), str(more), str(most)]
    assert names(found, ItemKind.PIPE, "/bin/x")
    assert not names(found, ItemKind.FILE, "/bin/x")
    assert not names(found, ItemKind.PIPE, "/bin/y")


def test_an_included_file_that_others_may_write_to_stays_away(bob: Account, tmp_path: Path) -> None:
    more = tmp_path / "more"
    path = write(bob, f":include:{more}, x@isp.example\n")
    more.write_text("|/bin/evil\n")
    more.chmod(0o666)
    assert [name for name, _ in look(bob).texts] == [str(path)]


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda path: path.chmod(0o664), "others may write to it; chmod go-w makes it count"),
        (lambda path: path.chmod(0o646), "others may write to it; chmod go-w makes it count"),
        (lambda path: path.parent.chmod(0o777), "everybody may write to"),
        (lambda path: (path.rename(path.parent / "real"), path.symlink_to("real")), "it is a symbolic link"),
        (lambda path: (path.unlink(), path.mkdir()), "it is no regular file"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "it is no regular file"),
        (lambda path: path.write_text("x@isp.example\n" * MAX_BYTES), f"it has more than {MAX_BYTES} bytes"),
    ],
)
def test_an_unsafe_file_is_passed_over_with_its_reason(bob: Account, spoil: object, why: str) -> None:
    path = write(bob, "x@isp.example\n")
    spoil(path)  # type: ignore[operator]
    found = look(bob)
    assert found.texts == ()
    assert found.trouble.startswith(f"{path} was passed over: {why}")
    assert trouble_in(f"250 2.0.0 Delivered to /var/mail/bob; {found.trouble}") == found.trouble


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("what", [".forward", ""])
def test_what_belongs_to_somebody_else_is_passed_over(bob: Account, what: str) -> None:
    path = write(bob, "x@isp.example\n")
    os.chown(Path(bob.home) / what, 4711, 4711)
    found = look(bob)
    assert (found.texts, "belongs" in found.trouble) == ((), True)
    os.chown(path.parent, 0, 0)


@pytest.mark.parametrize("number", [13, 1])
def test_a_file_that_may_not_be_read_is_passed_over(
    bob: Account, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(path: str, account: Account) -> str:
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(forward, "_read_own", fail)
    assert os.strerror(number).lower() in look(bob).trouble


@pytest.mark.parametrize("number", [5, 116, 110])
def test_a_home_that_cannot_be_read_now_puts_the_mail_off(
    bob: Account, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(path: str, account: Account) -> str:
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(forward, "_read_own", fail)
    with pytest.raises(OSError, match=os.strerror(number)):
        look(bob)


def test_the_files_together_have_a_bound(bob: Account, tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"f{number}").write_text("ann\n" * 2000)
        (tmp_path / f"f{number}").chmod(0o600)
    write(bob, ", ".join(f":include:{tmp_path}/f{number}" for number in range(3)))
    assert "with what it includes it has more than" in look(bob).trouble


def test_the_reason_of_a_delivery_has_no_trouble_by_itself() -> None:
    assert trouble_in("250 2.0.0 Delivered to /var/mail/bob") == ""
