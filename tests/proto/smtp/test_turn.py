"""ATRN and ETRN between the machines: the roles turn, and no byte is lost or run on the wrong side."""

import doctest

import pytest

from masqmail.mail.outcome import Culprit
from masqmail.mail.status import NOT_IMPLEMENTED, OK, Status
from masqmail.proto.errors import UsageError
from masqmail.proto.sasl import Credentials, Secret
from masqmail.proto.smtp import turn
from masqmail.proto.smtp.client import Client
from masqmail.proto.smtp.clientsession import Answered, ClientOptions, Ended, Event, Phase, Ready, StartTls
from masqmail.proto.smtp.command import Atrn, Etrn
from masqmail.proto.smtp.replies import AUTHENTICATED
from masqmail.proto.smtp.server import Server
from masqmail.proto.smtp.session import Authenticate, Offers, State, Wait
from masqmail.proto.smtp.turn import NO_MAIL, TURN_REFUSED, TURNING, atrn_command, etrn_command
from support.conversation import letters

LOGIN = Credentials("example.org", Secret("sesame"))
OPTIONS = ClientOptions(
    "example.org", starttls=StartTls.NEVER, credentials=LOGIN, mechanisms=("CRAM-MD5", "PLAIN"), clear_password=True
)
PROVIDER = Offers("EXAMPLE.NET", 1_000_000, auth=True, atrn=True, etrn=True)

#: What the provider says in the example of RFC 2645 §6, up to the turn.
EXAMPLE = (
    b"220 EXAMPLE.NET on-demand mail relay server ready\r\n",
    b"250-EXAMPLE.NET\r\n250-AUTH CRAM-MD5 EXTERNAL\r\n250 ATRN\r\n",
    b"334 MTg5Ni42OTcxNzA5NTJASVNQLkNPTQo=\r\n",
    b"235 now authenticated as example.org\r\n",
)


def events_of(client: Client) -> list[Event]:
    found = []
    while (event := client.next_event()) is not None:
        found.append(event)
    return found


def ready(options: ClientOptions = OPTIONS) -> Client:
    """A client that has logged in at the provider of the example."""
    client = Client(options)
    for line in EXAMPLE:
        client.receive(line)
        client.next_event()
        client.data_to_send()
    assert client.phase is Phase.READY
    return client


def logged_in(offers: Offers = PROVIDER) -> Server:
    server = Server(offers)
    server.receive(b"EHLO example.org\r\nAUTH PLAIN AGV4YW1wbGUub3JnAHNlc2FtZQ==\r\n")
    assert isinstance(server.next_event(), Authenticate)
    server.answer(AUTHENTICATED)
    server.take_output()
    return server


# the client's side


def test_the_example_of_the_standard() -> None:
    client, said, seen = Client(OPTIONS), [], []
    for line in EXAMPLE:
        client.receive(line)
        seen += events_of(client)
        said.append(client.data_to_send())
    assert said[:2] == [b"EHLO example.org\r\n", b"AUTH CRAM-MD5\r\n"] and seen == [Ready()]
    client.turn(("example.org", "example.com"))
    assert client.data_to_send() == b"ATRN example.org,example.com\r\n"
    client.receive(b"250 OK now reversing the connection\r\n")
    assert events_of(client) == [Answered(Status(250, "", "OK now reversing the connection"))]
    assert client.phase is Phase.CLOSED and client.rest == b"" and client.data_to_send() == b""

    server = Server(Offers("example.org", 1_000_000))
    assert server.take_output().startswith(b"220 example.org ")
    server.receive(client.rest + b"EHLO EXAMPLE.NET\r\n")
    assert server.next_event() is None
    assert server.take_output().startswith(b"250-example.org ")


def test_bytes_behind_the_answer_are_for_the_other_machine_and_are_not_read_as_replies() -> None:
    client = ready()
    client.turn(("example.org",))
    client.data_to_send()
    client.receive(b"250 turning\r\nEHLO EXAMPLE.NET\r\nMAIL FROM:<a")
    assert [type(event) for event in events_of(client)] == [Answered]
    assert client.rest == b"EHLO EXAMPLE.NET\r\nMAIL FROM:<a"


@pytest.mark.parametrize(
    "reply", [b"453 You have no mail\r\n", b"450 refused\r\n", b"451 later\r\n", b"502 what?\r\n", b"554 no\r\n"]
)
def test_a_refused_turn_leaves_the_session_as_it_was(reply: bytes) -> None:
    client = ready()
    client.turn(())
    assert client.data_to_send() == b"ATRN\r\n" and client.awaited is Phase.ATRN
    client.receive(reply)
    [event] = events_of(client)
    assert isinstance(event, Answered) and not event.status.is_success
    assert client.phase is Phase.READY
    client.quit()
    assert client.data_to_send() == b"QUIT\r\n"


