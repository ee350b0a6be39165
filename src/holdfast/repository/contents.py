"""Reading the contents of entries into blobs: which content is read how, and what is waited for.

Rules upheld here:
- A file that changes while it is read is read again, or recorded as changing (`local_file`); one that vanished or
  cannot be read is recorded, never passed over in silence.
- Batches of small files go to helper processes, large ones stay here, where the libraries that do the work release
  Python's lock: a thread reads and cuts them while the walk goes on, `_AHEAD` files at most.
- The node's size and times come from the open file, so that they belong to the bytes that were read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, wait

from holdfast.model.entry import Entry, LocalFile
from holdfast.repository.chunker import MIN_SIZE
from holdfast.repository.cutting import Cutter
from holdfast.repository.pending import PendingFile, Pieces
from holdfast.repository.whole_files import WHOLE_FILE, WholeFiles
from holdfast.repository.writer import BlobWriter

BATCH_FILES = 64
BATCH_BYTES = 2 << 20
_AHEAD = 2
_TICK_SECONDS = 0.5


class ContentReader:
    """Turns contents into blobs through a `BlobWriter`.

    Args:
        blobs: where they go.
        on_bytes: told how many bytes were read, from several threads.
        on_wait: called now and then while large files are waited for.
    """

    def __init__(
        self, blobs: BlobWriter, on_bytes: Callable[[int], None], on_wait: Callable[[], None] = lambda: None
    ) -> None:
        self._blobs = blobs
        self._on_wait = on_wait
        self._whole, self._cutter = WholeFiles(blobs, on_bytes), Cutter(blobs, on_bytes)
        self._large: deque[Future[Pieces]] = deque()
        self._batch: list[PendingFile] = []
        self._batch_bytes = 0

    def read(self, entry: Entry) -> PendingFile:
        """Start to capture a regular file's content. A stream is read to its end before this returns.

        Raises: SourceError from a stream whose producer failed; the first failure of any worker.
        """
        pending = PendingFile(entry)
        content = entry.content
        if isinstance(content, LocalFile):
            if entry.size <= MIN_SIZE:
                self._add_to_batch(pending)
            elif entry.size <= WHOLE_FILE:
                pending.wait_in_batch(self._blobs.submit(entry.size, self._whole.read, [entry]), 0)
            else:
                self._wait_for_large(_AHEAD - 1)
                reading = self._blobs.read(self._cutter.read_large, pending, content.path)
                self._large.append(reading)
                pending.wait_for_reading(reading)
        elif content is not None:
            self._cutter.read_stream(pending, content.open())
        return pending

    def flush(self) -> None:
        """Hand the batch that is being collected to a worker."""
        if not self._batch:
            return
        batch, self._batch = self._batch, []
        size, self._batch_bytes = self._batch_bytes, 0
        future = self._blobs.submit(size, self._whole.read_batch, [pending.entry for pending in batch])
        for position, pending in enumerate(batch):
            pending.wait_in_batch(future, position)

    def wait(self) -> None:
        """Wait until all large files were read. Raises: the first failure of any worker."""
        self._wait_for_large(0)

    def _wait_for_large(self, left: int) -> None:
        while len(self._large) > left:
            if wait([self._large[0]], _TICK_SECONDS).done:
                self._large.popleft().result()
            else:
                self._on_wait()

    def _add_to_batch(self, pending: PendingFile) -> None:
        self._batch.append(pending)
        self._batch_bytes += pending.entry.size
        if len(self._batch) >= BATCH_FILES or self._batch_bytes >= BATCH_BYTES:
            self.flush()
