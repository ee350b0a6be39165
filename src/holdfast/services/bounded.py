"""A bound on how long a block may take: what hangs is ended, and what it holds is let go on the way out."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from holdfast.errors import DrillFailed
from holdfast.model.words import seconds as words


class _OutOfTime(BaseException):
    """Passes through everything that handles errors on the way: only the block itself may be ended by it."""


@contextmanager
def bounded(limit: float, what: str) -> Iterator[None]:
    """Raise DrillFailed inside the block after `limit` seconds, so that its own cleanup runs.

    It works by a signal, in a process's main thread; elsewhere there is no way to stop a thread, and no bound.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def over(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  signal's signature
        raise _OutOfTime

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        yield
    except _OutOfTime as error:
        raise DrillFailed("it took too long and was ended", which=what, wanted=f"at most {words(limit)}") from error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
