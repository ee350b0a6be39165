"""The journal of a restore, the process that stands by it, and what comes after a kill.

Rules upheld here:
- A process of its own waits at the other end of a pipe: when the restore dies, however it does, all is undone.
- What even that could not do (the host lost its power) is never done unasked later: somebody may have helped himself
  since. `holdfast thaw` does it; until then backups and restores of the stack are refused, and `doctor` tells.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

from holdfast.engine.client import Engine, connect
from holdfast.engine.journal import (
    RESTORES,
    Journal,
    Line,
    Record,
    Undo,
    forget_journal,
    journals,
    read_journal,
    state_folder,
    taken_over,
)
from holdfast.engine.watchdog import READY, Watchdog, alone_with_its_parent
from holdfast.errors import EngineUnavailable, HoldfastError, RestoreError, SourceBusy
from holdfast.services.rebuild_undo import finish, settle, undo_all

_PATIENCE = 600.0


class Steps:
    """What was done so far; `intend` comes before each step."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.taken: list[Undo] = []

    def intend(self, *steps: Undo) -> None:
        """Write steps down. When this returns they may be taken."""
        self.taken.extend(steps)
        self._journal.add(*(Line(undo=step) for step in steps))


@contextmanager
def undone_unless_whole(engine: Engine | None, stack: str, tell: Callable[[str], object]) -> Iterator[Steps]:
    """The journal for the time of the block, which ends with everything whole, or with everything undone.

    Without an engine no step may be taken that needs one.
    What could not be undone, or removed in the end, is told by calling `tell`. Raises: what the block raises.
    """
    url = engine.url if engine else ""
    journal = Journal(state_folder(), engine=url, stack=stack, written=time.time(), suffix=RESTORES)
    with Watchdog(journal.path, url, 0.0, module=__name__) as watchdog:
        left: list[str] | None = None
        steps = Steps(journal)
        try:
            watchdog.wait_until_ready()
            try:
                yield steps
            except BaseException:
                left = undo_all(engine, steps.taken)
                raise
            else:
                journal.add(Line(committed=True))
                left = finish(engine, steps.taken)
        finally:
            for line in left or ():
                tell(f"a step of the restore left something behind: {line}")
            journal.close(remove=left == [])
            if left is not None:
                watchdog.done()  # else undoing was interrupted itself: the watchdog goes on with it


def refuse_unfinished(stack: str) -> None:
    """Raise when a restore of the stack was killed and not settled. Raises: SourceBusy."""
    for path in journals(state_folder(), RESTORES):
        try:
            found = read_journal(path)
        except FileNotFoundError:
            continue
        if found.stack == stack:
            raise SourceBusy(
                "a restore of this stack was killed and is half done",
                which=stack,
                found=path,
                hint="holdfast thaw puts everything back as it was before it, or finishes it where it was whole",
            )


def settle_left() -> list[str]:
    """Bring what killed restores left to an end; one line for each. Raises: the first failure, after all were tried.

    The journal of one that could not be settled wholly stays, and with it the refusal to back the stack up.
    """
    lines: list[str] = []
    problems: list[HoldfastError] = []
    for path in journals(state_folder(), RESTORES):
        with taken_over(path) as record:
            if record is None:
                continue
            try:
                with _connected(record.engine) as engine:
                    left = settle(engine, record)
            except HoldfastError as error:
                problems.append(error)
                continue
            if left:
                problems.append(_not_settled(record, left))
                continue
            ended = "its old data was removed" if record.committed else "everything is as it was before"
            lines.append(f"{record.stack}: a restore was killed; {ended}")
            forget_journal(path)
    if problems:
        raise problems[0]
    return lines


def _not_settled(record: Record, left: Sequence[str]) -> RestoreError:
    return RestoreError(
        "a restore was killed, and not everything it did could be " + ("finished" if record.committed else "undone"),
        which=record.stack,
        found="; ".join(left),
        hint=f"put it right and run holdfast thaw again; where it was settled by hand: rm {record.path}",
    )


def _connected(url: str) -> AbstractContextManager[Engine | None]:
    return connect(url) if url else nullcontext()


def main() -> None:
    """The child's own start: its journal, and its engine."""
    alone_with_its_parent()
    path, url, _ = sys.argv[1:]
    with _connected(url):
        pass  # it answers, and everything is loaded
    os.write(1, READY)
    if os.read(0, 1):
        return
    with taken_over(path, wait=True) as record:
        if record is not None and _settled(path, url):
            forget_journal(path)


def _settled(path: str, url: str) -> bool:
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            with _connected(url) as engine:
                return not settle(engine, read_journal(path))
        except EngineUnavailable:
            if time.monotonic() > end:
                return False
            time.sleep(1.0)


if __name__ == "__main__":
    main()
