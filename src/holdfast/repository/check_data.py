"""Reading packs whole, and having each checked by whoever is free: a thread of this process, or a helper process.

Rules upheld here:
- A pack is read once, into memory that is used again.
- A helper's word counts only where it finds a pack whole: otherwise the pack is checked here, and the errors named.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from holdfast.errors import HoldfastError, ObjectNotFound
from holdfast.repository.check_pack import CHECKING, Question, digest_of, errors_in
from holdfast.repository.crew import WORTH_BYTES, Crew
from holdfast.repository.crypto import MasterKey
from holdfast.repository.objects import Folder, key_of
from holdfast.repository.pack import PackedBlob, header_size
from holdfast.repository.shared import Slot
from holdfast.store.base import Bytes, FillsBuffers, Store

READERS = 3
"""Threads that read packs and check them, or have them checked: each holds one."""

_MOST_SHARED = 64 << 20
"""A pack that is larger is checked by this process."""


class Listed(NamedTuple):
    """A pack as the index lists it: its size, and a digest of what it holds. Blobs in detail would fill the memory."""

    size: int
    digest: bytes


def listed(blobs: list[PackedBlob]) -> Listed:
    """A pack of these blobs."""
    return Listed(sum(blob.length for blob in blobs) + header_size(blobs), digest_of(blobs))


class PackRead(NamedTuple):
    """A pack that was read: its name, how many bytes came, what is wrong with it."""

    pack: str
    size: int
    errors: list[HoldfastError]


class DataCheck:
    """Checks packs of a repository. Safe for threads.

    Args:
        store: where they are.
        key: the repository's master key.
        packs: what the index lists, by name.
    """

    def __init__(self, store: Store, key: MasterKey, packs: Mapping[str, Listed]) -> None:
        self._store, self._key, self._packs = store, key, packs
        self._crew = Crew(CHECKING, key, own=READERS)
        self._own = threading.local()

    @contextmanager
    def helped(self, packs: Sequence[str]) -> Iterator[None]:
        """Have helpers for a block, if checking these packs is worth it."""
        sizes = [self._packs[pack].size for pack in packs]
        if sum(sizes) >= WORTH_BYTES:
            # A byte more than the largest, to see when a pack is longer than it should be.
            self._crew.start(READERS, min(max(sizes), _MOST_SHARED) + 1)
        try:
            yield
        finally:
            self._crew.close()

    def check(self, pack: str) -> PackRead:
        """Read a pack and check it. Raises: errors of the store that are not about single objects."""
        with ExitStack() as stack:
            slot = stack.enter_context(self._crew.buffers.slot()) if self._crew.buffers is not None else None
            try:
                data, slot = self._fetch(key_of(Folder.DATA, pack), self._packs[pack].size, slot)
            except ObjectNotFound as error:
                return PackRead(pack, 0, [error])
            return PackRead(pack, len(data), self._errors_in(pack, data, slot))

    def _fetch(self, store_key: str, size: int, slot: Slot | None) -> tuple[Bytes, Slot | None]:
        """A pack whole, and its slot if it lies there."""
        if slot is not None and len(slot.buffer) <= size:
            slot = None
        if isinstance(self._store, FillsBuffers):
            buffer = memoryview(self._own_buffer(size)) if slot is None else slot.buffer
            found = self._store.get_into(store_key, buffer)
            if found < len(buffer):
                return buffer[:found], slot
        data = self._store.get(store_key)
        if slot is None or len(data) > len(slot.buffer):
            return data, None
        slot.buffer[: len(data)] = data
        return slot.buffer[: len(data)], slot

    def _own_buffer(self, size: int) -> bytearray:
        """This thread's buffer, with room for a byte more than that."""
        buffer: bytearray | None = getattr(self._own, "buffer", None)
        if buffer is None or len(buffer) <= size:
            buffer = self._own.buffer = bytearray(size + 1)  # not the old one larger: somebody may still look at it
        return buffer

    def _errors_in(self, pack: str, data: Bytes, slot: Slot | None) -> list[HoldfastError]:
        digest = self._packs[pack].digest
        with self._crew.turn() as helper:
            if helper is not None and slot is not None and helper.ask(Question(slot.number, len(data), pack, digest)):
                return []
            return errors_in(self._key, pack, digest, data)
