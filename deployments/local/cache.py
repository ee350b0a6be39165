"""A small cache of big files, which believes only what it can check.

Rules upheld here:
- A file's SHA-256 is part of its name, and is checked before the file is handed out: a truncated one is deleted and
  made anew.
- A file appears under its name complete and synced, by one rename; of one title only the newest is kept.
- One process makes a file while the others wait for it.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator

from deployments.local.machine import cache_folder


def cached(title: str, key: str) -> str | None:
    """The path of a whole cached file, or None; a damaged one is deleted.

    Args:
        title: what it is, such as "postgres-image".
        key: a digest of what it was made from.
    """
    pattern = os.path.join(glob.escape(cache_folder()), f"{title}.{key}.*.tar")
    for path in sorted(glob.glob(pattern)):
        with contextlib.suppress(FileNotFoundError):
            if _digest(path) == path.split(".")[-2]:
                return path
            os.unlink(path)
    return None


def store(title: str, key: str, write: Callable[[str], None]) -> str:
    """Make a file with `write(path)` and keep it; older ones of the same title are dropped. Returns its path.

    Call it inside `one_at_a_time(title)`: whatever lies half-made under this title was left by a kill, and goes.
    """
    folder = cache_folder()
    for name in os.listdir(folder):
        if name.startswith(f".{title}."):
            shutil.rmtree(os.path.join(folder, name))
    with tempfile.TemporaryDirectory(prefix=f".{title}.", dir=folder) as workshop:
        fresh = os.path.join(workshop, "new.tar")
        write(fresh)
        descriptor = os.open(fresh, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        path = os.path.join(folder, f"{title}.{key}.{_digest(fresh)}.tar")
        os.rename(fresh, path)
    for name in os.listdir(folder):
        if re.fullmatch(rf"{re.escape(title)}\.[^.]+\.[0-9a-f]{{64}}\.tar", name) and name != os.path.basename(path):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(folder, name))
    return path


@contextlib.contextmanager
def one_at_a_time(title: str) -> Iterator[None]:
    """Let one process at a time look for and make what has this title."""
    with open(os.path.join(cache_folder(), f"{title}.lock"), "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
