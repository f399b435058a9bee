"""The dry run without a daemon: exactly the links one supposes, what the detectors say, or what a daemon told."""

from pathlib import Path
from typing import Any

import pytest

from masqmail.daemon import views
from masqmail.daemon.plan import observed_links, plan_for, supposed_links, told_links
from masqmail.daemon.wiring import directory_of
from masqmail.routing.link import LinkState
from support.configuration import configuration

TEXT = """
[host]
name = "home.example"
postmaster = "oliver"
[local]
aliases = ["{folder}/aliases"]
[links.dsl]
detect = "file"
path = "{folder}/connection"
[routes.gmx]
links = ["dsl"]
smarthost = ["mail.gmx.example:587", "backup.gmx.example:587"]
not_recipients = ["*@lan.example", "*@fax"]
[routes.gmx.rewrite]
return_path = {{ "*" = "js@gmx.example" }}
[routes.lan]
links = ["always"]
deliver = "direct"
recipients = ["*@lan.example"]
[routes.fax]
links = ["dsl"]
deliver = "pipe"
recipients = ["*@fax"]
command = ["/usr/local/bin/sendfax", "${{recipient_local}}"]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "aliases").write_text('staff: ann@net.example, "|/bin/true", nobody-knows-this-user\n')
    return tmp_path


def _plan(folder: Path, address: str, sender: str = "", up: tuple[str, ...] = ("dsl",)) -> dict[str, Any]:
    found = configuration(TEXT.format(folder=folder))
    return plan_for(address, sender, directory_of(found), supposed_links(found, up), {})


def test_a_remote_address_takes_the_first_route_that_is_meant_for_it(folder: Path) -> None:
    found = _plan(folder, "ann@net.example", "john")
    assert (found["address"], found["sender"], found["local"]) == ("ann@net.example", "john@home.example", False)
    [step] = found["plan"]
    assert (step["action"], step["route"], step["link"]) == ("deliver-remote", "gmx", "dsl")
    assert step["next_hop"] == "mail.gmx.example:587, backup.gmx.example:587"
    assert step["rewrites"] == [{"field": "return_path", "from": "john@home.example", "to": "js@gmx.example"}]
    assert step["considered"] == [{"route": "gmx", "taken": True, "reason": "link dsl is up: as supposed"}]


def test_without_its_link_it_waits(folder: Path) -> None:
    [step] = _plan(folder, "ann@net.example", up=("internet",))["plan"]
    assert (step["action"], step["route"]) == ("wait", None)
    assert step["considered"][0]["reason"] == "link dsl is down: as supposed, since --link does not name it"


def test_a_pipe_route_says_which_program_takes_it(folder: Path) -> None:
    [step] = _plan(folder, "4989@fax")["plan"]
    assert (step["action"], step["route"], step["link"]) == ("pipe", "fax", "dsl")
    assert step["next_hop"] == "/usr/local/bin/sendfax"


def test_what_needs_no_link_goes_anyway(folder: Path) -> None:
    [step] = _plan(folder, "pc@lan.example", up=("internet",))["plan"]
    assert (step["route"], step["next_hop"]) == ("lan", "the mail servers of lan.example")
    assert [item["taken"] for item in step["considered"]] == [False, True]


def test_the_null_sender_is_never_rewritten(folder: Path) -> None:
    found = _plan(folder, "ann@net.example", "<>")
    assert found["sender"] == "<>"
    assert found["plan"][0]["rewrites"] == []


def test_without_a_sender_it_is_the_postmaster(folder: Path) -> None:
    assert _plan(folder, "ann@net.example")["sender"] == "oliver@home.example"


def test_aliases_are_followed(folder: Path) -> None:
    found = _plan(folder, "staff")
    assert found["local"] is True
    assert [step["action"] for step in found["plan"]] == ["deliver-remote", "pipe", "fail"]


@pytest.mark.parametrize(("address", "sender"), [("a@@b", ""), ("", ""), ("Ann <ann@b>", ""), ("ann@b", "x@@y")])
def test_what_is_no_address_is_said_to_be_none(folder: Path, address: str, sender: str) -> None:
    with pytest.raises(ValueError, match="is no address: "):
        _plan(folder, address, sender)


def test_a_link_that_there_is_not_is_named(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no link 'dls'; there are .*dsl"):
        _plan(folder, "ann@net.example", up=("dls",))


def test_without_a_daemon_the_detectors_are_asked(folder: Path) -> None:
    found = configuration(TEXT.format(folder=folder))
    assert observed_links(found)["dsl"].state is LinkState.DOWN
    (folder / "connection").write_text("dsl\n")
    links = observed_links(found)
    assert (links["dsl"].state, links["always"].state) == (LinkState.UP, LinkState.UP)
    assert list(links) == list(found.links)


def test_what_a_daemon_told_reads_back_as_it_was(folder: Path) -> None:
    links = supposed_links(configuration(TEXT.format(folder=folder)), ("dsl",))
    told = told_links([views.link(verdict) for verdict in links.values()])  # type: ignore[misc]
    assert [(item.link, item.state, item.reason, item.source) for item in told.values()] == [
        (item.link, item.state, item.reason, item.source) for item in links.values()
    ]
