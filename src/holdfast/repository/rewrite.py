"""Removing packs: copy what is still needed, replace the index, delete — in an order that a crash cannot hurt.

Rules upheld here:
- New packs and their index come first, then the index files without the removed packs, then the old index files go,
  then the packs. After any step the repository is whole; a crash leaves at most duplicates and unindexed packs.
- A blob is checked before it is copied.
- No pack goes of which a blob is needed that is nowhere else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from holdfast.policy.prune import Mark
from holdfast.repository.blobs import open_blob
from holdfast.repository.extract import Piece, group_ranges
from holdfast.repository.index import Location, index_parts, read_index_files, write_index_file
from holdfast.repository.lock import Lock
from holdfast.repository.objects import Folder, key_of
from holdfast.repository.pack import PackedBlob
from holdfast.repository.repository import Repository
from holdfast.repository.usage import BlobKey, Usage


def copy_needed(usage: Usage, marks: Mapping[str, Mark]) -> int:
    """Copy what must stay of the marked packs into new ones, index included; bytes that were written.

    A shared lock is enough: nothing goes away. Raises: CorruptObject when a needed blob is damaged, the store's errors.
    """
    if not marks:
        return 0
    repository = usage.repository
    with repository.writer(index=usage.index) as writer:
        for pack, blobs in usage.blobs_of(marks):
            staying = _staying(usage, pack, blobs, marks[pack])
            for blob, sealed in _sealed(repository, pack, staying):
                writer.copy_sealed(blob, sealed)
        return writer.finish().stored


def removable(usage: Usage, marks: Mapping[str, Mark], copies: Collection[BlobKey]) -> set[str]:
    """Which of the marked packs can go: those of which everything that must stay has a copy elsewhere."""
    return {
        pack
        for pack, blobs in usage.blobs_of(marks)
        if all((blob.kind, blob.id) in copies for blob in _staying(usage, pack, blobs, marks[pack]))
    }


def remove_packs(usage: Usage, lock: Lock, packs: Collection[str]) -> None:
    """Take packs out of the index, then delete them. The caller knows that they are `removable`, or in no index.

    Raises: RepositoryLocked when the exclusive lock was lost, the store's errors.
    """
    repository, gone = usage.repository, set(packs)
    stale = [name for name, names in usage.files.items() if names & gone]
    for part in index_parts(_without(usage, stale, gone)):
        lock.ensure_held()
        write_index_file(repository.store, repository.key, part)
    for name in stale:
        lock.ensure_held()
        repository.store.delete(key_of(Folder.INDEX, name))
    for pack in sorted(gone):
        lock.ensure_held()
        repository.store.delete(key_of(Folder.DATA, pack))


def _staying(usage: Usage, pack: str, blobs: list[PackedBlob], mark: Mark) -> list[PackedBlob]:
    """What of a pack is needed, or died after the mark was made; spare copies are neither."""
    return [
        blob
        for position, blob in enumerate(blobs)
        if usage.is_first(pack, blob) and (usage.needs(blob) or not mark.names(position))
    ]


def _without(usage: Usage, stale: list[str], gone: set[str]) -> Iterator[tuple[str, list[PackedBlob]]]:
    repository, seen = usage.repository, set(gone)
    for _, packs in read_index_files(repository.store, repository.key, stale, threads=repository.connections):
        for pack, blobs in packs.items():
            if pack not in seen:
                seen.add(pack)
                yield pack, blobs


def _sealed(repository: Repository, pack: str, blobs: list[PackedBlob]) -> Iterator[tuple[PackedBlob, bytes]]:
    by_place = {blob.offset: blob for blob in blobs}
    pieces = [Piece(blob.id, Location(pack, blob.offset, blob.length, blob.raw_length)) for blob in blobs]
    for group in group_ranges(pieces):
        start, last = group[0].where.offset, group[-1].where
        data = repository.store.get(key_of(Folder.DATA, pack), offset=start, length=last.offset + last.length - start)
        for piece in group:
            sealed = data[piece.where.offset - start :][: piece.where.length]
            open_blob(repository.key, sealed, piece.blob, piece.where)
            yield by_place[piece.where.offset], sealed
