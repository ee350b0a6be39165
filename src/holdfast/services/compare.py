"""Comparing a directory with a snapshot: every entry, every byte, every piece of metadata.

The record is the snapshot itself — its trees and the hashes in them — so the comparison needs nothing of the source,
which may be gone or have changed since.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from holdfast.model.entry import Kind
from holdfast.model.ids import BlobId
from holdfast.model.words import many
from holdfast.repository.gofields import go_mode, parse_time
from holdfast.repository.pack import BlobKind
from holdfast.repository.reader import BlobReader, walk
from holdfast.repository.tree import Node, link_target
from holdfast.services.restore import SnapshotData

_KINDS = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIR,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFSOCK: Kind.SOCKET,
    stat.S_IFCHR: Kind.CHARDEV,
    stat.S_IFBLK: Kind.BLOCKDEV,
}
_BATCH = 256


@dataclass(slots=True)
class Compared:
    """How much was compared, and each difference in one line."""

    files: int = 0
    directories: int = 0
    others: int = 0
    bytes: int = 0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{many(self.files, 'file')}, {many(self.directories, 'directory')}, {many(self.bytes, 'byte')}"


def compare_directory(reader: BlobReader, data: SnapshotData, directory: bytes, *, threads: int = 3) -> Compared:
    """Compare a directory with a snapshot's data, exactly.

    Owners are compared when we are root, who alone can restore them. Raises: CorruptObject and the store's errors.
    """
    compared = Compared()
    found = _listing(directory)
    if data.root is not None:
        compared.problems.extend(differences(data.root, b".", os.lstat(directory), directory))
    batch: list[tuple[bytes, Node]] = []
    with ThreadPoolExecutor(threads, "compare") as pool:
        futures = []
        for path, node in walk(reader, data.tree):
            if path not in found:
                compared.problems.append(f"{os.fsdecode(path)}: missing")
                continue
            found.discard(path)
            _count(compared, node)
            batch.append((path, node))
            if len(batch) >= _BATCH:
                futures.append(pool.submit(_compare_batch, reader, directory, batch))
                batch = []
        futures.append(pool.submit(_compare_batch, reader, directory, batch))
        for future in futures:
            compared.problems.extend(future.result())
    compared.problems.extend(f"{os.fsdecode(path)}: not in the snapshot" for path in sorted(found))
    return compared


def _listing(directory: bytes) -> set[bytes]:
    found = set()
    for parent, directories, files in os.walk(directory):
        below = os.path.relpath(parent, directory)
        for name in (*directories, *files):
            found.add(name if below == b"." else os.path.join(below, name))
    return found


def _count(compared: Compared, node: Node) -> None:
    if node.type == "file":
        compared.files += 1
        compared.bytes += node.size
    elif node.type == "dir":
        compared.directories += 1
    else:
        compared.others += 1


def _compare_batch(reader: BlobReader, directory: bytes, batch: list[tuple[bytes, Node]]) -> list[str]:
    problems: list[str] = []
    for path, node in batch:
        full = os.path.join(directory, path)
        status = os.lstat(full)
        problems.extend(differences(node, path, status, full))
        if node.type == "file" and stat.S_ISREG(status.st_mode) and status.st_size == node.size:
            problems.extend(_content_differences(reader, node, path, full))
    return problems


def differences(node: Node, path: bytes, status: os.stat_result, full: bytes) -> Iterator[str]:
    """How an entry's type and metadata differ from its node, a line each."""
    name = os.fsdecode(path)
    kind = _KINDS[stat.S_IFMT(status.st_mode)]
    if kind.value != node.type:
        yield f"{name}: wanted a {node.type}, found a {kind.value}"
        return
    for what, wanted, found in _facts(node, kind, status, full):
        if wanted != found:
            yield f"{name}: {what}: wanted {wanted!r}, found {found!r}"


def _facts(node: Node, kind: Kind, status: os.stat_result, full: bytes) -> Iterator[tuple[str, object, object]]:
    if kind is not Kind.SYMLINK:
        yield "mode", oct(node.mode), oct(go_mode(kind, stat.S_IMODE(status.st_mode)))
    if os.geteuid() == 0:
        yield "owner", (node.uid, node.gid), (status.st_uid, status.st_gid)
    yield "mtime", parse_time(node.mtime), status.st_mtime_ns
    if kind is Kind.FILE:
        yield "size", node.size, status.st_size
    elif kind is Kind.SYMLINK:
        yield "link target", link_target(node), os.readlink(full)
    elif kind in (Kind.CHARDEV, Kind.BLOCKDEV):
        yield "device", node.device, status.st_rdev
    wanted = {attribute.name: attribute.value or b"" for attribute in node.extended_attributes or ()}
    names = os.listxattr(full, follow_symlinks=False)
    if wanted or names:
        yield "attributes", wanted, {each: os.getxattr(full, each, follow_symlinks=False) for each in names}


def _content_differences(reader: BlobReader, node: Node, path: bytes, full: bytes) -> Iterator[str]:
    offset = 0
    with open(full, "rb", buffering=0) as file:
        for text in node.blobs:
            blob = BlobId(bytes.fromhex(text))
            size = reader.locate(BlobKind.DATA, blob).size
            if hashlib.sha256(_read_exactly(file.fileno(), size, offset)).digest() != blob:
                yield f"{os.fsdecode(path)}: content differs between bytes {offset} and {offset + size}"
            offset += size


def _read_exactly(fd: int, size: int, offset: int) -> bytes:
    data = os.pread(fd, size, offset)
    while len(data) < size and (more := os.pread(fd, size - len(data), offset + len(data))):
        data += more
    return data
