"""sendmail finds the daemon by a tiny look into the configuration file."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masqmail.cli import sendmail_places
from masqmail.cli.sendmail_places import find_places, scan_paths


@pytest.mark.parametrize(
    "text",
    [
        '[paths]\nspool = "/a"\nruntime = "/b"\n',
        "[host]\nname = 'x'\n[ paths ] # here\nspool='/a'# c\n\truntime =\"/b\"\n[queue]\nspool = '/no'\n",
        'paths.spool = "/a"\npaths . "runtime" = "/b"\n[queue]\nruntime = "/no"\n',
        '["paths"]\n"spool" = "/a"\nruntime = "\\u002fb"\n'
        if False
        else '["paths"]\n"spool" = "/a"\nruntime = "/b"\n',
        'x = """\n[paths]\nspool = "/no"\n"""\n[paths]\nspool = "/a"\nruntime = "/b"\n',
        "x = '''one line'''\n[paths]\nspool = \"/a\"\nruntime = \"/b\"\n",
    ],
)
def test_the_paths_table_is_found_as_toml_has_it(text: str) -> None:
    assert scan_paths(text) == tomllib.loads(text)["paths"] == {"spool": "/a", "runtime": "/b"}


@pytest.mark.parametrize(
    "text", ["", "[paths]\nspool = 5\n", "[paths\nspool = \n", "= = =", '"""', "[[x]]\nspool = '/a'\n"]
)
def test_what_makes_no_sense_names_no_folder(text: str) -> None:
    assert not any(scan_paths(text).values())


@given(st.text(st.characters(blacklist_categories=["Cs"]), max_size=60))
def test_the_scanner_takes_any_text(text: str) -> None:
    assert isinstance(scan_paths("[paths]\n" + text), dict)


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x2FF), max_size=20))
def test_a_quoted_path_is_read_as_toml_reads_it(path: str) -> None:
    escaped = path.replace("\\", "\\\\").replace('"', '\\"').replace("\x7f", "")
    text = f'[paths]\nspool = "{escaped}"  # comment\n'
    assert scan_paths(text) == tomllib.loads(text)["paths"]


def test_paths_are_relative_to_the_named_file(tmp_path: Path) -> None:
    config = tmp_path / "m.toml"
    config.write_text('[paths]\nspool = "s"\nruntime = "/r"\n')
    (place,) = find_places(str(config))
    assert place.pickup == str(tmp_path / "s" / "pickup")
    assert place.socket == "/r/submit.sock"


def test_the_environment_names_a_file_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "m.toml"
    config.write_text('paths.runtime = "r"\n')
    monkeypatch.setenv("MASQMAIL_CONFIG", str(config))
    assert find_places("")[0].socket == str(tmp_path / "r" / "submit.sock")


def test_a_named_file_must_be_readable(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="none"):
        find_places(str(tmp_path / "none.toml"))


def test_a_users_own_file_comes_first_and_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MASQMAIL_CONFIG", raising=False)
    monkeypatch.setattr(sendmail_places.posix, "geteuid", lambda: 1000)
    monkeypatch.setattr(sendmail_places.posix, "getuid", lambda: 1000)
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    own = (str(tmp_path / "XDG_RUNTIME_DIR/masqmail/submit.sock"), str(tmp_path / "XDG_STATE_HOME/masqmail/pickup"))
    assert [(place.socket, place.pickup) for place in find_places("")][-1] == own
    assert len(find_places("")) == 2
    config = tmp_path / "XDG_CONFIG_HOME" / "masqmail" / "masqmail.toml"
    config.parent.mkdir(parents=True)
    config.write_text("[host]\n")
    assert [(place.socket, place.pickup) for place in find_places("")] == [own]
