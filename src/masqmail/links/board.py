"""The current verdict of every link: runs the detectors, calms those that flap, and lets people overrule them."""

from collections import deque
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from logging import WARNING

import anyio
from anyio.abc import TaskGroup

from masqmail.links.detector import Detector, Observation, unknown
from masqmail.routing.link import LinkState, Source, Verdict
from masqmail.system.clock import Clock
from masqmail.system.events import DETECTOR_FAILED, LINK_CHANGED, emit

#: More changes than this in FLAPPING_SECONDS are flapping; then a state must last SETTLE_SECONDS to count.
QUICK_CHANGES = 4
FLAPPING_SECONDS = 10.0
SETTLE_SECONDS = 1.0

_FIRST_PAUSE_SECONDS = 2.0
_LONGEST_PAUSE_SECONDS = 60.0


@dataclass(slots=True)
class _Link:
    """One link on the board. `observed` is what counts of its detector, `pending` what has to last first."""

    name: str
    detector: Detector
    verdict: Verdict
    observed: Observation
    pending: Observation | None = None
    changes: deque[float] = field(default_factory=lambda: deque(maxlen=QUICK_CHANGES))
    running: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    settling: anyio.CancelScope = field(default_factory=anyio.CancelScope)


class LinkBoard:
    """Keeps one verdict per link; `on_change` is called whenever the state or source of one is another.

    What somebody declares by hand wins over the detector until it is given back. A detector that fails makes
    its link unknown and is started again; it never harms anything else.
    """

    def __init__(self, task_group: TaskGroup, clock: Clock, on_change: Callable[[Verdict], None]) -> None:
        self._group = task_group
        self._clock = clock
        self._on_change = on_change
        self._links: dict[str, _Link] = {}
        self._manual: dict[str, LinkState] = {}

    def watch(self, detectors: Mapping[str, Detector]) -> None:
        """Runs these detectors, by link, instead of those before. A link that stays keeps its verdict meanwhile."""
        old, self._links = self._links, {}
        for link in old.values():
            link.running.cancel()
            link.settling.cancel()
        for name, detector in detectors.items():
            observed = old[name].observed if name in old else unknown("its detector has not answered yet")
            before = old[name].verdict if name in old else self._verdict(name, observed)
            link = self._links[name] = _Link(name, detector, before, observed)
            self._update(link)
            self._group.start_soon(self._run, link)

    def verdicts(self) -> dict[str, Verdict]:
        """What is known of every link, in the order of the configuration."""
        return {name: link.verdict for name, link in self._links.items()}

    def set_manual(self, name: str, state: LinkState) -> None:
        """Somebody says what the link is. Raises `KeyError` for a link that is not on the board."""
        link = self._links[name]
        self._manual[name] = state
        self._update(link)

    def clear_manual(self, name: str) -> None:
        """Gives a link back to its detector. Raises `KeyError` for a link that is not on the board."""
        link = self._links[name]
        self._manual.pop(name, None)
        self._update(link)

    def manual_overrides(self) -> dict[str, LinkState]:
        """What was declared by hand, to be kept over a restart."""
        return dict(self._manual)

    async def refresh(self) -> None:
        """Asks every detector anew; the answers count at once."""

        async def ask(link: _Link) -> None:
            self._count(link, await ask_safely(link.name, link.detector))

        async with anyio.create_task_group() as group:
            for link in self._links.values():
                group.start_soon(ask, link)

    async def _run(self, link: _Link) -> None:
        pause = _FIRST_PAUSE_SECONDS
        with link.running:
            while True:
                try:
                    async with aclosing(link.detector.watch()) as observations:
                        async for observation in observations:
                            self._observe(link, observation)
                            pause = _FIRST_PAUSE_SECONDS
                    self._observe(link, unknown("its detector has stopped"))
                except Exception as error:
                    self._observe(link, _failure(link.name, error))
                await self._clock.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _observe(self, link: _Link, observation: Observation) -> None:
        """Counts what a detector found, or waits whether it lasts when the link is flapping."""
        if observation.state is link.observed.state or not self._is_flapping(link):
            self._count(link, observation)
        elif link.pending and link.pending.state is observation.state:
            link.pending = observation
        else:
            self._stop_settling(link)
            link.pending = observation
            self._group.start_soon(self._settle, link, link.settling)

    def _is_flapping(self, link: _Link) -> bool:
        if len(link.changes) < QUICK_CHANGES:
            return False
        return self._clock.monotonic() - link.changes[0] < FLAPPING_SECONDS

    async def _settle(self, link: _Link, settling: anyio.CancelScope) -> None:
        with settling:
            await self._clock.sleep(SETTLE_SECONDS)
            if link.settling is settling and link.pending:
                self._count(link, link.pending)

    def _stop_settling(self, link: _Link) -> None:
        link.settling.cancel()
        link.settling = anyio.CancelScope()
        link.pending = None

    def _count(self, link: _Link, observation: Observation) -> None:
        self._stop_settling(link)
        if link.observed.state not in (observation.state, LinkState.UNKNOWN):
            link.changes.append(self._clock.monotonic())
        link.observed = observation
        self._update(link)

    def _update(self, link: _Link) -> None:
        """Makes the verdict from what was declared or observed, and tells if it is another one."""
        if self._links.get(link.name) is not link:
            return  # a late answer for a configuration that is gone
        before, after = link.verdict, self._verdict(link.name, link.observed)
        if (before.state, before.source) == (after.state, after.source):
            link.verdict = Verdict(link.name, after.state, after.reason, before.since, after.source)
            return
        link.verdict = after
        emit(LINK_CHANGED, link=link.name, state=after.state, reason=after.reason, source=after.source)
        self._on_change(after)

    def _verdict(self, name: str, observed: Observation) -> Verdict:
        if manual := self._manual.get(name):
            reason = f"declared {manual.value} by hand (`masqmail link auto {name}` gives it back)"
            return Verdict(name, manual, reason, self._clock.now(), Source.MANUAL)
        return Verdict(name, observed.state, observed.reason, self._clock.now())


async def ask_safely(name: str, detector: Detector) -> Observation:
    """A detector's fresh answer; unknown, with the reason, where it fails."""
    try:
        return await detector.ask()
    except Exception as error:
        return _failure(name, error)


def _failure(name: str, error: Exception) -> Observation:
    is_ours = not isinstance(error, OSError)
    emit(DETECTOR_FAILED, level=WARNING, exception=error if is_ours else None, link=name, reason=error)
    return unknown(f"its detector failed: {error}")
