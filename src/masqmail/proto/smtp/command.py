"""SMTP command lines read into values: RFC 5321 §4.1.1 and the extensions we offer.

>>> parse_command(b"RCPT TO:<ann@example.org>")
Rcpt(recipient=Recipient(mailbox=Mailbox(local_part='ann', domain='example.org'), notify=None, orcpt=''))

Strict, but for what programs, printers and computers in homes do: blanks after the colon of MAIL and RCPT, an address
without its angle brackets, blanks at the end of a line, any name in HELO and EHLO; and a mailbox without a domain,
which is for policy to accept or refuse.
"""

import re
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import ClassVar, NamedTuple

from masqmail.frozen import frozen
from masqmail.mail.address import MAX_PATH_BYTES, AddressError, Mailbox, scan_mailbox
from masqmail.mail.envelope import Body, Recipient, Ret
from masqmail.mail.status import BAD_ARGUMENTS, NOT_IMPLEMENTED, SYNTAX_ERROR, Status
from masqmail.proto.errors import PeerError
from masqmail.proto.smtp import parameters as read
from masqmail.proto.smtp.turn import read_domains, read_node
from masqmail.proto.smtp.xsubmit import ASKS_NOTHING, XSUBMIT_PARAMETERS, XSubmit, read_xsubmit

MAX_LINE_BYTES = 512 - 2  # RFC 5321 §4.5.3.1.4, without the CRLF
MAX_ENVELOPE_LINE_BYTES = 4096 - 2  # MAIL and RCPT with every extension's parameters
MAX_AUTH_LINE_BYTES = 12288 - 2  # RFC 4954 §4.1
MAX_HELO_BYTES = 255  # RFC 5321 §4.5.3.1.2

BAD_REVERSE_PATH = Status(501, "5.1.7", "That is not a valid reverse-path")
BAD_FORWARD_PATH = Status(501, "5.1.3", "That is not a valid forward-path")
NEEDS_SMTPUTF8 = Status(553, "5.6.7", "An address beyond ASCII needs the SMTPUTF8 parameter")  # RFC 6531 §3.5
NOT_SMTP = Status(421, "4.7.0", "This is a mail server, it speaks SMTP and not HTTP")
#: How many octets follow is unknown then, and none of them may be read as a command: close after it.
BAD_CHUNK_SIZE = Status(501, "5.5.4", "BDAT needs the size of its chunk, closing")


class Verb(Enum):
    """The commands the server knows.

    BDAT with LAST has another effect than without, so it counts as its own; so does MAIL with XHEADERRCPTS.
    """

    EHLO = "EHLO"
    HELO = "HELO"
    MAIL = "MAIL"
    MAIL_XHEADERRCPTS = "MAIL XHEADERRCPTS"
    RCPT = "RCPT"
    DATA = "DATA"
    BDAT = "BDAT"
    BDAT_LAST = "BDAT LAST"
    RSET = "RSET"
    NOOP = "NOOP"
    VRFY = "VRFY"
    HELP = "HELP"
    QUIT = "QUIT"
    STARTTLS = "STARTTLS"
    AUTH = "AUTH"
    ATRN = "ATRN"
    ETRN = "ETRN"

    __hash__ = object.__hash__  # Enum's own is written in Python, and each command is looked up by its verb


@frozen
class Hello:
    """EHLO (`is_extended`) or HELO with the name the client gives itself."""

    verb: Verb
    name: str

    @property
    def is_extended(self) -> bool:
        return self.verb is Verb.EHLO


class Mail(NamedTuple):
    """MAIL. `size_bytes` is what the client estimates, None when it says nothing."""

    reverse_path: Mailbox | None
    size_bytes: int | None = None
    body: Body = Body.SEVEN_BIT
    smtputf8: bool = False
    ret: Ret | None = None
    envid: str = ""
    xsubmit: XSubmit = ASKS_NOTHING

    @property
    def verb(self) -> Verb:
        return Verb.MAIL_XHEADERRCPTS if self.xsubmit.header_recipients else Verb.MAIL


@frozen
class Rcpt:
    """RCPT."""

    verb: ClassVar[Verb] = Verb.RCPT
    recipient: Recipient


