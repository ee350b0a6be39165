"""A bounded look for files that look like secrets: by their names, and by the first bytes of small ones.

Rules upheld here:
- No content leaves this module: what is found are names. Files are opened only to see whether a private key begins.
- Bounded: so many entries, so much time, whatever the directory holds. What lies near the top is looked at first.
- No link below the top is followed: who writes to the directory cannot have another place looked at.
"""

from __future__ import annotations

import os
import stat
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

ENTRIES = 5000
SECONDS = 0.5
SHOWN = 3

_NAMES = frozenset(
    {
        *(f"id_{kind}" for kind in ("rsa", "dsa", "ecdsa", "ecdsa_sk", "ed25519", "ed25519_sk")),
        *(".env", ".pgpass", ".netrc", ".my.cnf", ".s3cfg", ".git-credentials", ".vault-token", ".dockercfg"),
        *("credentials", "credentials.json", "kubeconfig", "rclone.conf"),
    }
)
_ENDINGS = (".key", ".p12", ".pfx", ".kdbx", ".jks", ".ppk", ".keytab")
_EXAMPLES = (".example", ".sample", ".template", ".dist")
_KEY, _HEAD, _PEM_HEAD = b"PRIVATE KEY-----", 64, 4096
_SMALL = 16 << 10
"""A file that is larger holds something else than one key."""

_TOP = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_DIRECTORY = _TOP | os.O_NOFOLLOW
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Cut(StrEnum):
    """What ended a look before everything was seen."""

    ENTRIES = "entries"
    TIME = "time"


@dataclass(frozen=True, slots=True)
class Look:
    """How many files look like secrets, the first few of their paths, and whether there was more to look at."""

    count: int = 0
    paths: tuple[str, ...] = ()
    cut: Cut | None = None


def look_for_secrets(
    root: str, *, entries: int = ENTRIES, seconds: float = SECONDS, clock: Callable[[], float] = time.monotonic
) -> Look:
    """Look at a directory. Raises: OSError when the directory itself cannot be read."""
    deadline, seen, found, cut = clock() + seconds, 0, 0, None
    paths: list[str] = []
    top = os.open(root, _TOP)
    try:
        for path, sensitive in _files(top):
            seen += 1
            if sensitive:
                found += 1
                paths += [path] if len(paths) < SHOWN else []
            if seen >= entries or clock() > deadline:
                cut = Cut.ENTRIES if seen >= entries else Cut.TIME
                break
    finally:
        os.close(top)
    return Look(found, tuple(paths), cut)


def _files(top: int) -> Iterator[tuple[str, bool]]:
    """Every entry below, level by level, and whether it looks like a secret."""
    waiting: deque[tuple[str, ...]] = deque([()])
    while waiting:
        parts = waiting.popleft()
        try:
            folder = _opened(top, parts)
        except OSError:
            continue  # it went, became a link, or may not be read
        try:
            with os.scandir(folder) as listed:
                for entry in listed:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append((*parts, entry.name))
                    yield "/".join((*parts, entry.name)), _is_sensitive(folder, entry)
        finally:
            os.close(folder)


def _opened(top: int, parts: tuple[str, ...]) -> int:
    """A directory below, reached part by part without following a link. Raises: OSError."""
    folder = os.dup(top)
    for part in parts:
        try:
            below = os.open(part, _DIRECTORY, dir_fd=folder)
        finally:
            os.close(folder)
        folder = below
    return folder


def _is_sensitive(folder: int, entry: os.DirEntry[str]) -> bool:
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return False
    if not stat.S_ISREG(status.st_mode) or status.st_size == 0:
        return False
    name = entry.name.lower()
    if name in _NAMES or name.endswith(_ENDINGS):
        return True
    if name.startswith(".env.") and not name.endswith(_EXAMPLES):
        return True
    length = _PEM_HEAD if name.endswith(".pem") else _HEAD
    return status.st_size <= _SMALL and _KEY in _head(folder, entry.name, length)


def _head(folder: int, name: str, length: int) -> bytes:
    """The first bytes of a regular file; none where it cannot be read. Its access time stays, where we may say so."""
    for flags in (_FILE | os.O_NOATIME, _FILE):
        try:
            descriptor = os.open(name, flags, dir_fd=folder)
        except PermissionError:
            continue
        except OSError:
            break
        try:
            return os.read(descriptor, length) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
        except OSError:
            return b""
        finally:
            os.close(descriptor)
    return b""
