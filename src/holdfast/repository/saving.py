"""What every way of reading a content does with its bytes: saves them as blobs, and gives the entry what was seen."""

from __future__ import annotations

from holdfast.model.entry import Entry, LocalFile
from holdfast.repository.chunker import cut_buffer, cut_fixed
from holdfast.repository.local_file import Look, is_gone
from holdfast.repository.pack import BlobKind
from holdfast.repository.pending import Captured
from holdfast.repository.writer import BlobWriter


def save_group(blobs: BlobWriter, group: memoryview, offset: int, entry: Entry) -> list[str]:
    """Save the bytes at an offset of an entry, as its own cut says, after its own look at them."""
    if entry.inspect is not None:
        entry.inspect(offset, group)
    return save_pieces(blobs, group, entry.cut)


def save_pieces(blobs: BlobWriter, data: bytes | memoryview, cut: int) -> list[str]:
    """Save bytes in pieces of this size, or with 0 where the chunker cuts them: the hex ids in order."""
    if cut:
        return [found.hex() for found in blobs.save_all(BlobKind.DATA, list(cut_fixed(data, cut)))]
    return [blobs.save(BlobKind.DATA, piece).hex() for piece in cut_buffer(bytes(data))]


def path_of(entry: Entry) -> bytes:
    """Where a local file is."""
    assert isinstance(entry.content, LocalFile)  # noqa: S101  whoever reads it sorts contents by type
    return entry.content.path


def adopt(entry: Entry, look: Look, size: int) -> None:
    """Give the entry the open file's metadata."""
    entry.mode, entry.uid, entry.gid, entry.mtime_ns, entry.ctime_ns = look[:5]
    entry.inode, entry.device, entry.links = look[5:]
    entry.size = size


def failed(captured: Captured, error: OSError) -> Captured:
    """A content that cannot be read: that it is gone, or why."""
    captured.content = []
    if is_gone(error):
        captured.vanished = True
    else:
        captured.problem = error.strerror or str(error)
    return captured
