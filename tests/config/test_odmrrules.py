"""Mail that waits for its user, and accounts that are asked for it by SMTP: what is read, and what is refused."""

import pytest

from masqmail.config.fetch import FetchProtocol
from masqmail.config.routes import Tls
from masqmail.routing.route import Way, line_of
from masqmail.settings import HostPort
from support.configuration import configuration, faults

ROUTE = '[routes.x]\ndeliver = "odmr"\nfor = "bob"\nrecipients = ["*@customer.test"]\n'
OTHER = '[routes.y]\nsmarthost = "mail.example.org"\n'
ODMR = """\
[fetch.x]
protocol = "odmr"
server = "pop.example.org"
username = "ann"
password_file = "secret"
multidrop_domains = "home.example"
"""
ETRN = '[fetch.x]\nprotocol = "etrn"\nserver = "mail.example.org"\nmultidrop_domains = "home.example"\n'


def test_a_route_that_keeps_mail_has_its_user_for_a_link() -> None:
    found = configuration(ROUTE)
    assert (found.routes["x"].way, found.routes["x"].for_) == (Way.ODMR, "bob")
    [policy] = found.policies
    assert (policy.user, policy.links, policy.last) == ("bob", (line_of("bob"),), True)


def test_an_account_for_etrn_needs_no_login() -> None:
    found = configuration(ETRN).fetch["x"]
    assert (found.protocol, found.username) == (FetchProtocol.ETRN, None)
    assert (found.server, found.effective_tls) == (HostPort("mail.example.org", 25), Tls.STARTTLS)


BROKEN: list[tuple[str, str]] = [
    (
        ROUTE.replace('for = "bob"\n', ""),
        '2: routes.x.deliver = "odmr", and nobody is named who fetches the mail; '
        'write for = "NAME" with one of the users of [smtp]',
    ),
    (
        ROUTE + ROUTE.replace("routes.x", "routes.y"),
        '7: routes.y is for "bob", and so is routes.x; write the recipients of both into one route',
    ),
    (
        OTHER + 'for = "bob"',
        '3: routes.y.for is about who fetches the mail; take it out, or write deliver = "odmr"',
    ),
    (
        ROUTE.replace('recipients = ["*@customer.test"]\n', ""),
        '1: routes.x.recipients is empty, so that all mail would wait; write it like ["*@customer.example"]',
    ),
    *(
        (
            ROUTE.replace("*@customer.test", pattern),
            f'4: routes.x.recipients has "{pattern}", which is not about the whole of a domain; '
            'write it like "*@customer.example"',
        )
        for pattern in ("*", "*@*", "*@*.*", "root", "ann@customer.test")
    ),
    (
        ROUTE + 'links = "always"',
        "5: routes.x.links has no use: the mail waits until it is fetched; take it out",
    ),
    (
        ROUTE + "bounce_on_connect_error = true",
        "5: routes.x.bounce_on_connect_error has no use: the connection is the one over which the user has logged "
        "in; take it out",
    ),
    (
        ROUTE + 'smarthost = "mail.example.org"',
        '2: routes.x has a smarthost and deliver = "odmr"; take one of them out',
    ),
    (
        ROUTE + 'username = "me"\npassword_file = "secret"',
        "5: routes.x delivers to who logs in here, where there is nothing to log in to; "
        "take the username out, or write a smarthost",
    ),
    (ODMR + "keep = true", "7: fetch.x.keep has no use with odmr; take it out"),
    (ODMR + "max_messages = 5", "7: fetch.x.max_messages has no use with odmr; take it out"),
    (ETRN + 'deliver_to = "ann"', "5: fetch.x.deliver_to has no use with etrn; take it out"),
    (ETRN + 'max_size = "1MB"', "5: fetch.x.max_size has no use with etrn; take it out"),
    (ETRN + 'tls = "implicit"', '5: fetch.x is etrn, which does not begin with TLS; write tls = "starttls"'),
    (
        ETRN + 'envelope_header = "Delivered-To"',
        "5: fetch.x.envelope_header has no use with etrn, which has the envelope itself; take it out",
    ),
    (
        ETRN.replace('multidrop_domains = "home.example"\n', ""),
        '1: fetch.x is etrn and does not say for which domains; write them: multidrop_domains = ["home.example"]',
    ),
    (
        ETRN + 'username = "ann"',
        "5: fetch.x has a username and no password; "
        "write password_file, password_command or password_credential as well",
    ),
    (
        ODMR.replace('"home.example"', str([f"d{number}.long-name.example" for number in range(30)])),
        "6: fetch.x.multidrop_domains is too long for one command, which has 512 bytes; "
        "write a second account with some of them",
    ),
]


@pytest.mark.parametrize(("text", "fault"), BROKEN)
def test_what_does_not_fit_together_is_a_fault(text: str, fault: str) -> None:
    assert faults(text) == [fault]
