"""The values themselves: what policy sees of routes, and what makes a new generation."""

import pytest

from masqmail.config.model import Configuration
from masqmail.config.routes import Tls
from masqmail.routing.route import Conditions, Rewriting, Route, Way
from masqmail.settings import HostPort
from support.configuration import AS_USER, configuration

ROUTE = '[routes.x]\nsmarthost = "mail.example.org:587"\n'


def test_policy_sees_conditions_and_rewriting_of_a_route() -> None:
    found = configuration(
        """
        [routes.x]
        smarthost = "a.example:25"
        links = ["always", "internet"]
        senders = "*@a.example"
        not_senders = "b"
        recipients = ["c", "d"]
        not_recipients = "e"
        from_headers = "f"
        not_from_headers = "g"
        max_size = "1KB"
        last = true
        bounce_on_connect_error = true
        [routes.x.rewrite]
        return_path = { 1 = "1@z.example" }
        from = { 2 = "2@z.example" }
        sender = { 3 = "3@z.example" }
        reply_to = { 4 = "4@z.example" }
        mail_followup_to = { 5 = "5@z.example" }
        all = { 6 = "6@z.example" }
        """
    )
    maps = {number: ((number, f"{number}@z.example"),) for number in "123456"}
    assert found.policies == (
        Route(
            name="x",
            links=("always", "internet"),
            way=Way.SMARTHOST,
            conditions=Conditions(("*@a.example",), ("b",), ("c", "d"), ("e",), ("f",), ("g",), 1000),
            rewriting=Rewriting(maps["1"], maps["2"], maps["3"], maps["4"], maps["5"], maps["6"]),
            last=True,
            fails_on_connect_error=True,
        ),
    )


def test_policy_sees_the_way_of_a_route() -> None:
    assert configuration('routes.x.deliver = "direct"').policies[0].way is Way.DIRECT


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            'smarthost = ["a.example:465", "b.example:587", "c.example:25"]',
            [Tls.IMPLICIT, Tls.STARTTLS, Tls.STARTTLS],
        ),
        ('smarthost = ["a.example:465", "b.example:25"]\ntls = "none"', [Tls.NONE, Tls.NONE]),
        ('smarthost = "a.example"\ntls = "implicit"', [Tls.IMPLICIT]),
    ],
)
def test_tls_follows_from_the_port_unless_it_is_written(text: str, expected: list[Tls]) -> None:
    route = configuration(f"[routes.x]\n{text}").routes["x"]
    assert [route.tls_for(hop) for hop in route.smarthost] == expected


def test_direct_delivery_takes_tls_where_it_is_offered() -> None:
    route = configuration('routes.x.deliver = "direct"').routes["x"]
    assert route.tls_for(HostPort("mx.example.org", 25)) is Tls.OPPORTUNISTIC


CHANGES = [
    ROUTE + 'senders = "a"',
    ROUTE + 'not_recipients = "a"',
    ROUTE + "max_size = 5",
    ROUTE.replace("routes.x", "routes.y"),
    ROUTE + '[routes.y]\ndeliver = "direct"',
    '[routes.y]\ndeliver = "direct"\n' + ROUTE,
    'host.local_domains = "a.example"\n' + ROUTE,
    'host.local_addresses = "a@b.example"\n' + ROUTE,
    'host.not_local_addresses = "a@b.example"\n' + ROUTE,
    "local.match_case = true\n" + ROUTE,
    "",
]


def test_each_change_that_can_move_a_recipient_is_a_generation_of_its_own() -> None:
    generations = {configuration(text).generation for text in [ROUTE, *CHANGES]}
    assert len(generations) == len(CHANGES) + 1


@pytest.mark.parametrize(
    "text",
    [
        "# a comment\n" + ROUTE,
        ROUTE.replace("587", "465") + "pipelining = false",
        'log.level = "debug"\n' + ROUTE,
        'host.local_domains = ["LAPTOP", "laptop.example.org", "localhost"]\n' + ROUTE,
    ],
)
def test_no_other_change_is_a_new_generation(text: str) -> None:
    assert configuration(text).generation == configuration(ROUTE).generation


def test_a_generation_is_the_same_in_every_process() -> None:
    assert configuration("", AS_USER).generation == "53eab289b574"


def test_equal_files_give_equal_configurations() -> None:
    assert configuration(ROUTE) == configuration(ROUTE) != configuration(ROUTE + "last = true")


def test_the_defaults_of_the_model_make_a_configuration() -> None:
    assert set(Configuration().links) == {"internet", "always"} and Configuration().generation
