"""How the process takes memory: settings of the C library and of the garbage collector for work that streams.

Rules upheld here:
- A backup holds many buffers of 1 to 16 MiB for a moment. glibc keeps freed ones in an arena for each thread: the peak
  of a 2 GiB backup was 240 to 320 MiB, and is 200 to 235 MiB with one arena, in the same time. (Giving large buffers
  back at once, by a fixed M_MMAP_THRESHOLD, makes it 160 MiB and takes an eighth longer.)
- A flow run is a process of its own whose libraries have threads before a flow begins: there the environment
  (MALLOC_ARENA_MAX) says the same from the start, and this function the rest.
- Where the C library is another one (musl, macOS) nothing is changed.

Source: mallopt(3).
"""

from __future__ import annotations

import ctypes
import gc
import platform

_ARENA_MAX = -8  # M_ARENA_MAX of glibc's malloc.h


def settle_memory() -> None:
    """To be called once, before threads are started."""
    # Hundreds of thousands of small records without cycles: looking for cycles each 700 of them is waste.
    gc.set_threshold(100_000, 20, 100)
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)
