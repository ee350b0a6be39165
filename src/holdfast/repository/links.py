"""Hard links: the further names of a file get the content of the first, without reading it again.

Rules upheld here:
- A name gets the first one's content only when what was read was its own inode: the first name may have gone, or have
  become another file, before it was read.
- A file whose further names were not met yet is remembered by its blobs alone: there may be millions of them.
"""

from __future__ import annotations

from holdfast.model.entry import Entry
from holdfast.repository.pending import Captured, PendingFile
from holdfast.repository.tree import Node

_ID_SIZE = 32


class FirstLink:
    """The content of a file that has more links: on its way, or its size and blobs. `left` links are still to come."""

    __slots__ = ("_blobs", "left", "pending", "seen", "size")

    def __init__(self, found: Node | PendingFile, entry: Entry) -> None:
        self.left = entry.links - 1
        self.seen = (entry.size, entry.mtime_ns)
        self.pending: PendingFile | None = None
        self.size, self._blobs = 0, b""
        if isinstance(found, Node):
            self.settle(found.size, found.blobs)
        else:
            self.pending = found

    def settle(self, size: int, content: list[str]) -> None:
        """It was read: its size and the ids of its blobs."""
        self.pending, self.size = None, size
        self._blobs = b"".join(map(bytes.fromhex, content))

    @property
    def content(self) -> list[str]:
        """The ids of its blobs, once it was read."""
        return [self._blobs[at : at + _ID_SIZE].hex() for at in range(0, len(self._blobs), _ID_SIZE)]


class Link(PendingFile):
    """A further hard link to a file whose content is still on its way."""

    __slots__ = ("_first", "is_same")

    def __init__(self, entry: Entry, first: PendingFile) -> None:
        super().__init__(entry)
        self._first = first
        self.is_same = True
        """Whether what was read was this inode: the first name may have gone, or become another file, before."""

    @property
    def submitted(self) -> bool:
        """Whether the first one can be waited for."""
        return self._first.submitted

    def done(self) -> bool:
        """Whether the first one was read."""
        return self._first.done()

    def result(self) -> Captured:
        """What became of the first one; `is_same` tells whether that is this one's content, too."""
        captured = self._first.result()
        read = self._first.entry
        self.is_same = not (captured.vanished or captured.problem) and (read.device, read.inode) == (
            self.entry.device,
            self.entry.inode,
        )
        if self.is_same:
            self.entry.size = read.size
        return captured
