"""The accounts of [fetch] as those who speak to servers see them: their options, their password, their protocol."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from importlib import import_module

from masqmail.config.fetch import FetchMechanism, FetchProtocol, FetchSection
from masqmail.config.routes import Tls
from masqmail.daemon.secrets import SecretSource
from masqmail.net.session import TlsMemory, TlsMode
from masqmail.proto import sasl
from masqmail.proto.pop3.login import APOP, USER
from masqmail.proto.sasl import Credentials, Secret
from masqmail.retrieval.account import Account, Retriever

#: Who speaks each protocol. Imported when the first account needs it: most hosts have one protocol, or none.
RETRIEVERS: Mapping[FetchProtocol, tuple[str, str]] = {
    FetchProtocol.POP3: ("masqmail.retrieval.pop3", "Pop3Retriever"),
    FetchProtocol.IMAP: ("masqmail.retrieval.imap", "ImapRetriever"),
    FetchProtocol.ODMR: ("masqmail.retrieval.odmr", "OdmrRetriever"),
    FetchProtocol.ETRN: ("masqmail.retrieval.etrn", "EtrnRetriever"),
}

#: What else is loaded when mail is first fetched, by all protocols and by some.
LATE_MODULES = ("masqmail.daemon.fetch.wiring", "masqmail.daemon.poplogins", "scramp")
LATE_MODULES_OF: Mapping[FetchProtocol, tuple[str, ...]] = {
    FetchProtocol.IMAP: ("imapclient", "masqmail.retrieval.imapsession")
}

#: What the words of `auth` are called by protocol machines; the others go by their own names.
_WAYS: Mapping[FetchMechanism, tuple[str, ...]] = {
    FetchMechanism.APOP: (APOP,),
    FetchMechanism.PLAIN: (sasl.PLAIN, USER),
}

#: Ways to log in that only POP3 has.
_OF_POP3 = frozenset({APOP, USER})

#: Ways that show a token in place of a password, the better one first.
TOKEN_WAYS = (FetchMechanism.OAUTHBEARER.value.upper(), FetchMechanism.XOAUTH2.value.upper())

ReadSecret = Callable[[SecretSource], Awaitable[Secret]]


def make_retriever(protocol: FetchProtocol, memory: TlsMemory | None = None) -> Retriever:
    """Somebody who speaks this protocol. Raises `ImportError` where what that needs is not installed.

    Those with POP3 and IMAP can share what is known of TLS: the authorities of the system take a megabyte.
    """
    module, name = RETRIEVERS[protocol]
    make = getattr(import_module(module), name)
    retriever: Retriever = make() if memory is None else make(memory=memory)
    return retriever


def load_modules(protocols: Iterable[FetchProtocol]) -> None:
    """Imports now what is needed to fetch by these protocols, as far as it is installed."""
    wanted = set(protocols)
    names = [*LATE_MODULES, *(RETRIEVERS[protocol][0] for protocol in wanted)]
    names += [name for protocol in wanted for name in LATE_MODULES_OF.get(protocol, ())]
    for name in names:
        with suppress(ImportError):  # whoever fetches says what is missing
            import_module(name)


def account_of(section: FetchSection, secret: Secret) -> Account:
    """How the server of an account is spoken to."""
    return Account(
        name=section.name,
        server=section.server,
        credentials=Credentials(section.username or "", secret),
        tls=TlsMode(section.effective_tls.value),
        tls_ca=section.tls_ca,
        tls_fingerprint=section.tls_fingerprint or "",
        mechanisms=mechanisms_of(section),
        clear_password=section.tls is Tls.NONE,
        folders=section.folders,
        domains=section.multidrop_domains,
        keep=section.keep,
        move_to=section.move_to or "",
        max_size=section.max_size,
        max_messages=section.max_messages,
        wrapper=section.wrapper or (),
    )


def mechanisms_of(section: FetchSection) -> tuple[str, ...]:
    """The ways to log in that may be used, the best first; none stands for all that are safe with a password."""
    ways = tuple(way for word in section.auth for way in _WAYS.get(word, (word.value.upper(),)))
    if section.token_command:
        return tuple(way for way in ways if way in TOKEN_WAYS) or TOKEN_WAYS
    unusable = {*TOKEN_WAYS, *(() if section.protocol is FetchProtocol.POP3 else _OF_POP3)}
    return tuple(way for way in ways if way not in unusable)


def source_of(section: FetchSection) -> SecretSource:
    """Where the password of an account comes from, or the token in its place."""
    command = section.token_command or section.password_command or ()
    return SecretSource(section.password_file, command, section.password_credential or "")


class Secrets:
    """The passwords of accounts: each is read once and kept until it is refused. A token is asked for each time."""

    def __init__(self, read: ReadSecret) -> None:
        self._read = read
        self._known: dict[str, Secret] = {}

    def is_known(self, section: FetchSection) -> bool:
        """Whether the next answer is one that was read earlier."""
        return section.name in self._known

    async def of(self, section: FetchSection) -> Secret:
        """What proves who we are. Raises `SecretError`."""
        if section.username is None:
            return Secret("")  # nobody logs in
        if section.token_command:
            return await self._read(source_of(section))
        if section.name not in self._known:
            self._known[section.name] = await self._read(source_of(section))
        return self._known[section.name]

    def forget(self, name: str) -> None:
        """It was refused, or the account is another one now."""
        self._known.pop(name, None)
