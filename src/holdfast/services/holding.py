"""One hold, from the plan to letting go: with a journal of it, and a watchdog that stands by.

Rules upheld here:
- Holding is journaled before it is done, and a watchdog stands by: whatever kills this process, everything is let go.
- Databases are asked for the instant while the others are held already; the container of such a server, where it writes
  a held directory itself, is held last: what is frozen gives no answer.
- A hold that lasted longer than its limit, or that somebody else ended, is no consistent capture, and an error.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from holdfast.engine.client import Engine
from holdfast.engine.hold import Holding, HookCall, Target, going_on, let_go, take_hold
from holdfast.engine.journal import Journal, Line, read_journal, state_folder
from holdfast.engine.watchdog import Watchdog
from holdfast.errors import EngineUnavailable, SourceUnreadable


@dataclass(frozen=True, slots=True)
class FreezePlan:
    """Whom to hold and how, in this order; the hooks around it; for how many seconds at most.

    `last` are containers that are held after the databases were asked: these run in them.
    """

    stack: str
    targets: tuple[Target, ...]
    last: frozenset[str] = frozenset()
    hooks: tuple[HookCall, ...] = ()
    limit: float = 60.0


class Hold:
    """A hold that is ready to be taken: its watchdog stands by."""

    def __init__(self, engine: Engine, journal: Journal, watchdog: Watchdog) -> None:
        self._engine, self._journal, self._watchdog = engine, journal, watchdog
        self.freed = True
        self._snapshots: set[str] = set()

    @property
    def over(self) -> bool:
        """Whether nothing is left that the watchdog, or the next start, has to see to."""
        return self.freed and not self._snapshots

    def freeze(
        self, plan: FreezePlan, instant: Callable[[], Mapping[str, object]], work: Callable[[], None]
    ) -> tuple[Holding, Mapping[str, object]]:
        """Hold, fix the instant, work, let go. Raises: what any of them raises, after everything was let go."""
        self._watchdog.wait_until_ready()
        # Before the watchdog's own count begins: what it let go early must never pass for a hold that was kept.
        started = time.monotonic()
        self._watchdog.holding()
        self.freed = False
        holding = Holding()
        try:
            first = [target for target in plan.targets if target.container.name not in plan.last]
            last = [target for target in plan.targets if target.container.name in plan.last]
            holding.add(take_hold(self._engine, self._journal, first, plan.hooks))
            at = instant()
            holding.add(take_hold(self._engine, self._journal, last, ()))
            work()
            early = going_on(self._engine, holding)
        finally:
            self._let_go(holding)
        seconds = time.monotonic() - started
        if holding.since and seconds > plan.limit:
            raise SourceUnreadable(
                "the containers were held longer than allowed, and were let go before the capture was whole",
                which=", ".join(holding.since),
                wanted=f"at most {plan.limit:.0f} s",
                found=f"{seconds:.1f} s",
                hint="raise hold_limit, or exclude what changes most",
            )
        if early:
            raise SourceUnreadable(
                "somebody let a container go on while it was held, so that the capture is not of one instant",
                which=", ".join(early),
                hint="run it again; docker events tells who started or unpaused it",
            )
        return holding, at

    def note_snapshot(self, path: str) -> None:
        """Write down a filesystem's snapshot that is about to be made."""
        self._snapshots.add(path)
        self._journal.add(Line(snapshot=path))

    def snapshot_gone(self, path: str) -> None:
        """It was removed. One of which that is never said is left to the watchdog."""
        self._snapshots.discard(path)

    def _let_go(self, holding: Holding) -> None:
        try:
            let_go(self._engine, read_journal(self._journal.path), holding)
        except EngineUnavailable:
            # The watchdog goes on trying; it has to know that a container may have ended with its engine.
            self._journal.add(Line(lost=True))
            raise
        self.freed = True


@contextmanager
def prepared(engine: Engine, plan: FreezePlan) -> Iterator[Hold]:
    """Journal and watchdog for the time of the block; the journal stays when something could not be let go."""
    journal = Journal(state_folder(), engine=engine.url, stack=plan.stack, written=time.time())
    hold = None
    try:
        with Watchdog(journal.path, engine.url, plan.limit) as watchdog:
            hold = Hold(engine, journal, watchdog)
            try:
                yield hold
            finally:
                if hold.over:
                    watchdog.done()
    finally:
        journal.close(remove=hold is None or hold.over)
