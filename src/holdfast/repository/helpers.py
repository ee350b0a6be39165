"""The helper processes of a writer: started once there are many small files, ended with it.

Rules upheld here:
- Few files start none: a process costs as much as a thousand small files.
- Where none can be had, or one dies, the caller does the work by itself.
"""

from __future__ import annotations

import threading

from holdfast.repository.crypto import MasterKey
from holdfast.repository.processes import Hands, at_once, start_helpers
from holdfast.repository.sealing import SEALING, Sealed, Setup, Wanted

START_AFTER = 2000
"""Files that are done without helpers before any is started."""


class Helpers:
    """Processes that seal small files, one per core (none on a machine with one core).

    Args:
        key: the repository's master key.
        level: zstd's level.
        count: processes at most; None asks how many cores there are.
    """

    def __init__(self, key: MasterKey, level: int, count: int | None = None) -> None:
        self._setup = Setup(key.to_json(), level)
        self._count = _cores() if count is None else count
        self._lock = threading.Lock()
        self._asked = 0
        self._hands: Hands[list[Sealed]] | None = None

    def seal(self, wanted: list[Wanted]) -> list[Sealed] | None:
        """What became of these files, in order; None when the caller should do it. Waits for a helper that is free."""
        hands = self._ready(len(wanted))
        if hands is None:
            return None
        with hands.turn() as helper:
            return helper.ask(wanted) if helper else None

    def close(self) -> None:
        """End the processes."""
        with self._lock:
            hands, self._hands, self._count = self._hands, None, 0
        if hands is not None:
            hands.close()

    def _ready(self, files: int) -> Hands[list[Sealed]] | None:
        with self._lock:
            self._asked += files
            if self._hands is None and self._count and self._asked >= START_AFTER:
                started = start_helpers(SEALING, self._setup, self._count)
                self._count = len(started)
                self._hands = Hands(0, started) if started else None
            return self._hands


def _cores() -> int:
    return at_once() if at_once() > 1 else 0
