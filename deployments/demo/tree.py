"""The sample application's files: about 5,000 of them, of every kind that backups like to lose.

Rules upheld here:
- Content differs from run to run; what is asked of it (how many files, which kinds) does not.
- Other owners are given only where this process may do so (root).
"""

from __future__ import annotations

import contextlib
import os
import random

WORDS = b"backup restore proof volume table order customer invoice pending shipped paid refund account".split()
FILES = 4_900
LARGE = 6
OWNERS = ((0, 0), (33, 33), (1000, 1000), (1000, 33))
MODES = (0o644, 0o600, 0o640, 0o755)


def fill(directory: str, chance: random.Random) -> None:
    """Fill an empty directory: small texts and images, a few large files, links, times, modes, owners, holes."""
    for number in range(FILES):
        folder = os.path.join(directory, "uploads", f"{number % 50:02d}", f"{number % 7}")
        os.makedirs(folder, exist_ok=True)
        _write(os.path.join(folder, f"file-{number:05d}"), _small(chance), chance)
    for number in range(LARGE):
        _write(os.path.join(directory, f"video-{number}.bin"), chance.randbytes(5 << 20), chance)
    _oddities(directory, chance)
    _date_folders(directory, chance)


def change(directory: str, chance: random.Random) -> None:
    """What a day of use does: some files are rewritten, some are new, some are gone, a large one has grown."""
    for number in range(0, FILES, 100):
        path = os.path.join(directory, "uploads", f"{number % 50:02d}", f"{number % 7}", f"file-{number:05d}")
        _write(path, _small(chance), chance)
        _write(f"{path}.new", _small(chance), chance)
    for number in range(1, FILES, 400):
        os.unlink(os.path.join(directory, "uploads", f"{number % 50:02d}", f"{number % 7}", f"file-{number:05d}"))
    with open(os.path.join(directory, "video-0.bin"), "ab") as file:
        file.write(chance.randbytes(1 << 20))


def _small(chance: random.Random) -> bytes:
    """A text of some hundred words, or something that does not compress."""
    if chance.random() < 0.5:
        return b" ".join(chance.choices(WORDS, k=chance.randrange(20, 1500)))
    return chance.randbytes(chance.randrange(100, 16_000))


def _write(path: str, content: bytes, chance: random.Random) -> None:
    with open(path, "wb") as file:
        file.write(content)
    _dress(path, chance)


def _dress(path: str, chance: random.Random) -> None:
    if os.geteuid() == 0:
        os.chown(path, *chance.choice(OWNERS))
    os.chmod(path, chance.choice(MODES))
    moment = chance.randrange(1_500_000_000_000_000_000, 1_750_000_000_000_000_000)
    os.utime(path, ns=(moment, moment))


def _oddities(directory: str, chance: random.Random) -> None:
    """Names that are no UTF-8, links of both kinds, a hole, an empty folder, an attribute, a pipe."""
    odd = os.path.join(os.fsencode(directory), b"odd")
    os.mkdir(odd)
    for name in (b"caf\xe9 (latin-1)", "Grüße 你好".encode(), b"line\nbreak", b"-rf", b" space "):
        with open(os.path.join(odd, name), "wb") as file:
            file.write(_small(chance))
    os.link(os.path.join(odd, b"-rf"), os.path.join(odd, b"hardlink"))
    os.symlink(b"-rf", os.path.join(odd, b"symlink"))
    os.symlink(b"/nowhere/at all", os.path.join(odd, b"dangling"))
    os.mkdir(os.path.join(odd, b"empty"), 0o700)
    os.mkfifo(os.path.join(odd, b"pipe"), 0o620)
    with open(os.path.join(odd, b"sparse"), "wb") as file:
        file.truncate(8 << 20)
        file.seek(3 << 20)
        file.write(b"an island in a hole")
    with contextlib.suppress(OSError):  # the filesystem has none
        os.setxattr(os.path.join(odd, b"-rf"), "user.origin", b"demo")


def _date_folders(directory: str, chance: random.Random) -> None:
    """Folders have times of their own; last, because what is made inside them moves their time."""
    for path, _, _ in os.walk(os.path.join(directory, "uploads"), topdown=False):
        moment = chance.randrange(1_500_000_000_000_000_000, 1_750_000_000_000_000_000)
        os.utime(path, ns=(moment, moment))