@frozen
class Bdat:
    """BDAT: `size_bytes` octets of the message follow at once, RFC 3030 §2."""

    size_bytes: int
    is_last: bool

    @property
    def verb(self) -> Verb:
        return Verb.BDAT_LAST if self.is_last else Verb.BDAT


@frozen
class Auth:
    """AUTH: a mechanism in upper case, and the initial response still in base64 (RFC 4954 §4)."""

    verb: ClassVar[Verb] = Verb.AUTH
    mechanism: str
    initial: bytes | None

    def __repr__(self) -> str:
        return f"Auth(mechanism={self.mechanism!r}, initial=…)"


@frozen
class Atrn:
    """ATRN: the client wants the mail for these domains, or for all of its own, over this connection; RFC 2645."""

    verb: ClassVar[Verb] = Verb.ATRN
    domains: tuple[str, ...]


@frozen
class Etrn:
    """ETRN: the client wants what waits for a domain to be sent now, to wherever it goes; RFC 1985."""

    verb: ClassVar[Verb] = Verb.ETRN
    domain: str
    with_subdomains: bool = False


@frozen
class Simple:
    """A command whose arguments, if it has any, change nothing."""

    verb: Verb


Command = Hello | Mail | Rcpt | Bdat | Auth | Atrn | Etrn | Simple

_VRFY = Simple(Verb.VRFY)
_BLANKS = " \t"
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
# What may not stand in a trace field without quoting; names of computers in homes keep to no RFC.
_ODD_IN_NAME = re.compile(r"[^A-Za-z0-9_.:\[\]!#$%&'*+/=?^`{|}~-]")
_GREETINGS = (b"EHLO ", b"HELO ")
_SOURCE_ROUTE = re.compile(r"@[^@,:<> ]+(?:,@[^@,:<> ]+)*:(?=.)")  # RFC 5321 §4.1.2
# What nearly everybody writes, read at one go; all other spellings take the long way, to the same result.
_PLAIN = re.compile(
    r"(MAIL FROM|RCPT TO):<(?=[^@]{1,64}@)((?>[\w!#$%&'*+/=?^`{|}~-]+(?:\.[\w!#$%&'*+/=?^`{|}~-]+)*))"
    r"@((?>[A-Za-z0-9]+(?:[.-][A-Za-z0-9]+)*))>( [ -~]*)?",
    re.ASCII,
)
_QUOTED_PATH = re.compile(r'<[^"<>]*"(?:[^"\\]|\\.)*"[^">]*>')
_BDAT = re.compile(r"(\d{1,20})(?: +(LAST))?", re.ASCII | re.IGNORECASE)
_AUTH = re.compile(r"([A-Za-z0-9_-]{1,20})(?: +(\S+))?")  # RFC 4422 §3.1
_MAIL_PARAMETERS = frozenset({"SIZE", "BODY", "SMTPUTF8", "RET", "ENVID", "AUTH"})
_SUBMIT_PARAMETERS = _MAIL_PARAMETERS | XSUBMIT_PARAMETERS
_RCPT_PARAMETERS = frozenset({"NOTIFY", "ORCPT"})
#: How long a command line may be, without its CRLF, that begins so in upper case; all others `MAX_LINE_BYTES`.
LONG_LINES = {
    b"MAIL ": MAX_ENVELOPE_LINE_BYTES,
    b"RCPT ": MAX_ENVELOPE_LINE_BYTES,
    b"AUTH ": MAX_AUTH_LINE_BYTES,
}
_HTTP = frozenset({"GET", "POST", "PUT", "HEAD", "CONNECT", "OPTIONS"})
_UNOFFERED = frozenset({"EXPN", "TURN", "SEND", "SOML", "SAML", "LHLO", "BURL", "XCLIENT", "XFORWARD"})


