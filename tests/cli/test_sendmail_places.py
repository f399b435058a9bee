"""sendmail finds the daemon by a tiny look into the configuration file."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masqmail.cli import sendmail_places
from masqmail.cli.sendmail_places import find_places, scan_paths
from masqmail.config.surroundings import Surroundings


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


@pytest.mark.parametrize("variable", ["HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"])
@pytest.mark.parametrize("value", ["", "some/folder", "~/folder", None])
def test_a_folder_of_the_environment_counts_when_it_does_for_the_daemon(
    variable: str, value: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MASQMAIL_CONFIG", raising=False)
    monkeypatch.setattr(sendmail_places.posix, "geteuid", lambda: 1000)
    monkeypatch.setattr(sendmail_places.posix, "getuid", lambda: 1000)
    environment = {name: str(tmp_path / name) for name in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME")}
    environment["XDG_RUNTIME_DIR"] = str(tmp_path)
    environment.pop(variable)
    if value is not None:
        environment[variable] = value
    monkeypatch.setattr(sendmail_places.posix, "environ", {k.encode(): v.encode() for k, v in environment.items()})
    with monkeypatch.context() as patch:
        patch.setattr("os.geteuid", lambda: 1000)
        surroundings = Surroundings.of_this_process(environment)
    place = find_places("")[-1]
    assert place.socket == f"{surroundings.default_runtime}/submit.sock"
    assert place.pickup == f"{surroundings.default_spool}/pickup"


@pytest.mark.parametrize("home", ["/home/ann", "relative"])
def test_a_tilde_is_the_home_that_the_daemon_has(home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "m.toml"
    config.write_text('[paths]\nspool = "~/s"\nruntime = "~other/r"\n')
    monkeypatch.setattr(sendmail_places.posix, "environ", {b"HOME": home.encode()})
    (place,) = find_places(str(config))
    assert place.pickup == str(Surroundings.of_this_process({"HOME": home}).home / "s/pickup")
    assert place.socket == str(tmp_path / "~other/r/submit.sock")


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