def test_a_421_in_place_of_the_answer_ends_the_session() -> None:
    client = ready()
    client.turn(())
    client.receive(b"421 too busy\r\n")
    [event] = events_of(client)
    assert isinstance(event, Ended) and event.culprit is Culprit.SESSION


def test_each_domain_is_asked_for_with_etrn_in_one_session() -> None:
    client, answers = ready(), []
    for domain in ("example.org", "example.com"):
        client.request(domain)
        assert client.data_to_send() == b"ETRN %s\r\n" % domain.encode() and client.awaited is Phase.ETRN
        client.receive(b"253 2.0.0 OK, 14 pending messages started\r\n")
        answers += events_of(client)
    assert [type(answer) for answer in answers] == [Answered, Answered]
    assert client.phase is Phase.READY


def test_nothing_is_asked_for_while_messages_are_under_way() -> None:
    client = ready()
    [(mail, _)] = letters(1)
    client.start(mail)
    with pytest.raises(UsageError):
        client.turn(())
    with pytest.raises(UsageError):
        client.request("example.org")


def test_domains_that_no_command_line_holds_are_an_error() -> None:
    many = tuple(f"sub{number}.example.org" for number in range(40))
    with pytest.raises(ValueError, match="too many"):
        atrn_command(many)
    assert len(atrn_command(many[:20])) <= turn.MAX_COMMAND_BYTES
    with pytest.raises(ValueError):
        etrn_command("exämple.org")


# the server's side


def test_the_roles_turn_only_with_an_accepting_answer() -> None:
    server = logged_in()
    server.receive(b"ATRN example.org,example.com\r\n")
    assert server.next_event() == Atrn(("example.org", "example.com"))
    server.answer(NO_MAIL)
    assert server.state is State.READY and server.wait is Wait.COMMAND
    server.receive(b"ATRN\r\n")
    assert server.next_event() == Atrn(())
    server.answer(TURNING)
    assert server.take_output() == b"453 4.2.0 You have no mail\r\n250 2.0.0 OK now reversing the connection\r\n"
    assert (server.state, server.wait, server.rest) == (State.CLOSED, Wait.NOTHING, b"")
    assert server.next_event() is None


def test_a_greeting_that_comes_too_early_is_kept_for_the_client_machine() -> None:
    server = logged_in()
    server.receive(b"ATRN\r\n220 example.org ready\r\n250")
    assert isinstance(server.next_event(), Atrn)
    server.answer(TURNING)
    client = Client(ClientOptions("EXAMPLE.NET", starttls=StartTls.NEVER))
    client.receive(server.rest)
    assert client.next_event() is None
    assert client.data_to_send() == b"EHLO EXAMPLE.NET\r\n"
    client.receive(b"-example.org\r\n250 SIZE\r\n")
    assert client.next_event() == Ready()


def test_commands_pipelined_behind_atrn_are_never_run() -> None:
    server = logged_in()
    garbage = b"MAIL FROM:<ann@example.org>\r\nRCPT TO:<bob@example.net>\r\nDATA\r\n"
    server.receive(b"ATRN\r\n" + garbage)
    server.next_event()
    server.answer(TURNING)
    server.receive(b"QUIT\r\n")
    assert server.next_event() is None
    assert server.rest == garbage
    assert server.take_output() == b"250 2.0.0 OK now reversing the connection\r\n"


def test_commands_pipelined_behind_a_refused_atrn_go_on() -> None:
    server = logged_in()
    server.receive(b"ATRN theirs.example\r\nNOOP\r\n")
    server.next_event()
    server.answer(TURN_REFUSED)
    assert server.next_event() is None
    assert server.take_output().endswith(b"\r\n250 2.0.0 OK\r\n")


def test_etrn_asks_and_goes_on() -> None:
    server = Server(PROVIDER)
    server.receive(b"EHLO x\r\nETRN @example.org\r\nETRN example.com\r\n")
    server.take_output()
    assert server.next_event() == Etrn("example.org", with_subdomains=True)
    server.answer(OK)
    assert server.next_event() == Etrn("example.com")
    server.answer(NOT_IMPLEMENTED)
    assert server.state is State.READY


def test_the_examples_of_the_documentation_hold() -> None:
    assert doctest.testmod(turn).failed == 0
