"""Contents that are on their way: what an entry's bytes became, or will have become once a worker is through.

Rules upheld here:
- A result is waited for, never guessed: `result` raises what the job raised.
- What went wrong with one file (gone, unreadable, never still) is part of its result, and takes no other with it.
- Of a piece that is stored only its id is kept: a job is twenty times as large, and a large file has a million pieces.
"""

from __future__ import annotations

from collections import deque
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


class Pieces:
    """The blobs of the pieces of one file, in order: those of jobs that are done, and the jobs that are not.

    Whoever adds is alone; it is asked for the rest once all were added.
    """

    __slots__ = ("_blobs", "_jobs")

    def __init__(self) -> None:
        self._blobs: list[str] = []
        self._jobs: deque[Future[list[str]]] = deque()

    def add(self, job: Future[list[str]]) -> None:
        """The next piece. Raises what an earlier one's job raised."""
        self._jobs.append(job)
        self._settle()

    def done(self) -> bool:
        """Whether `blobs` returns at once. Raises what a job raised."""
        self._settle()
        return not self._jobs

    def blobs(self) -> list[str]:
        """All of them. Raises what a job raised."""
        while self._jobs:
            self._blobs += self._jobs.popleft().result()
        return self._blobs

    def _settle(self) -> None:
        while self._jobs and self._jobs[0].done():
            self._blobs += self._jobs.popleft().result()


class PendingFile:
    """One file whose content is on its way: `result` waits for it."""

    __slots__ = ("_batch", "_known", "_outcome", "_pieces", "_position", "_reading", "entry")

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self._outcome: Captured | None = None
        self._reading: Future[Pieces] | None = None
        self._pieces: Pieces | None = None
        self._batch: Future[list[Captured]] | None = None
        self._position = 0
        self._known = False

    def wait_for_reading(self, reading: Future[Pieces]) -> None:
        """The content is the pieces that this job reads."""
        self._reading = reading

    def wait_for_pieces(self, pieces: Pieces) -> None:
        """The content are these, all of which were added."""
        self._pieces = pieces

    def wait_in_batch(self, batch: Future[list[Captured]], position: int) -> None:
        """The content is one of the results of a batch."""
        self._batch, self._position = batch, position

    @property
    def outcome(self) -> Captured:
        """What is known of it so far."""
        if self._outcome is None:
            self._outcome = Captured()
        return self._outcome

    @property
    def submitted(self) -> bool:
        """Whether `result` can be waited for."""
        return self._known or any(way is not None for way in (self._batch, self._pieces, self._reading))

    def done(self) -> bool:
        """Whether `result` returns at once. Raises what the job raised."""
        if self._reading is not None:
            if not self._reading.done():
                return False
            self._pieces, self._reading = self._reading.result(), None
        if self._batch is not None:
            return self._batch.done()
        return self._known or (self._pieces is not None and self._pieces.done())

    def result(self) -> Captured:
        """The captured content. Raises what the job raised."""
        if self._reading is not None:
            self._pieces, self._reading = self._reading.result(), None
        if self._batch is not None:
            self._outcome = self._batch.result()[self._position]
        elif self._pieces is not None:
            self.outcome.content = self._pieces.blobs()
        self._batch, self._pieces, self._known = None, None, True
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
