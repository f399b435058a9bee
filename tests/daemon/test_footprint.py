"""What is in memory while nothing happens: an idle program loads no module that only some hosts or some mail need."""

import subprocess
import sys

from masqmail.daemon.serve import DIRECT_MODULES, LATE_MODULES
from masqmail.mail.wording import Language


def loaded_by(*modules: str) -> set[str]:
    """All modules, and the packages they are in, that a new interpreter has loaded after importing these."""
    script = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_parent_loads_only_what_it_does_all_day() -> None:
    loaded = loaded_by("masqmail.cli.serve")
    assert {name for name in loaded if name.startswith("masqmail.")} == {
        "masqmail.cli",
        "masqmail.cli.serve",
        "masqmail.daemon",
        "masqmail.daemon.parent",
        "masqmail.daemon.parent.loop",
        "masqmail.daemon.parent.opening",
        "masqmail.daemon.parent.pool",
        "masqmail.daemon.parent.settings",
        "masqmail.daemon.parent.start",
        "masqmail.daemon.parent.wire",
        "masqmail.daemon.serve",
        "masqmail.net",
        "masqmail.net.bind",
    }
    assert not loaded & {
        "typing",
        "re",
        "dataclasses",
        "inspect",
        "logging",
        "json",
        "argparse",
        "pathlib",
        "asyncio",
        "ctypes",
    }


def test_the_daemon_loads_nothing_for_what_most_hosts_never_do() -> None:
    loaded = loaded_by("masqmail.cli.serve", "masqmail.cli.configuration", "masqmail.config.check")
    loaded |= loaded_by("masqmail.config.load", "masqmail.daemon.running")
    assert "masqmail.daemon.scheduler" in loaded
    direct_delivery = {"dns", "cryptography", "idna"}
    reports = {"email.header", "email.message", "masqmail.mail.words_en"}
    commands = {"argparse", "gettext", "http.client", "masqmail.cli.run", "masqmail.cli.client"}
    archives = {"zipfile", "importlib.resources", "tempfile", "shutil"}
    fetching = {"masqmail.daemon.fetch.fetcher", "masqmail.daemon.fetch.accounts", "masqmail.retrieval.pop3session"}
    requests = {"h11", "masqmail.daemon.httpserver"}
    others = {"encodings.idna", "multiprocessing", "logging.config", "importlib.metadata", "difflib"}
    assert not loaded & (direct_delivery | reports | commands | archives | fetching | requests | others)


def test_what_the_daemon_loads_late_is_loaded_before_it_drops_roots_rights() -> None:
    loaded = loaded_by(*LATE_MODULES)
    assert {f"masqmail.mail.words_{language.value}" for language in Language} | {"idna"} <= loaded
    assert "concurrent.futures.thread" in loaded, "names of servers are looked up in a thread"


#: Each of these imports something when it is first done; a codec counts, and so does the type of a record.
DONE_LATE = """
import sys
import dns.rdata
from masqmail.mail.shown import subject_of
from masqmail.net.dns import to_ascii
from masqmail.routing.multidrop import _domain_key
sys.meta_path.clear()  # no module can be found any more
assert to_ascii("b\u00fccher.example") == "xn--bcher-kva.example"
assert _domain_key("xn--bcher-kva.example") == "b\u00fccher.example"
assert subject_of(b"Subject: =?utf-8?q?gr=C3=BCn?=") == "gr\u00fcn"
assert dns.rdata.from_text("IN", "A", "192.0.2.1").address == "192.0.2.1"
assert dns.rdata.from_text("IN", "AAAA", "2001:db8::1").address == "2001:db8::1"
assert dns.rdata.from_text("IN", "CNAME", "mx.example.").target.labels[0] == b"mx"
assert dns.rdata.from_text("IN", "MX", "10 mx.example.").preference == 10
"""


def test_what_a_daemon_does_late_works_without_its_files() -> None:
    script = f"import {', '.join((*LATE_MODULES, *DIRECT_MODULES))}\n{DONE_LATE}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_files_that_are_out_of_reach_later_are_read_before_it_drops_roots_rights() -> None:
    script = """if True:
        import sys
        from masqmail.config.model import Configuration
        from masqmail.daemon import serve
        from masqmail.spool import statements
        serve._is_out_of_reach = lambda: True
        start = serve._Start(Configuration)
        start.load_settings()
        start.load_daemon()
        sys.meta_path.clear()
        import anyio
        assert anyio.open_signal_receiver and anyio.open_process
        statements._HERE = None
        assert statements.schema_changes()
    """
    subprocess.run([sys.executable, "-c", script], check=True)
