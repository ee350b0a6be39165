"""Memory that this process and its helpers look at together: what was read from a store is handed over without a copy.

Rules upheld here:
- A slot has one user at a time; a helper looks at it only while its user waits for it.
- It is a file that has no name and lies in memory (memfd_create(2)); where there is none, there are no shared buffers.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import NamedTuple


class Slot(NamedTuple):
    """One buffer, and its number."""

    number: int
    buffer: memoryview


class SharedBuffers:
    """So many slots of `size` bytes each. Raises: OSError where there is no such memory."""

    def __init__(self, slots: int, size: int) -> None:
        self.size = size
        self.descriptor = os.memfd_create("holdfast")
        """To be given to helpers, which `map_slots`."""
        try:
            os.ftruncate(self.descriptor, slots * size)
            views = map_slots(self.descriptor, size)
        except OSError:
            os.close(self.descriptor)
            raise
        self._free: SimpleQueue[Slot] = SimpleQueue()
        for number, view in enumerate(views):
            self._free.put(Slot(number, view))

    @contextmanager
    def slot(self) -> Iterator[Slot]:
        """Wait for a slot that is free, and have it for a block."""
        slot = self._free.get()
        try:
            yield slot
        finally:
            self._free.put(slot)

    def close(self) -> None:
        """Nobody uses it any more. The memory goes with the last look at it."""
        os.close(self.descriptor)


def map_slots(descriptor: int, size: int) -> list[memoryview]:
    """The slots behind a descriptor, in order. Raises: OSError."""
    view = memoryview(mmap.mmap(descriptor, os.fstat(descriptor).st_size))
    return [view[at : at + size] for at in range(0, len(view), size)]
