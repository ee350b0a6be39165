"""Files that a worker reads in one piece: small ones in batches, by a helper process where there is one.

Rules upheld here:
- A file that has grown since it was listed is read all the same: piece by piece, right here.
- One that cannot be read takes no other of its batch with it.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from holdfast.model.entry import Entry
from holdfast.model.ids import BlobId
from holdfast.repository.chunker import FileRange, cut_stream, fixed_groups
from holdfast.repository.local_file import GrownTooLarge, held_still, look_of, open_file, read_file, status_of
from holdfast.repository.pack import BlobKind
from holdfast.repository.pending import Captured
from holdfast.repository.saving import adopt, failed, path_of, save_group, save_pieces
from holdfast.repository.sealing import Sealed, Wanted
from holdfast.repository.writer import BlobWriter, SealedBlob

WHOLE_FILE = 4 << 20
"""Files up to this size are read by one worker in one piece; larger ones by a thread of their own, chunk by chunk."""


class WholeFiles:
    """Reads files of up to `WHOLE_FILE` bytes; `on_bytes` is told how many were read."""

    def __init__(self, blobs: BlobWriter, on_bytes: Callable[[int], None]) -> None:
        self._blobs, self._on_bytes = blobs, on_bytes

    def read(self, entries: list[Entry]) -> list[Captured]:
        """What became of each."""
        return [self._read_whole(entry) for entry in entries]

    def read_batch(self, entries: list[Entry]) -> list[Captured]:
        """The same for a batch of small ones."""
        if any(entry.inspect is not None or entry.cut for entry in entries):
            return self.read(entries)
        sealed = self._blobs.helpers.seal([Wanted(path_of(entry), entry.fuzzy) for entry in entries])
        if sealed is None:
            return self.read(entries)
        new = [SealedBlob(BlobId(file.blob), file.stored, file.raw_length, file.size) for file in sealed if file.blob]
        self._blobs.save_sealed(BlobKind.DATA, new)
        return [self._read_sealed(entry, file) for entry, file in zip(entries, sealed, strict=True)]

    def _read_sealed(self, entry: Entry, file: Sealed) -> Captured:
        if file.error:
            return failed(Captured(), OSError(file.error, os.strerror(file.error)))
        if file.size and not file.blob:
            return self._read_whole(entry)  # it has grown beyond one blob
        adopt(entry, file.look, file.size)
        self._on_bytes(file.size)
        return Captured([file.blob.hex()] if file.blob else [], file.size, changed=file.changed)

    def _read_whole(self, entry: Entry) -> Captured:
        try:
            data, look, changed = read_file(path_of(entry), fuzzy=entry.fuzzy, most=WHOLE_FILE)
        except GrownTooLarge:
            return self._read_grown(entry)
        except OSError as error:
            return failed(Captured(), error)
        if entry.inspect is not None:
            entry.inspect(0, memoryview(data))
        adopt(entry, look, len(data))
        content = save_pieces(self._blobs, data, entry.cut)
        self._on_bytes(len(data))
        return Captured(content, len(data), changed=changed)

    def _read_grown(self, entry: Entry) -> Captured:
        """A file that was small when it was listed: piece by piece, right here, once."""
        captured = Captured()
        try:
            fd = open_file(path_of(entry))
            try:
                before = status_of(fd)
                stream = FileRange(fd, 0, before.st_size)
                pieces = fixed_groups(stream, entry.cut) if entry.cut else cut_stream(stream)
                for piece in pieces:
                    captured.content += save_group(self._blobs, piece, captured.size, entry)
                    captured.size += len(piece)
                    self._on_bytes(len(piece))
                captured.changed = not entry.fuzzy and not held_still(before, os.fstat(fd), captured.size)
            finally:
                os.close(fd)
        except OSError as error:
            return failed(captured, error)
        adopt(entry, look_of(before), captured.size)
        return captured
