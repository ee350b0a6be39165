"""Removing packs: copy what is still used, replace the index, delete — in an order that a crash cannot hurt.

Rules upheld here:
- New packs and their index come first, then the index files without the removed packs, then the old index files go,
  then the packs. After any step the repository is whole; a crash leaves at most duplicates and unindexed packs.
- A blob is checked before it is copied.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from holdfast.errors import CorruptObject
from holdfast.repository.blobs import open_blob
from holdfast.repository.extract import Piece, group_ranges
from holdfast.repository.index import Location, index_parts, write_index_file
from holdfast.repository.lock import Lock
from holdfast.repository.objects import Folder, key_of
from holdfast.repository.pack import PackedBlob
from holdfast.repository.repository import Repository
from holdfast.repository.usage import Usage


def remove_packs(
    repository: Repository, lock: Lock, usage: Usage, *, delete: Collection[str], repack: Collection[str]
) -> int:
    """Remove packs; from those in `repack` what is used is copied first. Bytes that were written for it.

    Args:
        repository: the repository.
        lock: the exclusive lock that is held.
        usage: as measured under this lock.
        delete: packs of which nothing is used, indexed or not.
        repack: packs of which something is used.

    Raises: CorruptObject when a used blob is damaged (nothing was deleted then), RepositoryLocked when the lock was
    lost, the store's errors.
    """
    gone = {*delete, *repack}
    if any(usage.used.get(pack) for pack in delete):
        raise CorruptObject("refusing to delete a pack that is used", which=next(iter(delete)))
    stored = _copy_used(repository, usage, repack)
    lock.ensure_held()
    stale = [name for name, packs in usage.files.items() if packs & gone]
    kept = {pack: usage.packs[pack] for name in stale for pack in usage.files[name] if pack not in gone}
    for part in index_parts(kept):
        write_index_file(repository.store, repository.key, part)
    for name in stale:
        lock.ensure_held()
        repository.store.delete(key_of(Folder.INDEX, name))
    for pack in sorted(gone):
        lock.ensure_held()
        repository.store.delete(key_of(Folder.DATA, pack))
    repository.refresh()
    return stored


def _copy_used(repository: Repository, usage: Usage, packs: Iterable[str]) -> int:
    with repository.writer() as writer:
        for pack in packs:
            for blob, sealed in _used_blobs(repository, usage, pack):
                writer.copy_sealed(blob, sealed)
        return writer.finish().stored


def _used_blobs(repository: Repository, usage: Usage, pack: str) -> Iterator[tuple[PackedBlob, bytes]]:
    used = usage.used[pack]
    by_place = {blob.offset: blob for blob in usage.packs[pack] if (blob.kind, blob.id) in used}
    pieces = [Piece(blob.id, Location(pack, blob.offset, blob.length, blob.raw_length)) for blob in by_place.values()]
    for group in group_ranges(pieces):
        start, last = group[0].where.offset, group[-1].where
        data = repository.store.get(key_of(Folder.DATA, pack), offset=start, length=last.offset + last.length - start)
        for piece in group:
            sealed = data[piece.where.offset - start :][: piece.where.length]
            open_blob(repository.key, sealed, piece.blob, piece.where)
            yield by_place[piece.where.offset], sealed
