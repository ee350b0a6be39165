"""How the process takes memory: settings of the C library and of the garbage collector for work that streams.

Rules upheld here:
- A backup holds many buffers of 1 to 16 MiB for a moment. glibc keeps freed ones in an arena for each thread: the peak
  of a 2 GiB backup was 240 to 320 MiB, and is 200 to 235 MiB with one arena, in the same time. (Giving large buffers
  back at once, by a fixed M_MMAP_THRESHOLD, makes it 160 MiB and takes an eighth longer.)
- Only what is as large as a pack is given back at once: packs of many sizes among small records leave the heap in
  pieces, into which the next one does not fit. A check of 20 GiB came to 390 MiB by it, and takes 200.
- A flow run is a process of its own whose libraries have threads before a flow begins: there the environment
  (MALLOC_ARENA_MAX) says the same from the start, and this function the rest.
- Where the C library is another one (musl, macOS) nothing is changed.

Source: mallopt(3).
"""

from __future__ import annotations

import ctypes
import gc
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # glibc's malloc.h
_AS_LARGE_AS_A_PACK = 12 << 20
_KEPT = 64 << 20
"""What is free at the heap's end and is not given back each time: setting the other switches its own measure off."""


def settle_memory() -> None:
    """To be called once, before threads are started."""
    # Hundreds of thousands of small records without cycles: looking for cycles each 700 of them is waste.
    gc.set_threshold(100_000, 20, 100)
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(_ARENA_MAX, 1)
        library.mallopt(_MMAP_THRESHOLD, _AS_LARGE_AS_A_PACK)
        library.mallopt(_TRIM_THRESHOLD, _KEPT)
