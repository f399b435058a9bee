"""What `masqmail check --connect` finds out: whether every provider lets us in, and tells whom mail is for."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import anyio

from masqmail.config.fetch import FetchSection
from masqmail.config.model import Configuration
from masqmail.daemon.fetch.accounts import Secrets, account_of, make_retriever
from masqmail.daemon.fetch.wiring import multidrop_of
from masqmail.daemon.secrets import SecretError, read_secret
from masqmail.daemon.transport import Transports
from masqmail.delivery.job import Transaction
from masqmail.delivery.parallel import Speed
from masqmail.delivery.smtp import send
from masqmail.frozen import frozen
from masqmail.mail.outcome import Outcome
from masqmail.retrieval.account import FetchFailure
from masqmail.routing.multidrop import recipients_of
from masqmail.settings import HostPort

#: How long a server has to let us in and out again: somebody is watching. Mail itself waits longer for an answer.
PATIENCE_SECONDS = 60.0

_TOO_SLOW = (
    f"it did not let us in within {PATIENCE_SECONDS:g} s; "
    'perhaps its port begins with TLS and `tls` is not "implicit", or something on the way drops what we say'
)


@frozen
class Visit:
    """One server that was tried for a section. Without a `reason` it let us in; `advice` is worth knowing."""

    section: str
    server: str
    reason: str = ""
    advice: str = ""
    was_tried: bool = True


async def try_all(configuration: Configuration) -> list[Visit]:
    """Logs in at each smarthost and account, all at the same time, and out again. Never raises for what they do."""
    transports = Transports(configuration.routes, configuration.host.name, read_secret, configuration.fetch)
    tries: list[Callable[[], Awaitable[Visit]]] = []
    found: list[Visit] = []  # for each try, and until it ends what is said of one that takes too long
    for route in configuration.routes.values():
        for hop in route.smarthost:
            server = HostPort(hop.host, route.port_for(hop))
            tries.append(partial(_try_hop, transports, route.name, server))
            found.append(Visit(f"routes.{route.name}", str(server), _TOO_SLOW))
    for section in configuration.fetch.values():
        tries.append(partial(_try_account, section))
        found.append(Visit(f"fetch.{section.name}", str(section.server), _TOO_SLOW))

    async def note(number: int) -> None:
        with anyio.move_on_after(PATIENCE_SECONDS):
            found[number] = await tries[number]()

    async with anyio.create_task_group() as tasks:
        for number in range(len(tries)):
            tasks.start_soon(note, number)
    return found


async def _try_hop(transports: Transports, route: str, hop: HostPort) -> Visit:
    where = f"routes.{route}"
    try:
        options = await transports.options(route, hop)
        await transports.log_in_first(route, options)
        end = await send(hop, options, _NoMail(), transports.memory)
    except (SecretError, FetchFailure) as error:
        return Visit(where, str(hop), str(error))
    return Visit(where, str(hop), end.reason if end.culprit is not None else "")


async def _try_account(section: FetchSection) -> Visit:
    where, server = f"fetch.{section.name}", str(section.server)
    try:
        retriever = make_retriever(section.protocol)
        look = getattr(retriever, "probe", None)
        if look is None:
            return Visit(where, server, advice="only a fetch can show whether it works", was_tried=False)
        try:
            headers = await look(account_of(section, await Secrets(read_secret).of(section)))
        finally:
            await retriever.aclose()
    except (SecretError, FetchFailure, ImportError) as error:
        return Visit(where, server, str(error))
    return Visit(where, server, advice=_about_envelope(section, headers))


def _about_envelope(section: FetchSection, headers: Sequence[bytes]) -> str:
    """What to know of an account with the mail of several people; nothing if all is well."""
    if section.envelope_header is None:
        return ""
    if not headers:
        return f"there is no message that could be looked at for {section.envelope_header}"
    rules = multidrop_of(section)
    named = sum(recipients_of(header, rules).has_envelope for header in headers)
    if named == len(headers):
        return ""
    which = "none" if not named else f"only {named}"
    return (
        f"{which} of {len(headers)} messages there has a recipient in {section.envelope_header}; "
        f"{'all' if not named else 'the other'} mail goes to {rules.deliver_to}"
    )


class _NoMail:
    """The feed of a connection that is there to see whether it can be made."""

    known_speed: Speed | None = None

    async def take(self, *, max_transactions: int, max_bytes: int) -> Sequence[Transaction]:
        return ()

    async def wait(self, timeout_seconds: float) -> bool:
        return False

    def watch(self, hear: Callable[[], None] | None) -> None:
        pass

    async def begin(self, transactions: Sequence[Transaction]) -> None:
        pass

    def settle(self, transaction: Transaction, outcomes: Sequence[Outcome]) -> None:
        pass

    def note_speed(self, speed: Speed) -> None:
        pass

    def note_round_trip(self, seconds: float) -> None:
        pass

    async def is_wanted(self) -> bool:
        return True