def parse_command(line: bytes, *, with_xsubmit: bool = False) -> Command:
    """Reads a command line without its CRLF; the parameters of XSUBMIT only where it is offered.

    Raises `PeerError` with the reply for everything else.
    """
    if (bare := _BARE.get(line)) is not None:
        return bare
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        if line[:5].upper() not in _GREETINGS:
            raise PeerError(SYNTAX_ERROR) from None
        text = line.decode("ascii", "replace")
    if (plain := _PLAIN.fullmatch(text)) is not None:
        verb, local_part, domain, rest = plain.groups()
        if len(local_part) + len(domain) + len("<@>") <= MAX_PATH_BYTES:
            mailbox = Mailbox(local_part, domain)
            if verb == "RCPT TO":
                return _make_rcpt(mailbox, rest)
            return _make_mail(mailbox, rest, _SUBMIT_PARAMETERS if with_xsubmit else _MAIL_PARAMETERS)
    if not text.isprintable() and _CONTROL.search(line):
        raise PeerError(SYNTAX_ERROR)
    name, _, arguments = text.rstrip(_BLANKS).partition(" ")
    name = name.upper()
    if (parser := (_SUBMIT_PARSERS if with_xsubmit else _PARSERS).get(name)) is not None:
        return parser(arguments)
    if name in _HTTP:
        raise PeerError(NOT_SMTP)
    raise PeerError(NOT_IMPLEMENTED if name in _UNOFFERED else SYNTAX_ERROR)


def traceable(line: bytes) -> bytes:
    """A command line as a trace may show it: nothing that might be part of a log-in."""
    verb = line[:8].split(b" ")[0].upper().decode("ascii", "replace")
    if verb in _PARSERS and verb != Verb.AUTH.value:
        return line
    return b"%s (%d bytes hidden)" % (verb.encode() if verb == Verb.AUTH.value else b"?", len(line))


def _hello(verb: Verb) -> Callable[[str], Command]:
    """For EHLO and HELO. Who calls itself `(none)` or `Anne's PC` may send mail; a `?` is what cannot be written."""

    def parse(arguments: str) -> Command:
        name = _ODD_IN_NAME.sub("?", arguments.lstrip(_BLANKS))
        if not name or len(name) > MAX_HELO_BYTES:
            raise _bad(f"{verb.value} needs the name of your host")
        return Hello(verb, name)

    return parse


def _simple(verb: Verb) -> Callable[[str], Command]:
    """For commands that take no argument (RFC 5321 §4.3.2: 501 when one comes)."""
    command = Simple(verb)

    def parse(arguments: str) -> Command:
        if arguments:
            raise _bad(f"{verb.value} takes no argument")
        return command

    return parse


def _with_text(verb: Verb) -> Callable[[str], Command]:
    """For commands whose argument changes nothing here, RFC 5321 §4.1.1.8, §4.1.1.9."""
    command = Simple(verb)
    return lambda arguments: command


def _vrfy(arguments: str) -> Command:
    if not arguments:
        raise _bad("VRFY needs an address")
    return _VRFY


def _mail(arguments: str, known: frozenset[str] = _MAIL_PARAMETERS) -> Command:
    path, rest = _split_path(arguments, "FROM:", BAD_REVERSE_PATH)
    mail = _make_mail(_read_mailbox(path, BAD_REVERSE_PATH) if path else None, rest, known)
    may_be_utf8 = mail.smtputf8 or known is _SUBMIT_PARAMETERS
    if mail.reverse_path is not None and mail.reverse_path.needs_smtputf8 and not may_be_utf8:
        raise PeerError(NEEDS_SMTPUTF8)
    return mail


def _make_mail(reverse_path: Mailbox | None, parameters: str | None, known: frozenset[str]) -> Mail:
    if not parameters:
        return Mail(reverse_path)
    given = read.parse_parameters(parameters)
    read.refuse_others(given, known)
    if given.get("SMTPUTF8") is not None or given.get("AUTH", "") is None:  # RFC 6531 §3.4, RFC 4954 §5
        raise PeerError(BAD_ARGUMENTS)
    mail = Mail(
        reverse_path,
        size_bytes=read.read_size(given["SIZE"]) if "SIZE" in given else None,
        body=read.read_body(given["BODY"]) if "BODY" in given else Body.SEVEN_BIT,
        smtputf8="SMTPUTF8" in given,
        ret=read.read_ret(given["RET"]) if "RET" in given else None,
        envid=read.read_envid(given["ENVID"]) if "ENVID" in given else "",
        xsubmit=read_xsubmit(given),
    )
    if reverse_path is not None and mail.xsubmit.is_self:
        raise _bad("XSELF goes with the null reverse-path")
    return mail


