"""The hook scripts, run as their callers run them, with a `masqmail` that writes down what it was asked."""

import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

HOOKS = Path(__file__).parents[2] / "hooks"
USUAL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SCRIPTS = sorted(path for path in HOOKS.iterdir() if path.suffix != ".md")

#: Knows the links in the file `links`, while there is a file `daemon`.
MASQMAIL = """\
#!/bin/sh
{ for word; do printf '<%s>' "$word"; done; echo; } >>"$FOLDER/asked"
[ -e "$FOLDER/daemon" ] || exit 69
for name; do :; done
grep -qxF -e "$name" "$FOLDER/links" || exit 65
"""


class Machine:
    """A machine with hooks, a fake `masqmail` before everything else on the PATH, and a folder for marks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hooks = HOOKS
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.environment = {
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "FOLDER": str(folder),
            "MASQMAIL_LINK_MARKS": str(folder / "marks"),
        }
        self.install("masqmail", MASQMAIL)
        (folder / "daemon").touch()
        self.know("dsl")

    def know(self, *links: str) -> None:
        """The links of the configuration."""
        (self.folder / "links").write_text("".join(f"{link}\n" for link in links))

    def install(self, name: str, script: str) -> None:
        program = self.bin / name
        program.write_text(script)
        program.chmod(0o755)

    @property
    def asked(self) -> list[str]:
        """What `masqmail` was asked, each call as `<word><word>`."""
        record = self.folder / "asked"
        return record.read_text(errors="surrogateescape").splitlines() if record.exists() else []

    def run(self, hook: str, *words: str, **environment: str) -> list[str]:
        """Runs a hook and waits for all it started; returns all that was asked so far."""
        with self.running([str(self.hooks / hook), *words], environment):
            pass
        return self.asked

    @contextmanager
    def running(self, command: Sequence[str], environment: Mapping[str, str]) -> Iterator[None]:
        """Runs a command to its end, which has to be a good one; at the end of the block so is all it started."""
        reading, writing = os.pipe()
        try:
            done = subprocess.run(
                command,
                env={**self.environment, **environment},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                pass_fds=[writing],
                timeout=20,
                check=False,
            )
            os.close(writing)
            assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
            yield
            assert select.select([reading], [], [], 20)[0] and os.read(reading, 1) == b"", "something still runs"
        finally:
            os.close(reading)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


PPP = {
    "PPP_IFACE": "ppp0",
    "PPP_TTY": "/dev/ttyS1",
    "PPP_SPEED": "38400",
    "PPP_LOCAL": "192.0.2.1",
    "PPP_REMOTE": "192.0.2.2",
    "PPP_TTYNAME": "ttyS1",
}
IFUPDOWN = {"IFACE": "eth0", "LOGICAL": "eth0", "ADDRFAM": "inet", "METHOD": "static", "VERBOSITY": "0"}
START = {**IFUPDOWN, "MODE": "start", "PHASE": "post-up"}
STOP = {**IFUPDOWN, "MODE": "stop", "PHASE": "pre-down"}
CONNECTION = {
    "CONNECTION_ID": "Wired connection 1",
    "CONNECTION_UUID": "a1b2c3d4-0000-4000-8000-a1b2c3d4e5f6",
    "DEVICE_IFACE": "eth0",
    "DEVICE_IP_IFACE": "eth0",
}
NETWORKD = {"IFACE": "eth0", "ADDR": "192.0.2.1", "ESSID": "", "AdministrativeState": "configured"}

#: The link that is known, hook, arguments, environment, and what is declared in the end.
CALLS: list[tuple[str, str, list[str], dict[str, str], str]] = [
    ("dsl", "ppp-ip-up", [], {**PPP, "PPP_IPPARAM": "dsl"}, "<link><up><--><dsl>"),
    ("dsl", "ppp-ip-down", [], {**PPP, "PPP_IPPARAM": "dsl"}, "<link><down><--><dsl>"),
    ("ppp0", "ppp-ip-up", [], {**PPP, "PPP_IPPARAM": ""}, "<link><up><--><ppp0>"),
    ("ppp0", "ppp-ip-down", [], {**PPP, "PPP_IPPARAM": "dsl"}, "<link><down><--><ppp0>"),
    ("dsl", "ppp-ip-up", ["ppp0", "tty", "9600", "192.0.2.1", "192.0.2.2", "dsl"], {}, "<link><up><--><dsl>"),
    ("ppp0", "ppp-ip-up", ["ppp0", "tty", "9600", "192.0.2.1", "192.0.2.2"], {}, "<link><up><--><ppp0>"),
    ("dsl", "ifupdown", [], {**START, "IF_MASQMAIL_LINK": "dsl"}, "<link><up><--><dsl>"),
    ("dsl", "ifupdown", [], {**STOP, "IF_MASQMAIL_LINK": "dsl"}, "<link><down><--><dsl>"),
    ("dsl", "ifupdown", [], {**STOP, "IF_MASQMAIL_LINK": "dsl", "PHASE": "post-down"}, "<link><down><--><dsl>"),
    ("dsl", "ifupdown", [], {**START, "IF_MROUTE": "dsl"}, "<link><up><--><dsl>"),
    ("dsl", "ifupdown", [], {**START, "IF_NAME": "dsl"}, "<link><up><--><dsl>"),
    ("home", "ifupdown", [], {**START, "LOGICAL": "home"}, "<link><up><--><home>"),
    ("eth0", "ifupdown", [], START, "<link><up><--><eth0>"),
    ("eth0", "ifupdown", [], {**START, "METHOD": "NetworkManager", "PHASE": "post-up"}, "<link><up><--><eth0>"),
    ("Wired-connection-1", "NetworkManager", ["eth0", "up"], CONNECTION, "<link><up><--><Wired-connection-1>"),
    ("eth0", "NetworkManager", ["eth0", "down"], CONNECTION, "<link><down><--><eth0>"),
    (
        CONNECTION["CONNECTION_UUID"],
        "NetworkManager",
        ["eth0", "pre-down"],
        CONNECTION,
        f"<link><down><--><{CONNECTION['CONNECTION_UUID']}>",
    ),
    ("tun0", "NetworkManager", ["tun0", "vpn-up"], CONNECTION, "<link><up><--><tun0>"),
    ("tun0", "NetworkManager", ["tun0", "vpn-down"], CONNECTION, "<link><down><--><tun0>"),
    ("eth0", "networkd-dispatcher", [], {**NETWORKD, "STATE": "routable"}, "<link><up><--><eth0>"),
    ("eth0", "networkd-dispatcher", [], {**NETWORKD, "STATE": "degraded"}, "<link><down><--><eth0>"),
    ("eth0", "networkd-dispatcher", [], {**NETWORKD, "STATE": "no-carrier"}, "<link><down><--><eth0>"),
    ("eth0", "networkd-dispatcher", [], {**NETWORKD, "STATE": "off"}, "<link><down><--><eth0>"),
]


@pytest.mark.parametrize(("link", "hook", "words", "environment", "expected"), CALLS)
def test_a_hook_declares_the_link_that_is_configured(
    machine: Machine, link: str, hook: str, words: list[str], environment: dict[str, str], expected: str
) -> None:
    machine.know("always", link)
    asked = machine.run(hook, *words, **environment)
    assert asked[-1] == expected
    assert len(set(asked)) == len(asked)


def test_the_first_name_that_is_a_link_counts_alone(machine: Machine) -> None:
    machine.know("eth0", "dsl")
    assert machine.run("ifupdown", **START, IF_MROUTE="dsl") == ["<link><up><--><dsl>"]


NO_MATTER: list[tuple[str, list[str], dict[str, str]]] = [
    ("ifupdown", [], {**START, "IFACE": "--all", "LOGICAL": "auto", "ADDRFAM": "meta", "METHOD": "none"}),
    ("ifupdown", [], {**START, "IFACE": "lo", "LOGICAL": "lo", "METHOD": "loopback"}),
    ("NetworkManager", ["", "connectivity-change"], {"CONNECTIVITY_STATE": "FULL"}),
    ("NetworkManager", ["none", "hostname"], {}),
    ("NetworkManager", ["eth0", "dhcp4-change"], CONNECTION),
    ("networkd-dispatcher", [], {**NETWORKD, "STATE": "configured"}),
    *((hook, [], {}) for hook in ("ppp-ip-up", "ppp-ip-down", "ifupdown", "NetworkManager", "networkd-dispatcher")),
]


@pytest.mark.parametrize(("hook", "words", "environment"), NO_MATTER)
def test_what_is_no_change_of_a_line_is_passed_over(
    machine: Machine, hook: str, words: list[str], environment: dict[str, str]
) -> None:
    assert machine.run(hook, *words, **environment) == []


DHCPCD = [
    *((reason, "up") for reason in ("BOUND", "BOUND6", "REBOOT", "STATIC", "TIMEOUT")),
    *((reason, "down") for reason in ("NOCARRIER", "EXPIRE", "STOP", "STOPPED", "DEPARTED", "RELEASE")),
    *((reason, "") for reason in ("PREINIT", "CARRIER", "RENEW", "REBIND", "ROUTERADVERT", "TEST", "STOP6", "")),
]


@pytest.mark.parametrize(("reason", "direction"), DHCPCD)
def test_dhcpcd_reads_its_hook_and_goes_on(machine: Machine, reason: str, direction: str) -> None:
    """In its own shell, so that an exit or a changed variable would harm it."""
    machine.know("eth0")
    script = (
        'for hook in "$HOOKS/dhcpcd"; do . "$hook"; done; '
        '[ "$reason,$interface,$direction,$here,$helper" = "$REASON,eth0,,," ] || exit 3'
    )
    variables = {"HOOKS": str(HOOKS), "REASON": reason, "reason": reason, "interface": "eth0"}
    with machine.running(["/bin/sh", "-c", script], variables):
        pass
    assert machine.asked == ([f"<link><{direction}><--><eth0>"] if direction else [])


@pytest.mark.parametrize("name", ["x; touch pwned", "$(touch pwned)", "-x", "--help", "a/../b", "*", "ü", "\x1b[2J"])
def test_an_odd_name_is_one_word_and_no_more(machine: Machine, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(machine.folder)
    written = name.replace(" ", "-")
    assert machine.run("ppp-ip-up", PPP_IPPARAM=name, PPP_IFACE=name)[0] == f"<link><up><--><{written}>"
    assert machine.run("NetworkManager", name, "up", CONNECTION_ID=name)[-1] == f"<link><up><--><{written}>"
    machine.run("ifupdown", **{**START, "IFACE": name, "LOGICAL": name})
    machine.run("networkd-dispatcher", **{**NETWORKD, "IFACE": name, "STATE": "routable"})
    assert {path.name for path in machine.folder.iterdir()} == {"bin", "daemon", "links", "marks", "asked"}


@pytest.mark.skipif(shutil.which("masqmail", path=USUAL_PATH) is not None, reason="this machine's own would be asked")
@pytest.mark.parametrize("hook", ["ppp-ip-up", "ppp-ip-down", "ifupdown", "NetworkManager", "networkd-dispatcher"])
def test_without_masqmail_nothing_happens(machine: Machine, hook: str) -> None:
    shutil.rmtree(machine.bin)
    environment = {**PPP, "PPP_IPPARAM": "dsl", **START, "STATE": "routable"}
    assert machine.run(hook, "eth0", "up", **environment) == []


def test_a_hook_without_the_helper_does_nothing(machine: Machine) -> None:
    for hook in SCRIPTS:
        if hook.name != "masqmail-link":
            shutil.copy(hook, machine.folder / hook.name)
    machine.hooks = machine.folder
    assert machine.run("ppp-ip-up", **PPP) == machine.run("ifupdown", **START) == []


def test_a_hook_may_be_a_link_elsewhere(machine: Machine) -> None:
    folder = machine.folder / "etc" / "ppp" / "ip-up.d"
    folder.mkdir(parents=True)
    (folder / "masqmail").symlink_to(HOOKS / "ppp-ip-up")
    machine.hooks = folder
    assert machine.run("masqmail", **PPP, PPP_IPPARAM="dsl") == ["<link><up><--><dsl>"]


def test_the_program_that_was_installed_with_the_hooks_goes_first(machine: Machine) -> None:
    prefix = machine.folder / "prefix"
    shutil.copytree(HOOKS, prefix / "share" / "masqmail" / "hooks")
    (prefix / "bin").mkdir()
    machine.hooks = prefix / "share" / "masqmail" / "hooks"
    assert machine.run("ppp-ip-up", PPP_IPPARAM="dsl") == ["<link><up><--><dsl>"]
    shutil.move(machine.bin / "masqmail", prefix / "bin" / "masqmail")
    machine.install("masqmail", "#!/bin/sh\nexit 1\n")
    assert len(machine.run("ppp-ip-down", PPP_IPPARAM="dsl")) == 2


def test_the_caller_does_not_wait_for_an_answer(machine: Machine) -> None:
    os.mkfifo(machine.folder / "gate")
    machine.install("masqmail", '#!/bin/sh\nread -r _ <"$FOLDER/gate"\n')
    with machine.running([str(HOOKS / "ppp-ip-up")], {"PPP_IPPARAM": "dsl"}):
        (machine.folder / "gate").write_text("go\n")


def test_an_answer_has_a_deadline(machine: Machine) -> None:
    machine.install("timeout", '#!/bin/sh\necho "$1" >>"$FOLDER/deadlines"\nshift\nexec "$@"\n')
    machine.run("ppp-ip-up", PPP_IPPARAM="dsl")
    assert (machine.folder / "deadlines").read_text() == "10\n"


@pytest.mark.parametrize("status", [0, 1, 64, 65, 77, 78, 127])
def test_what_another_try_would_not_change_is_not_tried_again(machine: Machine, status: int) -> None:
    machine.install("sleep", '#!/bin/sh\ntouch "$FOLDER/slept"\n')
    machine.install("masqmail", f"#!/bin/sh\nexit {status}\n")
    machine.run("ppp-ip-up", PPP_IPPARAM="dsl")
    assert not (machine.folder / "slept").exists()


def test_before_the_daemon_runs_it_is_tried_again(machine: Machine) -> None:
    (machine.folder / "daemon").unlink()
    machine.install("sleep", '#!/bin/sh\n[ "$1" = 8 ] && touch "$FOLDER/daemon"\n:\n')
    assert machine.run("ppp-ip-up", PPP_IPPARAM="dsl") == ["<link><up><--><dsl>"] * 4


def test_without_a_daemon_it_gives_up_after_four_minutes(machine: Machine) -> None:
    (machine.folder / "daemon").unlink()
    machine.install("sleep", '#!/bin/sh\necho "$1" >>"$FOLDER/pauses"\n')
    machine.run("ppp-ip-up", PPP_IPPARAM="dsl")
    assert sum(map(int, (machine.folder / "pauses").read_text().split())) == 240


def test_only_root_tries_again(machine: Machine) -> None:
    (machine.folder / "daemon").unlink()
    (machine.folder / "marks").write_text("no folder\n")
    assert machine.run("ppp-ip-up", PPP_IPPARAM="dsl") == ["<link><up><--><dsl>"]


def test_a_line_that_has_gone_meanwhile_is_not_declared_up(machine: Machine) -> None:
    """The hook for the way down comes while that for the way up waits for a daemon."""
    (machine.folder / "daemon").unlink()
    down = f'FOLDER="$FOLDER" "{HOOKS}/ppp-ip-down"'
    machine.install("sleep", f'#!/bin/sh\n[ "$1" = 2 ] && touch "$FOLDER/daemon" && {down}\n:\n')
    assert machine.run("ppp-ip-up", PPP_IPPARAM="dsl") == ["<link><up><--><dsl>", "<link><down><--><dsl>"]


def test_the_last_word_stays_though_the_one_before_takes_its_time(machine: Machine) -> None:
    os.mkfifo(machine.folder / "gate")
    slow = MASQMAIL.replace("[ -e", '[ "$2" = up ] && read -r _ <"$FOLDER/gate"\necho "$2" >>"$FOLDER/done"\n[ -e')
    machine.install("masqmail", slow)
    with machine.running([str(HOOKS / "ppp-ip-up")], {"PPP_IPPARAM": "dsl"}):
        wait_until_asked(machine)
        with machine.running([str(HOOKS / "ppp-ip-down")], {"PPP_IPPARAM": "dsl"}):
            (machine.folder / "gate").write_text("go\n")
    assert (machine.folder / "done").read_text() == "up\ndown\n"


def wait_until_asked(machine: Machine) -> None:
    deadline = time.monotonic() + 20
    while not machine.asked:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_the_helper_says_how_it_is_called(machine: Machine) -> None:
    command = ["/bin/sh", str(HOOKS / "masqmail-link"), "sideways", "dsl"]
    done = subprocess.run(command, env=machine.environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (64, "usage: masqmail-link up|down NAME...\n")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_script_is_for_any_shell(script: Path) -> None:
    assert os.access(script, os.X_OK)
    subprocess.run(["/bin/sh", "-n", script], check=True)
    if shutil.which("shellcheck"):
        done = subprocess.run(["shellcheck", script], capture_output=True, text=True, check=False)
        assert done.stdout == ""


def test_the_page_and_the_readme_name_every_hook() -> None:
    for page in (HOOKS / "README.md", HOOKS.parent / "docs" / "howto" / "bring-a-link-up.md"):
        text = page.read_text()
        missing = [script.name for script in SCRIPTS if f"hooks/{script.name}" not in text]
        assert [name for name in missing if name != "masqmail-link"] == []
