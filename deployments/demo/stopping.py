"""Ctrl-C and SIGTERM: the first one ends the story, and nothing interrupts the cleaning up after it.

Rules upheld here:
- The handlers are set whatever this process inherited: a job in the background of a script has SIGINT ignored.
- From the first signal on, and from the end of the story on, further ones are ignored: what was made is removed.
"""

from __future__ import annotations

import signal
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """A signal asked the demo to end; `number` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def listen() -> None:
    """From now on the first of the signals raises Stopped in the main thread."""
    for number in SIGNALS:
        signal.signal(number, _stop)


def ignore() -> None:
    """From now on the signals do nothing."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _stop(number: int, _frame: FrameType | None) -> None:
    ignore()
    raise Stopped(number)
