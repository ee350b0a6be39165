"""Timelines: where each one forked from its parent, and which one holds a given stretch of the WAL.

Rules upheld here:
- A history file is understood completely or refused.
- Along one history every address belongs to exactly one timeline; the segment in which a fork lies belongs to the
  child, which begins with a copy of what the parent had written of it.

Source: PostgreSQL, src/backend/access/transam/timeline.c (readTimeLineHistory, tliInHistory), xlogrecovery.c
(XLogFileReadAnyTLI).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from holdfast.model.wal import Lsn


@dataclass(frozen=True, slots=True)
class Switch:
    """A timeline was left at an address, for its child."""

    timeline: int
    at: Lsn


@dataclass(frozen=True, slots=True)
class Stretch:
    """The part of a history that lies on one timeline: from `begin` up to `end`, None for the last one."""

    timeline: int
    begin: Lsn
    end: Lsn | None


@dataclass(frozen=True, slots=True)
class TimelineHistory:
    """How a timeline came to be: its ancestors in order, each with the address at which it was left."""

    timeline: int
    switches: tuple[Switch, ...] = ()

    @classmethod
    def parse(cls, timeline: int, text: str) -> TimelineHistory:
        """Read a history file. Raises: ValueError."""
        switches: list[Switch] = []
        for line in text.splitlines():
            words = line.split("#", 1)[0].split()
            if not words:
                continue
            if len(words) < 2 or not words[0].isdigit():
                raise ValueError(f"not a line of a history file: {line!r}")
            switch = Switch(int(words[0]), Lsn.parse(words[1]))
            if switches and (switch.timeline <= switches[-1].timeline or switch.at < switches[-1].at):
                raise ValueError(f"the history goes backwards at {line!r}")
            switches.append(switch)
        if switches and switches[-1].timeline >= timeline:
            raise ValueError(f"timeline {timeline} cannot come from timeline {switches[-1].timeline}")
        return cls(timeline, tuple(switches))

    def text(self) -> str:
        """As PostgreSQL writes it."""
        return "".join(f"{switch.timeline}\t{switch.at}\tno recovery target specified\n" for switch in self.switches)

    @property
    def stretches(self) -> tuple[Stretch, ...]:
        """The whole history from LSN 0, oldest first."""
        return tuple(self._stretches())

    def _stretches(self) -> Iterator[Stretch]:
        begin = Lsn(0)
        for switch in self.switches:
            yield Stretch(switch.timeline, begin, switch.at)
            begin = switch.at
        yield Stretch(self.timeline, begin, None)

    def contains(self, timeline: int, lsn: int) -> bool:
        """Whether what was written on `timeline` up to `lsn` is part of this history."""
        return any(
            stretch.timeline == timeline and (stretch.end is None or lsn <= stretch.end) for stretch in self.stretches
        )

    def owner(self, number: int, size: int) -> int:
        """The timeline whose file holds a segment number in this history: the newest that had begun by then.

        PostgreSQL itself goes back to an older timeline's file where that one is missing, also behind the fork, where
        it holds what this history never saw.
        """
        return next(stretch.timeline for stretch in reversed(self.stretches) if stretch.begin // size <= number)
