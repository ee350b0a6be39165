"""A thread that hands on the newest value, and forgets those that were overtaken: for what is shown and may be late.

Rules upheld here:
- Putting a value never waits, however long handing on the one before it takes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Latest(Generic[T]):
    """Calls `send` with the newest value, in a thread of its own that ends with the process."""

    def __init__(self, send: Callable[[T], None]) -> None:
        self._send = send
        self._changed = threading.Condition()
        self._waiting: list[T] = []
        self._busy = False
        self._thread: threading.Thread | None = None

    def put(self, value: T) -> None:
        """Hand on this value when the one before it is handed on, unless a newer one comes."""
        with self._changed:
            self._waiting = [value]
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def finish(self, seconds: float) -> bool:
        """Wait until everything is handed on, but no longer than so many seconds; whether it was."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._busy, seconds)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                value = self._waiting.pop()
                self._busy = True
            try:
                self._send(value)
            finally:
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()
