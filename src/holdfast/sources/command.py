"""The standard output of a command as a source: one file, believed only when the command succeeded and said enough.

Rules upheld here:
- The exit status is seen before the content ends (the runner's streams raise before their last read), and so is the
  size: what is too short, or shrank too much since the last time, raises before anything is committed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from holdfast.errors import CommandFailed, HoldfastError, SourceEmpty
from holdfast.model.entry import ByteStream, CommandRunner, Entry, Kind


@dataclass(frozen=True, slots=True)
class Expected:
    """How long the output has to be: bytes, and the share of the last size (if one is known) that it may lose."""

    least: int = 1
    last: int | None = None
    shrink: float = 1.0

    def problem(self, size: int) -> tuple[str, str] | None:
        """What was wanted and what to do, when a size is not enough."""
        if size < self.least:
            return f"at least {self.least} bytes", "run the command by hand, and look at what it says"
        if self.last is not None and size < self.last * (1 - self.shrink):
            wanted = f"not less than {1 - self.shrink:.0%} of the last {self.last} bytes"
            return wanted, "if it is meant to be that small: --allow-empty"
        return None


class CommandSource:
    """One command, run where `runner` runs it: a Source of one file."""

    def __init__(
        self,
        runner: CommandRunner,
        argv: Sequence[str],
        *,
        label: str,
        file: str,
        expected: Expected,
        timeout: float,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self._runner, self._argv, self._label, self._file = runner, tuple(argv), label, file
        self._expected, self._timeout, self._now = expected, timeout, now
        self._size = 0

    @property
    def label(self) -> str:
        """`command:shop-redis`."""
        return self._label

    @property
    def notes(self) -> Sequence[str]:
        """A command leaves nothing out that could be known."""
        return ()

    def facts(self) -> Mapping[str, object]:
        """The size, which the next run compares with. The arguments may hold secrets and are not kept."""
        return {"program": self._argv[0], "where": self._runner.where, "file": self._file, "size": self._size}

    def entries(self) -> Iterator[Entry]:
        """The folder and the file. Raises: CommandFailed, SourceEmpty, SourceNotFound, SourceUnreadable."""
        now = self._now()
        yield Entry(b"", Kind.DIR, 0o700, mtime_ns=now, ctime_ns=now)
        yield Entry(self._file.encode(), Kind.FILE, 0o600, mtime_ns=now, ctime_ns=now, content=self)

    def open(self) -> ByteStream:
        """Start the command."""
        return _Checked(self._runner.stream(self._argv), self)

    def check(self, size: int) -> None:
        """Raise unless the output is as long as it has to be."""
        self._size = size
        problem = self._expected.problem(size)
        if problem is not None:
            wanted, hint = problem
            raise SourceEmpty(
                "a command's output is too short", which=self._label, wanted=wanted, found=f"{size} bytes", hint=hint
            )

    @property
    def timeout(self) -> float:
        """Seconds that it may take."""
        return self._timeout


class _Checked:
    """The output, with its size and its time watched."""

    def __init__(self, stream: ByteStream, source: CommandSource) -> None:
        self._stream, self._source = stream, source
        self._size, self._late = 0, False
        self._timer = threading.Timer(source.timeout, self._expire)
        self._timer.daemon = True
        self._timer.start()

    def read(self, size: int, /) -> bytes:
        try:
            piece = self._stream.read(size)
        except HoldfastError as error:
            if self._late:
                raise CommandFailed(
                    "a command took too long and was stopped",
                    which=self._source.label,
                    wanted=f"at most {self._source.timeout:.0f} s",
                    hint="give it more time with `timeout`",
                ) from error
            raise
        self._size += len(piece)
        if not piece:
            self._source.check(self._size)
        return piece

    def close(self) -> None:
        self._timer.cancel()
        self._stream.close()

    def _expire(self) -> None:
        self._late = True
        try:
            self._stream.close()
        except HoldfastError:
            return  # whoever reads gets an error of its own
