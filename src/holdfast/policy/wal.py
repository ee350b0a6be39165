"""What an archive of WAL is good for: which stretches are whole, where it breaks off. Pure: names in, answers out.

Rules upheld here:
- A segment is there when a file of exactly its name is, on the timeline that it belongs to along a history. An older
  timeline's file never takes its place: a server that was left behind may have gone on writing there.
- A partial segment counts only as the last: nothing after it can be reached.
- A gap is missing segments with later ones of the same timeline behind them; a timeline that just ends has none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from holdfast.model.timeline import TimelineHistory
from holdfast.model.wal import DEFAULT_SEGMENT_SIZE, Lsn, WalKind, WalName, WalSegment


@dataclass(frozen=True, slots=True)
class Stock:
    """What the archive of one cluster holds: segment numbers and partial ones by timeline, and the histories.

    A timeline that was never forked (the first) needs no history file; `histories` holds those that were read.
    """

    segment_size: int = DEFAULT_SEGMENT_SIZE
    segments: dict[int, frozenset[int]] = field(default_factory=dict)
    partials: dict[int, frozenset[int]] = field(default_factory=dict)
    histories: dict[int, TimelineHistory] = field(default_factory=dict)

    @property
    def timelines(self) -> list[int]:
        """Every timeline of which anything is known, oldest first."""
        return sorted({*self.segments, *self.partials, *self.histories})

    def history(self, timeline: int) -> TimelineHistory | None:
        """A timeline's history; None for one whose file is missing. Timeline 1 has none to miss."""
        return self.histories.get(timeline) or (TimelineHistory(timeline) if timeline == 1 else None)

    def has(self, segment: WalSegment) -> bool:
        """Whether the whole segment is there."""
        return segment.number in self.segments.get(segment.timeline, ())


@dataclass(frozen=True, slots=True)
class Range:
    """Segments of one timeline, from `first` to `last`, both with it."""

    first: WalSegment
    last: WalSegment

    @property
    def count(self) -> int:
        """How many there are."""
        return self.last.number - self.first.number + 1

    def __str__(self) -> str:
        return self.first.name if self.first == self.last else f"{self.first.name} to {self.last.name}"


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a recovery can go along a history.

    `segments` are the files it needs, in order; `partial` is an unfinished one that follows them. `end` is the address
    after the last whole segment; `missing` the first that is not there though later ones are, None where it just ends.
    """

    segments: tuple[WalSegment, ...]
    end: Lsn
    partial: WalSegment | None = None
    missing: WalSegment | None = None


def stock_of(
    names: Iterable[WalName], histories: Iterable[TimelineHistory] = (), *, segment_size: int = DEFAULT_SEGMENT_SIZE
) -> Stock:
    """The stock that these file names are."""
    whole: dict[int, set[int]] = {}
    partial: dict[int, set[int]] = {}
    for name in names:
        if name.kind in (WalKind.SEGMENT, WalKind.PARTIAL):
            found = whole if name.kind is WalKind.SEGMENT else partial
            found.setdefault(name.timeline, set()).add(name.segment(segment_size).number)
    return Stock(
        segment_size,
        {timeline: frozenset(numbers) for timeline, numbers in whole.items()},
        {timeline: frozenset(numbers) for timeline, numbers in partial.items()},
        {history.timeline: history for history in histories},
    )


def runs(stock: Stock, timeline: int) -> list[Range]:
    """The stretches of a timeline that are whole, oldest first."""
    found: list[Range] = []
    for number in sorted(stock.segments.get(timeline, ())):
        segment = WalSegment(timeline, number, stock.segment_size)
        if found and found[-1].last.number == number - 1:
            found[-1] = Range(found[-1].first, segment)
        else:
            found.append(Range(segment, segment))
    return found


def gaps(stock: Stock, timeline: int) -> list[Range]:
    """What is missing between the stretches of a timeline, oldest first."""
    size, found = stock.segment_size, runs(stock, timeline)
    return [
        Range(
            WalSegment(timeline, before.last.number + 1, size),
            WalSegment(timeline, after.first.number - 1, size),
        )
        for before, after in pairwise(found)
    ]


def reach(stock: Stock, start: Lsn, history: TimelineHistory, *, until: Lsn | None = None) -> Reach:
    """How far the archive leads from an address along a history, or whether it leads as far as `until`.

    With `until` the segment in which the byte before that address lies is the last one needed.
    """
    size = stock.segment_size
    last = None if until is None else max((until - 1) // size, start // size)
    segments: list[WalSegment] = []
    number = start // size
    while last is None or number <= last:
        segment = WalSegment(history.owner(number, size), number, size)
        if not stock.has(segment):
            break
        segments.append(segment)
        number += 1
    end = Lsn(number * size) if segments else start
    if last is not None and number > last:
        return Reach(tuple(segments), end)
    timeline = history.owner(number, size)
    next_one = WalSegment(timeline, number, size)
    partial = next_one if number in stock.partials.get(timeline, ()) else None
    missing = next_one if _anything_from(stock, history, number) else None
    return Reach(tuple(segments), end, partial, missing)


def branches(stock: Stock, history: TimelineHistory) -> list[WalSegment]:
    """What else there is: the last segment of each timeline that goes on where this history does not, oldest first."""
    size, found = stock.segment_size, []
    for timeline in stock.timelines:
        beside = [n for n in stock.segments.get(timeline, ()) if history.owner(n, size) != timeline]
        # The one that was unfinished when the timeline was left is no more than this history has.
        beside += [n for n in stock.partials.get(timeline, ()) if n and history.owner(n - 1, size) != timeline]
        if beside:
            found.append(WalSegment(timeline, max(beside), size))
    return found


def _anything_from(stock: Stock, history: TimelineHistory, number: int) -> bool:
    """Whether the archive goes on behind a missing segment, on a timeline that the history is on by then."""
    for stretch in history.stretches:
        for kinds in (stock.segments, stock.partials):
            numbers = kinds.get(stretch.timeline, ())
            if any(n > number and history.owner(n, stock.segment_size) == stretch.timeline for n in numbers):
                return True
    return False


def rank(stock: Stock, timeline: int) -> tuple[bool, int]:
    """The newest timeline is the greatest; one of which nothing but its history is archived comes below all others."""
    return bool(stock.segments.get(timeline) or stock.partials.get(timeline)), timeline


def descendants(stock: Stock, timeline: int, lsn: Lsn) -> Iterator[TimelineHistory]:
    """The histories of which what was written on `timeline` up to `lsn` is a part, in order of their rank."""
    for other in sorted({*stock.timelines, timeline}, key=lambda one: rank(stock, one), reverse=True):
        history = stock.history(other) or (TimelineHistory(timeline) if other == timeline else None)
        if history is not None and history.contains(timeline, lsn):
            yield history
