"""The helper processes of a writer: started once there are many small files, ended with it.

Rules upheld here:
- A helper is a convenience. Where none can be had, or one dies, the caller does the work by itself; that is told once.
- Few files start none: a process costs as much as a thousand small files.
- A helper gets the environment that all children get: without passwords and credentials (`model.environment`).
"""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from contextlib import suppress
from queue import SimpleQueue
from typing import BinaryIO, cast

import msgspec

from holdfast.model.environment import for_children
from holdfast.repository.cores import cores
from holdfast.repository.crypto import MasterKey
from holdfast.repository.sealing import Sealed, Setup, Wanted, receive, send

log = logging.getLogger(__name__)

START_AFTER = 2000
"""Files that are done without helpers before any is started."""

_MOST = 4
_END_SECONDS = 10.0


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
        self._started: list[_Helper] = []
        self._idle: SimpleQueue[_Helper | None] = SimpleQueue()

    def seal(self, wanted: list[Wanted]) -> list[Sealed] | None:
        """What became of these files, in order; None when the caller should do it. Waits for a helper that is free."""
        if not self._ready(len(wanted)):
            return None
        helper = self._idle.get()
        answer = None
        try:
            answer = helper.ask(wanted) if helper else None
        finally:
            # What died leaves its place empty, so that nobody waits for it.
            self._idle.put(helper if answer is not None else None)
        return answer

    def close(self) -> None:
        """End the processes."""
        with self._lock:
            started, self._started, self._count = self._started, [], 0
        for helper in started:
            helper.close()

    def _ready(self, files: int) -> bool:
        with self._lock:
            self._asked += files
            if self._started:
                return True
            if self._count == 0 or self._asked < START_AFTER:
                return False
            try:
                self._start()
            except OSError as error:
                self._count = 0
                log.warning("no helper processes: %s", error)
            return bool(self._started)

    def _start(self) -> None:
        for _ in range(self._count):
            helper = _Helper(self._setup)
            self._started.append(helper)
            self._idle.put(helper)


class _Helper:
    def __init__(self, setup: Setup) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "holdfast.repository.sealing"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=for_children(),
        )
        self._decoder = msgspec.msgpack.Decoder(list[Sealed])
        self._to = cast("BinaryIO", self._process.stdin)
        self._from = cast("BinaryIO", self._process.stdout)
        with suppress(OSError):  # then the first question fails, too, and says so
            send(self._to, setup)

    def ask(self, wanted: list[Wanted]) -> list[Sealed] | None:
        try:
            send(self._to, wanted)
            answer = receive(self._from)
        except OSError:
            answer = None
        if answer is None:
            log.warning("a helper process (%d) died; its work is done without it", self._process.pid)
            return None
        return self._decoder.decode(answer)

    def close(self) -> None:
        with suppress(OSError):
            self._to.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._from.close()


def _cores() -> int:
    return min(cores(), _MOST) if cores() > 1 else 0
