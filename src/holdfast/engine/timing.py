"""A deadline for what has no timeout of its own: at its end something is done that makes the wait end."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from holdfast.errors import HoldfastError


class Deadline:
    """Calls `end` from a thread when the block takes longer than so many seconds; `passed` tells whether it did."""

    def __init__(self, seconds: float, end: Callable[[], None]) -> None:
        self.passed = False
        self._end = end
        self._timer = threading.Timer(seconds, self._expire)
        self._timer.daemon = True

    def __enter__(self) -> Deadline:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def _expire(self) -> None:
        self.passed = True
        with contextlib.suppress(HoldfastError):  # whoever waits gets its own error
            self._end()
