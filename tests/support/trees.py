"""Trees for tests: building them, and describing them exactly so that two can be compared."""

from __future__ import annotations

import hashlib
import os
import random
import socket
import stat
from pathlib import Path
from typing import NamedTuple


class Facts(NamedTuple):
    """Everything about one entry that a restore must bring back."""

    mode: int
    owner: tuple[int, int]
    size: int
    mtime_ns: int
    device: int
    links: int
    content: bytes
    xattrs: dict[str, bytes]


def describe(root: str | os.PathLike[str], *, directory_times: bool = True) -> dict[bytes, Facts]:
    """Every entry below (and with) a root, by relative path."""
    base = os.fsencode(root)
    found = {b".": _facts(base, directory_times)}
    for parent, directories, files in os.walk(base):
        for name in (*directories, *files):
            path = os.path.join(parent, name)
            found[os.path.relpath(path, base)] = _facts(path, directory_times)
    return found


def _facts(path: bytes, directory_times: bool) -> Facts:
    status = os.lstat(path)
    is_directory = stat.S_ISDIR(status.st_mode)
    is_device = stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)
    content = b""
    if stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
    elif stat.S_ISLNK(status.st_mode):
        content = os.readlink(path)
    names = os.listxattr(path, follow_symlinks=False)
    return Facts(
        mode=status.st_mode,
        owner=(status.st_uid, status.st_gid),
        size=0 if is_directory else status.st_size,
        mtime_ns=0 if is_directory and not directory_times else status.st_mtime_ns,
        device=status.st_rdev if is_device else 0,
        links=0 if is_directory else status.st_nlink,
        content=content,
        xattrs={name: os.getxattr(path, name, follow_symlinks=False) for name in names},
    )


def build_sample(root: Path, *, seed: int = 1, files: int = 40) -> None:
    """A small tree of many kinds: sizes around the chunker's bounds, links, empty things, odd names."""
    chance = random.Random(seed)
    root.mkdir(parents=True, exist_ok=True)
    for number in range(files):
        folder = root / f"dir {number % 5}" / ("deep" if number % 3 else "")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"file-{number}.bin").write_bytes(chance.randbytes(chance.choice((0, 1, 100, 5_000, 70_000))))
    (root / "medium").write_bytes(chance.randbytes(600_000) + b"text " * 100_000)
    (root / "large").write_bytes(chance.randbytes(9_000_000))
    (root / "empty directory").mkdir()
    os.link(root / "medium", root / "dir 0" / "hard link")
    (root / "link").symlink_to("medium")
    (root / "dangling").symlink_to("no/such/target")
    (root / "dir 1").chmod(0o750)


def build_special(root: Path) -> None:
    """What only root can make, and names and attributes that most tools get wrong."""
    base = os.fsencode(root)
    for name in (b"bad\xff\xfe", b'quote"back\\slash', b"new\nline", b"y" * 255, "日本 \u200b".encode()):
        Path(os.fsdecode(base + b"/" + name)).write_bytes(name)
    os.symlink(b"\xff\xfe", base + b"/raw link")
    os.mkfifo(base + b"/fifo", 0o640)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(os.fsdecode(base + b"/socket"))
    os.mknod(base + b"/null", 0o20666, os.makedev(1, 3))
    os.mknod(base + b"/loop", 0o60660, os.makedev(7, 0))
    suid = base + b"/suid"
    Path(os.fsdecode(suid)).write_bytes(b"x")
    os.chown(suid, 1234, 2345)
    os.chmod(suid, 0o6755)  # noqa: S103  setuid is what must come back
    os.setxattr(suid, "user.colour", b"\x00\xffblue")
    os.setxattr(suid, "trusted.secret", b"")
    with open(base + b"/sparse", "wb") as file:
        file.truncate(100 << 20)
        file.seek(40 << 20)
        file.write(b"data" * 10_000)
    os.utime(suid, ns=(1, 1_234_567_890_123_456_789))
    os.utime(base + b"/raw link", ns=(1, 987_654_321), follow_symlinks=False)
