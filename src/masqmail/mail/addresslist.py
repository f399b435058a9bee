"""Address lists in the values of header fields: RFC 5322 §3.4, with the obsolete forms of §4.4.

`parse_address_list` finds each mailbox and where its bytes stand, so that one address can be replaced without
touching anything around it. It takes every input in linear time and without recursion: what is no address is
passed over and reported. We are laxer than the grammar where real mail is: display names may hold anything,
local-parts may have dots side by side, a `;` may separate like a comma, and an address may be a bare
local-part. Encoded words (RFC 2047) are left as they are, UTF-8 is taken as text (RFC 6532).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from masqmail.frozen import frozen
from masqmail.mail.address import AddressError, Mailbox, parse_mailbox

#: More mailboxes than this in one value are not looked at; the rest is one fault.
MAX_MAILBOXES = 50_000

_MAX_SPEC_BYTES = 2000  # an address with its comments and folds; the parts have narrower bounds of their own
_MAX_TOKENS = 10_000  # of one mailbox with its display name
_SHOWN_BYTES = 60  # how much of a bad part a fault quotes

_TOKEN = re.compile(
    rb"""
      (?P<space>   [ \t\r\n]++ )
    | (?P<comma>   ,[, \t\r\n]*+ )
    | (?P<quoted>  "(?>(?:[^"\\]++|\\.)*)" )
    | (?P<literal> \[(?>(?:[^\[\]\\]++|\\.)*)\] )
    | (?P<special> [<>@:;.] )
    | (?P<atom>    [^\x00-\x20()<>\[\]:;@\\,."\x7f]++ )
    | (?P<bad>     [\x00-\x08\x0b\x0c\x0e-\x1f\x7f)\]\\]++ )
    """,
    re.VERBOSE | re.DOTALL,
)
_IN_COMMENT = re.compile(rb"\\.|\(++|\)++", re.DOTALL)
_QUOTED = re.compile(r'"((?>(?:[^"\\]++|\\.)*))"', re.DOTALL)
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)
_LINE_ENDS = re.compile(r"[\r\n]+")

#: What a phrase is made of; a `.` may stand in an obsolete one, RFC 5322 §4.1.
_WORDS = frozenset({"atom", "quoted", "."})


@frozen
class Span:
    """A part of the parsed bytes, from `start` up to and without `end`."""

    start: int
    end: int


@frozen
class ListedMailbox:
    """One mailbox and where it stands.

    `spec` is its addr-spec, with a source route if it has one, without brackets. `angle` is where the `<`
    before it stands, or None. `name` is the display name as written, or None; `has_comment` says whether
    there is a comment, which old software uses for the name.
    """

    mailbox: Mailbox
    spec: Span
    name: Span | None = None
    angle: int | None = None
    has_comment: bool = False


@frozen
class ListFault:
    """A part of the value that is no address, and why."""

    span: Span
    reason: str


@frozen
class AddressList:
    """The mailboxes of a value in order, those in groups included, and what was passed over."""

    listed: tuple[ListedMailbox, ...]
    faults: tuple[ListFault, ...]

    @property
    def mailboxes(self) -> tuple[Mailbox, ...]:
        return tuple(one.mailbox for one in self.listed)


class _Token(NamedTuple):
    kind: str  # atom, quoted, literal, comma, comment, bad, unclosed, or the special character itself
    start: int
    end: int


@dataclass(slots=True)
class _Element:
    """What stands between two separators: the tokens of one mailbox, and where its `<` is among them."""

    tokens: list[_Token] = field(default_factory=list)
    angle: int | None = None
    in_route: bool = False
    is_phrase: bool = True
    has_comment: bool = False

    def add(self, token: _Token) -> None:
        if self.angle is None:
            if token.kind == "<":
                self.angle = len(self.tokens)
        elif token.kind == "@" and len(self.tokens) == self.angle + 1:
            self.in_route = True  # obs-route, RFC 5322 §4.4: up to its colon commas do not separate
        elif token.kind in (":", ">"):
            self.in_route = False
        self.is_phrase = self.is_phrase and token.kind in _WORDS
        if len(self.tokens) < _MAX_TOKENS:
            self.tokens.append(token)
        else:
            self.tokens[-1] = token


def parse_address_list(value: bytes, start: int = 0) -> AddressList:
    """Reads the address list that begins at `start`; spans count from the beginning of `value`. Never raises."""
    listed: list[ListedMailbox] = []
    faults: list[ListFault] = []
    for element in _elements(value, start):
        span = Span(element.tokens[0].start, element.tokens[-1].end)
        if len(listed) >= MAX_MAILBOXES:
            reason = f"more than {MAX_MAILBOXES} addresses; the rest was passed over"
            faults.append(ListFault(Span(span.start, len(value)), reason))
            break
        try:
            listed.append(_read_mailbox(value, element))
        except AddressError as error:
            faults.append(ListFault(span, f"{_show(value, span)} is no address: {error}"))
    return AddressList(tuple(listed), tuple(faults))


def phrase_text(phrase: bytes) -> str:
    """A display name as people read it: without quotes, escapes and folds. Encoded words stay as they are."""
    text = _LINE_ENDS.sub("", phrase.decode(errors="replace"))
    parts = _QUOTED.split(text)  # every second one is the content of a quoted-string
    parts[1::2] = [_QUOTED_PAIR.sub(r"\1", part) for part in parts[1::2]]
    return " ".join("".join(parts).split())


def comment_end(value: bytes, start: int) -> int:
    """The index behind the comment that begins at `start`, nested ones included; 0 when it is never closed."""
    depth = 0
    for match in _IN_COMMENT.finditer(value, start):
        run = match[0]
        if run[0] == ord("("):
            depth += len(run)
        elif run[0] == ord(")"):
            if len(run) >= depth:
                return match.start() + depth
            depth -= len(run)
    return 0


def _elements(value: bytes, start: int) -> Iterator[_Element]:
    """Cuts the tokens at separators. A group is only its members, RFC 5322 §3.4; empty elements are none, §4.4."""
    element = _Element()
    in_group = False
    for token in _tokens(value, start):
        match token.kind:
            case "comment":
                element.has_comment = True
            case "comma" | ";" if not element.in_route:
                if element.tokens:
                    yield element
                element = _Element()
                in_group = in_group and token.kind == "comma"
            case ":" if not in_group and element.tokens and element.is_phrase:
                element = _Element()
                in_group = True
            case _:
                element.add(token)
    if element.tokens:
        yield element


def _tokens(value: bytes, position: int) -> Iterator[_Token]:
    """The tokens from `position` on, without white space. What is never closed is one token to the end."""
    while position < len(value):
        match = _TOKEN.match(value, position)
        if match is not None:
            kind, end = match.lastgroup or "", match.end()
            kind = match[0].decode("ascii") if kind == "special" else kind
        elif value[position] == ord("("):
            end = comment_end(value, position)
            kind, end = ("comment", end) if end else ("unclosed", len(value))
        else:
            kind, end = "unclosed", len(value)
        if kind != "space":
            yield _Token(kind, position, end)
        position = end


def _read_mailbox(value: bytes, element: _Element) -> ListedMailbox:
    """Reads one element: `addr-spec`, or a display name and `<addr-spec>`. Raises `AddressError`."""
    tokens, angle = element.tokens, element.angle
    if len(tokens) == _MAX_TOKENS:
        raise AddressError("it is too long")
    if tokens[-1].kind == "unclosed":
        opening = chr(value[tokens[-1].start])
        raise AddressError(f"the {opening} is never closed")
    if angle is None:
        spec, name = tokens, None
    elif tokens[-1].kind != ">":
        raise AddressError("the > is missing, or something stands behind it")
    else:
        spec = tokens[angle + 1 : -1]
        name = Span(tokens[0].start, tokens[angle - 1].end) if angle else None
    if not spec:
        raise AddressError("there is nothing between < and >")
    where = Span(spec[0].start, spec[-1].end)
    if where.end - where.start > _MAX_SPEC_BYTES:
        raise AddressError("it is too long")
    return ListedMailbox(
        _read_spec(value, _behind_route(spec)),
        spec=where,
        name=name,
        angle=None if angle is None else tokens[angle].start,
        has_comment=element.has_comment,
    )


def _behind_route(spec: list[_Token]) -> list[_Token]:
    """The tokens behind a source route, which is ignored (RFC 5321 §4.1.1.3, RFC 5322 §4.4)."""
    if spec[0].kind != "@":
        return spec
    colon = next((index for index, token in enumerate(spec) if token.kind == ":"), None)
    if colon is None:
        raise AddressError("there is nothing before the @")
    return spec[colon + 1 :]


def _read_spec(value: bytes, tokens: list[_Token]) -> Mailbox:
    """Reads `local-part@domain` or a bare local-part; white space and comments may stand between the parts."""
    at = next((index for index, token in enumerate(tokens) if token.kind == "@"), len(tokens))
    local_part = "".join(_decode_word(value, token) for token in _joined(tokens[:at], frozenset({"atom", "quoted"})))
    domain = "".join(
        _decode_word(value, token) for token in _joined(tokens[at + 1 :], frozenset({"atom", "literal"}))
    )
    if at < len(tokens) and not domain:
        raise AddressError("there is nothing behind the @")
    if at == 0 or not (local_part or domain):
        raise AddressError("there is nothing before the @" if domain else "it is empty")
    return parse_mailbox(str(Mailbox(local_part, domain)))


def _joined(tokens: list[_Token], words: frozenset[str]) -> Iterator[_Token]:
    """These tokens, when they are words with dots between them. Raises `AddressError` when not."""
    after_word = False
    for token in tokens:
        if token.kind in words:
            if after_word:
                raise AddressError("two words stand side by side; is there a comma missing?")
            after_word = True
        elif token.kind == ".":
            after_word = False
        else:
            raise AddressError(f"{token.kind if len(token.kind) == 1 else 'a character'} cannot stand there")
        yield token


def _decode_word(value: bytes, token: _Token) -> str:
    word = value[token.start : token.end]
    return _unquote(word) if token.kind == "quoted" else _decode(word)


def _unquote(quoted: bytes) -> str:
    """The content of a quoted-string without its quotes, folds and escapes, RFC 5322 §3.2.4."""
    return _QUOTED_PAIR.sub(r"\1", _LINE_ENDS.sub("", _decode(quoted[1:-1])))


def _decode(word: bytes) -> str:
    try:
        return word.decode()
    except UnicodeDecodeError:
        raise AddressError("it is not UTF-8") from None


def _show(value: bytes, span: Span) -> str:
    """The beginning of a part of the value, for people."""
    text = value[span.start : min(span.end, span.start + _SHOWN_BYTES)].decode(errors="replace")
    return repr(text + "…" if span.end - span.start > _SHOWN_BYTES else text)
