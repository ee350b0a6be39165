"""The dead-man child: lets everything go when its parent dies, however it dies, or when a hold lasts too long.

Rules upheld here:
- It is a session of its own and ignores signals that are meant for its parent; it ends with the word "d" on its input.
- The end of its input without that word means that the parent is dead: it takes the journal over and lets go. An
  engine that does not answer is asked again, for `_PATIENCE` seconds; then the next start of Holdfast does it.
- Everything that it needs is loaded before it says that it is ready: nothing is held before that.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import subprocess
import sys
import time

from holdfast.engine.client import connect
from holdfast.engine.hold import let_go
from holdfast.engine.journal import Record, forget_journal, note_loss, read_journal, taken_over
from holdfast.engine.still import remove_still
from holdfast.errors import EngineRefused, EngineUnavailable, HoldfastError
from holdfast.model.environment import for_children

log = logging.getLogger(__name__)

READY = b"r"
HOLDING, DONE = b"h", b"d"
_PATIENCE = 600.0
_READY_SECONDS = 30.0


class Watchdog:
    """The child, from its parent's side. Use it in a `with` block; leaving it normally or not ends it."""

    def __init__(self, journal: str, engine: str, limit: float, *, module: str = "holdfast.engine.watchdog") -> None:
        argv = [sys.executable, "-m", module, journal, engine, str(limit)]
        self._child = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, cwd="/", env=for_children()
        )

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._child.pid

    def wait_until_ready(self) -> None:
        """Raises: EngineUnavailable when it does not start: then nothing may be held."""
        assert self._child.stdout is not None  # noqa: S101  it is a pipe
        ready, _, _ = select.select([self._child.stdout], [], [], _READY_SECONDS)
        if not ready or self._child.stdout.read(1) != READY:
            raise EngineUnavailable(
                "the watchdog does not start, so that nothing is done", found=f"exit status {self._child.poll()}"
            )

    def holding(self) -> None:
        """From now on the limit counts."""
        self._say(HOLDING)

    def done(self) -> None:
        """Everything was let go: it may end."""
        self._say(DONE)
        self._end()

    def __enter__(self) -> Watchdog:
        return self

    def __exit__(self, *_: object) -> None:
        # Without `done` something is still held: the child takes over as soon as the journal's lock is free.
        if self._child.poll() is None:
            self._close()

    def _say(self, word: bytes) -> None:
        assert self._child.stdin is not None  # noqa: S101  it is a pipe
        with contextlib.suppress(BrokenPipeError, ValueError):  # it let go already, and ended
            self._child.stdin.write(word)
            self._child.stdin.flush()

    def _end(self) -> None:
        self._close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(timeout=_READY_SECONDS)

    def _close(self) -> None:
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def watch(journal: str, engine: str, limit: float) -> None:
    """Wait for the parent's words; let go when it is dead, or too slow. Raises: EngineUnavailable at the start."""
    with connect(engine):
        pass  # it answers, and everything is loaded
    with contextlib.suppress(BrokenPipeError):  # the parent has given up already: the end of its words says so
        os.write(1, READY)
    deadline: float | None = None
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        ready, _, _ = select.select([0], [], [], left)
        if not ready:
            _let_go(journal, engine)  # the parent lives, and holds its lock: the journal stays with it
            deadline = None
            continue
        word = os.read(0, 1)
        if word == DONE:
            return
        if word == HOLDING:
            deadline = time.monotonic() + limit
        elif not word:
            with taken_over(journal, wait=True) as record:
                if record is not None and _let_go(journal, engine) and _removed(record):
                    forget_journal(journal)
            return


def _let_go(journal: str, engine: str) -> bool:
    """Whether everything could be let go."""
    end = time.monotonic() + _PATIENCE
    ran: set[int] = set()
    lost = False
    while True:
        try:
            with connect(engine) as reached:
                let_go(reached, read_journal(journal), ran=ran)
        except (EngineUnavailable, EngineRefused) as error:  # one that just started refuses for a while
            if time.monotonic() > end:
                return False
            if isinstance(error, EngineUnavailable) and not lost:
                lost = True
                note_loss(journal)
            time.sleep(1.0)
        except (HoldfastError, FileNotFoundError):
            return False
        else:
            return True


def _removed(record: Record) -> bool:
    """Whether the filesystems' snapshots of a dead parent are gone."""
    try:
        for path in record.snapshots:
            remove_still(path)
    except HoldfastError as error:
        log.warning("%s", error)
        return False
    return True


def alone_with_its_parent() -> None:
    """Ignore what is meant for the parent."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)


def main() -> None:
    """The child's own start."""
    alone_with_its_parent()
    journal, engine, limit = sys.argv[1:]
    watch(journal, engine, float(limit))


if __name__ == "__main__":
    main()
