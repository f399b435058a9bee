"""The sentences that people read in reports and notices, one module for each language.

`wording` gives those of one language; a module is loaded only when it is asked for. What servers say is never
translated. In the sentences `{name}` stands for what differs; `tests/mail/test_wording.py` asks that all languages
say the same with the same names.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from importlib import import_module

from masqmail.frozen import frozen
from masqmail.mail.date import format_date


class Language(Enum):
    """What people read, by its tag in BCP 47."""

    ENGLISH = "en"
    GERMAN = "de"
    FRENCH = "fr"
    ITALIAN = "it"


class Action(Enum):
    """What became of a recipient, RFC 3464 §2.3.3."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"
    EXPANDED = "expanded"


@frozen
class Advice:
    """What a status means, and what its reader can do."""

    meaning: str
    advice: str


@frozen
class Letter:
    """A notice. Its text has line ends of its own."""

    subject: str
    text: str

    def filled(self, **values: object) -> "Letter":
        """With every `{name}` replaced."""
        return Letter(self.subject.format(**values), self.text.format(**values))


@frozen(kw_only=True)
class Wording:
    """Everything we say in one language.

    `date` is a pattern of `strftime` with numbers alone, or empty for dates as in a header. An opening is there
    twice: for one recipient and for several. `advice` is by subject and detail, then by subject alone, of an enhanced
    status code (RFC 3463); "0" is for all the rest. `given_back` is for what somebody gave back by hand,
    which no code says.
    """

    language: Language
    date: str
    subjects: Mapping[Action, str]
    openings: Mapping[Action, tuple[str, str]]
    advice: Mapping[str, Advice]
    given_back: Advice
    this_is: str
    titled: str
    untitled: str
    more_recipients: str
    asked_for: str
    said: str
    reason: str
    means: str
    you_can: str
    tried_until: str
    header_attached: str
    all_attached: str
    known_as: str
    route_stopped: Letter
    without_route: Letter
    reports_held: Letter
    pickup_refused: Letter
    fetch_left: Letter
    fetch_refused: Letter
    fetch_gone: Letter
    fetch_stopped: Letter
    fetched_redirected: Letter
    fetched_held: Letter
    fetched_delayed: Letter

    def when(self, instant: datetime) -> str:
        """An aware instant for people, with the offset of its own time zone."""
        return instant.strftime(self.date) if self.date else format_date(instant)


def wording(language: Language) -> Wording:
    """All sentences of a language."""
    found: Wording = import_module(f"masqmail.mail.words_{language.value}").WORDS
    return found
