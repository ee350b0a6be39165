"""Contents that are on their way: what an entry's bytes became, or will have become once a worker is through.

Rules upheld here:
- A result is waited for, never guessed: `result` raises what the job raised.
- What went wrong with one file (gone, unreadable, never still) is part of its result, and takes no other with it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from holdfast.model.entry import ByteStream, Entry, LateContent


@dataclass(slots=True)
class Captured:
    """What became of one entry's content: its blobs in order, and what went wrong, in words."""

    content: list[str] = field(default_factory=list)
    size: int = 0
    vanished: bool = False
    problem: str | None = None
    changed: bool = False
    absent: bool = False


class PendingFile:
    """One file whose content is on its way: `result` waits for it."""

    __slots__ = ("_futures", "_outcome", "_position", "_reading", "entry")

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self._outcome: Captured | None = None
        self._futures: list[Future[list[str]]] | Future[list[Captured]] | None = None
        self._reading: Future[list[Future[list[str]]]] | None = None
        self._position = 0

    def wait_for_reading(self, reading: Future[list[Future[list[str]]]]) -> None:
        """The content is the blobs of the jobs that this one starts, in order."""
        self._reading = reading

    def wait_for_chunks(self, futures: list[Future[list[str]]]) -> None:
        """The content is the blobs of these jobs, in order."""
        self._futures = futures

    def wait_in_batch(self, future: Future[list[Captured]], position: int) -> None:
        """The content is one of the results of a batch."""
        self._futures, self._position = future, position

    @property
    def outcome(self) -> Captured:
        """What is known of it so far."""
        if self._outcome is None:
            self._outcome = Captured()
        return self._outcome

    @property
    def submitted(self) -> bool:
        """Whether `result` can be waited for."""
        return self._futures is not None or self._reading is not None

    def done(self) -> bool:
        """Whether `result` returns at once."""
        if self._reading is not None:
            if not self._reading.done() or self._reading.exception() is not None:
                return self._reading.done()
            self._futures, self._reading = self._reading.result(), None
        if isinstance(self._futures, Future):
            return self._futures.done()
        return self._futures is not None and all(future.done() for future in self._futures)

    def result(self) -> Captured:
        """The captured content. Raises what the job raised."""
        if self._reading is not None:
            self._futures, self._reading = self._reading.result(), None
        if isinstance(self._futures, Future):
            self._outcome = self._futures.result()[self._position]
        elif self._futures:
            self.outcome.content = [blob for future in self._futures for blob in future.result()]
        self._futures = []
        return self.outcome


class LateFile(PendingFile):
    """A file whose content is known only at the end (`LateContent`)."""

    __slots__ = ("_content", "_save")

    def __init__(self, entry: Entry, content: LateContent, save: Callable[[bytes], str]) -> None:
        super().__init__(entry)
        self._content, self._save = content, save

    @property
    def submitted(self) -> bool:
        """Nothing has to be handed to a worker."""
        return True

    def done(self) -> bool:
        """Whether the source has said what it is."""
        return self._content.known

    def result(self) -> Captured:
        """The content, saved now. Raises: ValueError while it is not known."""
        if not self._content.known:
            raise ValueError("the source ended without saying what a late content is")
        data = self._content.data
        if data is None:
            return Captured(absent=True)
        self.entry.size = len(data)
        return Captured([self._save(data)] if data else [], len(data))


@dataclass(frozen=True, slots=True)
class HeldContent:
    """A content that was read before its entry's turn came."""

    pending: PendingFile

    def open(self) -> ByteStream:
        """It was read already, and cannot be read again."""
        raise ValueError("this content was read already")
