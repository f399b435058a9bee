"""The dry run says what a real message would meet."""

import json

from masqmail.mail.address import Mailbox, parse_mailbox
from masqmail.routing.alias import AddressBook
from masqmail.routing.aliasfile import parse
from masqmail.routing.explain import Explanation, Ways, explain
from masqmail.routing.link import LinkState
from masqmail.routing.route import Rewriting, Route, Way
from support.routes import LOCAL, facts, patterns, route, verdict

ALIASES = 'staff: ann, x@isp.example, "|/bin/tee", /var/archive/, nobody'
BOOK = AddressBook(LOCAL, {"ann", "oliver"}.__contains__, [parse(ALIASES, "/etc/aliases")], postmaster="oliver")
REWRITING = Rewriting(all=(("john", "John <j@fast.example>"),))
ROUTES = [
    route("fax", ["always"], way=Way.PIPE, recipients=patterns("*@fax")),
    route("work", ["umts"], not_senders=patterns("john@*")),
    route("fast", ["dsl"], rewriting=REWRITING),
]


def next_hop(used: Route, recipient: Mailbox) -> str:
    return f"{used.name} for {recipient.domain}"


def ask(address: str, state: LinkState = LinkState.UP) -> Explanation:
    ways = Ways(ROUTES, {"dsl": verdict("dsl", state)}, {}, next_hop)
    return explain(parse_mailbox(address), facts("john@home.example", "john@home.example"), BOOK, ways)


def test_a_remote_address_shows_the_routes_and_what_is_rewritten() -> None:
    assert ask("x@isp.example").to_json() == {
        "address": "x@isp.example",
        "local": False,
        "expanded": [],
        "plan": [
            {
                "recipient": "x@isp.example",
                "action": "deliver-remote",
                "route": "fast",
                "link": "dsl",
                "next_hop": "fast for isp.example",
                "reason": "fast: link dsl is up: carrier on ppp0",
                "rewrites": [
                    {"field": "return_path", "from": "john@home.example", "to": "j@fast.example"},
                    {"field": "from", "from": "john@home.example", "to": "John <j@fast.example>"},
                ],
                "considered": [
                    {"route": "fax", "taken": False, "reason": "recipient x@isp.example is not in recipients"},
                    {
                        "route": "work",
                        "taken": False,
                        "reason": "sender john@home.example is in not_senders (john@*)",
                    },
                    {"route": "fast", "taken": True, "reason": "link dsl is up: carrier on ppp0"},
                ],
            }
        ],
    }


def test_without_a_way_it_waits_and_says_for_what() -> None:
    (step,) = ask("x@isp.example", LinkState.DOWN).plan
    assert (step.action.value, step.route, step.link, step.next_hop) == ("wait", "", "", "")
    assert "fast: link dsl is down: carrier on ppp0" in step.reason
    assert step.to_json()["route"] is None


def test_a_pipe_route_is_a_pipe() -> None:
    (step,) = ask("555@fax").plan
    assert (step.action.value, step.route, step.link) == ("pipe", "fax", "always")


def test_an_alias_shows_every_target_and_what_is_wrong() -> None:
    explanation = ask("staff@home.example")
    assert explanation.is_local
    assert explanation.expanded == ("ann", "x@isp.example", "|/bin/tee", "/var/archive/")
    assert [(step.recipient, step.action.value) for step in explanation.plan] == [
        ("ann", "deliver-local"),
        ("x@isp.example", "deliver-remote"),
        ("|/bin/tee", "pipe"),
        ("/var/archive/", "deliver-local"),
        ("nobody", "fail"),
    ]
    assert explanation.plan[0].reason == "a mailbox of this host, from alias /etc/aliases:staff"
    assert explanation.plan[4].reason == "there is no user nobody here (alias /etc/aliases:staff)"


def test_a_user_is_delivered_here() -> None:
    explanation = ask("ann+x")
    assert explanation.expanded == ()
    assert [(step.recipient, step.action.value, step.reason) for step in explanation.plan] == [
        ("ann", "deliver-local", "a mailbox of this host")
    ]


def test_an_unknown_user_fails() -> None:
    (step,) = ask("nobody@home.example").plan
    assert (step.action.value, step.reason) == ("fail", "there is no user nobody here")


def test_the_null_sender_has_nothing_to_rewrite() -> None:
    ways = Ways([ROUTES[2]], {"dsl": verdict("dsl")}, {}, next_hop)
    (step,) = explain(parse_mailbox("x@isp.example"), facts("<>"), BOOK, ways).plan
    assert (step.route, step.rewrites) == ("fast", ())


def test_the_document_is_json() -> None:
    assert json.loads(json.dumps(ask("staff").to_json()))["address"] == "staff"