def _rcpt(arguments: str) -> Command:
    path, rest = _split_path(arguments, "TO:", BAD_FORWARD_PATH)
    if not path:
        raise PeerError(BAD_FORWARD_PATH)
    return _make_rcpt(_read_mailbox(path, BAD_FORWARD_PATH), rest)


def _make_rcpt(mailbox: Mailbox, parameters: str | None) -> Rcpt:
    if not parameters:
        return Rcpt(Recipient(mailbox))
    given = read.parse_parameters(parameters)
    read.refuse_others(given, _RCPT_PARAMETERS)
    notify = read.read_notify(given["NOTIFY"]) if "NOTIFY" in given else None
    return Rcpt(Recipient(mailbox, notify, read.read_orcpt(given["ORCPT"]) if "ORCPT" in given else ""))


def _split_path(arguments: str, keyword: str, status: Status) -> tuple[str, str]:
    """What stands between the angle brackets, and the parameters behind them; old devices leave the brackets out."""
    if arguments[: len(keyword)].upper() != keyword:
        raise _bad(f"Expected {keyword}<address>")
    start = len(keyword)
    while arguments.startswith(" ", start):
        start += 1
    if not arguments.startswith("<", start):
        path, _, rest = arguments[start:].partition(" ")
        if not path:
            raise PeerError(status)
        return path, rest
    end = _path_end(arguments, start)
    if end < 0:
        raise PeerError(status)
    rest = arguments[end + 1 :]
    if rest and rest[0] != " ":
        raise PeerError(status)
    return arguments[start + 1 : end], rest


def _path_end(text: str, start: int) -> int:
    """The index of the bracket that closes the path; one inside a quoted local-part does not."""
    end = text.find(">", start)
    if '"' not in text[start:end]:
        return end
    quoted = _QUOTED_PATH.match(text, start)
    return quoted.end() - 1 if quoted else -1


def _read_mailbox(path: str, status: Status) -> Mailbox:
    """The mailbox of a path. A source route before it is dropped, RFC 5321 §3.6.1 and appendix C."""
    route = _SOURCE_ROUTE.match(path) if path.startswith("@") else None
    start = route.end() if route else 0
    try:
        mailbox, end = scan_mailbox(path, start)
    except AddressError:
        raise PeerError(status) from None
    if end != len(path) or len(path) - start + 2 > MAX_PATH_BYTES:  # RFC 5321 §4.5.3.1.3
        raise PeerError(status)
    return mailbox


def _bdat(arguments: str) -> Command:
    match = _BDAT.fullmatch(arguments)
    if match is None:
        raise PeerError(BAD_CHUNK_SIZE)
    return Bdat(int(match[1]), match[2] is not None)


def _auth(arguments: str) -> Command:
    match = _AUTH.fullmatch(arguments)
    if match is None:
        raise _bad("AUTH needs a mechanism")
    return Auth(match[1].upper(), match[2].encode() if match[2] else None)


def _atrn(arguments: str) -> Command:
    return Atrn(read_domains(arguments))


def _etrn(arguments: str) -> Command:
    return Etrn(*read_node(arguments))


def _bad(text: str) -> PeerError:
    return PeerError(BAD_ARGUMENTS.with_text(text))


_PARSERS: dict[str, Callable[[str], Command]] = {
    "EHLO": _hello(Verb.EHLO),
    "HELO": _hello(Verb.HELO),
    "MAIL": _mail,
    "RCPT": _rcpt,
    "DATA": _simple(Verb.DATA),
    "BDAT": _bdat,
    "RSET": _simple(Verb.RSET),
    "NOOP": _with_text(Verb.NOOP),
    "VRFY": _vrfy,
    "HELP": _with_text(Verb.HELP),
    "QUIT": _simple(Verb.QUIT),
    "STARTTLS": _simple(Verb.STARTTLS),
    "AUTH": _auth,
    "ATRN": _atrn,
    "ETRN": _etrn,
}
#: The commands that nearly everybody writes like this, read already.
_BARE = {name.encode(): _PARSERS[name]("") for name in ("DATA", "RSET", "NOOP", "QUIT", "STARTTLS")}
_SUBMIT_PARSERS: dict[str, Callable[[str], Command]] = {
    **_PARSERS,
    "MAIL": partial(_mail, known=_SUBMIT_PARAMETERS),
}
