"""How many threads may work at once, however many wait for a store.

Rules upheld here:
- Waiting for a store is done by as many threads as there are connections; hashing, decompressing and writing by as many
  as there are cores. More of them would only take the interpreter from each other: with four threads on two cores the
  restore of 50,000 small files spends half as much time again in the kernel, handing the interpreter's lock around.
"""

from __future__ import annotations

import os
import threading

_LEAST, _MOST = 2, 8


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def workers_for(count: int) -> int:
    """Threads that work, on so many cores: of two one may still wait for the disk, and memory has an end."""
    return min(max(count, _LEAST), _MOST)


AT_WORK = threading.BoundedSemaphore(workers_for(cores()))
"""To be held while working on what was fetched."""
