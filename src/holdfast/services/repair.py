"""Repair of the index: made anew from what the packs themselves say.

Rules upheld here:
- Nothing is deleted before what replaces it is stored: new index files first, then the damaged ones go.
- A pack is named in the index only if it is there, and only with what its own authentic header lists.
- What cannot be repaired — a pack whose header is damaged, a pack that is missing — is named, with what it costs.
- It works alone (exclusive lock): an upload in flight would look like a pack that the index forgot.

Source: restic doc/design.rst, "Pack Format" (a pack's header says what it holds) and "Indexing".
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import msgspec

from holdfast.errors import CorruptObject, HoldfastError, ObjectNotFound
from holdfast.repository.cache import origin_of
from holdfast.repository.index import Packs, index_parts, read_index_file, write_index_file
from holdfast.repository.objects import Folder, corrupt, key_of
from holdfast.repository.pack import PackedBlob, header_size, read_header
from holdfast.repository.repository import Repository


class IndexRepair(msgspec.Struct, frozen=True, kw_only=True):
    """What a repair of the index did, or with `dry_run` would do.

    `packs_read` packs told what they hold by their own headers; `files_replaced` index files are gone; `lost` names
    packs that are missing or cannot be read, one line each.
    """

    dry_run: bool
    packs: int
    packs_read: int
    files_kept: int
    files_replaced: int
    files_written: int
    lost: tuple[str, ...]


@dataclass(slots=True)
class _Found:
    """The index as it is: whole files by name, the names of damaged ones, packs by what the index says."""

    good: dict[str, Packs] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)


def repair_index(
    repository: Repository,
    *,
    read_all: bool = False,
    dry_run: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> IndexRepair:
    """Make the index say what the packs hold.

    Args:
        repository: an open repository.
        read_all: read every pack's header, not only those of packs that no whole index file names.
        dry_run: only say what would be done.
        on_progress: packs read, packs to read.

    Raises: RepositoryLocked, and errors of the store that are not about single objects.
    """
    with repository.lock(exclusive=True) as lock:
        found = _read_index(repository)
        sizes = {info.key.rpartition("/")[2]: info.size for info in repository.store.list(Folder.DATA)}
        stale = [name for name, packs in found.good.items() if read_all or not _fits(packs, sizes)]
        fresh = {name: packs for name, packs in found.good.items() if name not in stale}
        named = {pack for packs in fresh.values() for pack in packs}
        missing = {pack for packs in found.good.values() for pack in packs if pack not in sizes}
        unread = {pack: size for pack, size in sizes.items() if pack not in named}
        read, lost = _read_headers(repository, unread, on_progress or (lambda _done, _all: None))
        written = 0
        if not dry_run:
            for part in index_parts(read.items()):
                lock.ensure_held()
                write_index_file(repository.store, repository.key, part)
                written += 1
            for name in (*stale, *found.damaged):
                lock.ensure_held()
                repository.store.delete(key_of(Folder.INDEX, name))
            repository.refresh()
    return IndexRepair(
        dry_run=dry_run,
        packs=len(sizes),
        packs_read=len(read),
        files_kept=len(fresh),
        files_replaced=len(stale) + len(found.damaged),
        files_written=written,
        lost=(
            *lost,
            *(f"{key_of(Folder.DATA, pack)}: the index names it, it is not there" for pack in sorted(missing)),
        ),
    )


def _read_index(repository: Repository) -> _Found:
    found = _Found()
    for info in repository.store.list(Folder.INDEX):
        name = info.key.rpartition("/")[2]
        try:
            found.good[name] = read_index_file(origin_of(repository.store), repository.key, name)
        except (CorruptObject, ObjectNotFound):
            found.damaged.append(name)
    return found


def _fits(packs: Packs, sizes: dict[str, int]) -> bool:
    """Whether every pack of an index file is there, and as long as the file says."""
    return all(
        sizes.get(pack) == sum(blob.length for blob in blobs) + header_size(blobs) for pack, blobs in packs.items()
    )


def _read_headers(
    repository: Repository, sizes: dict[str, int], on_progress: Callable[[int, int], None]
) -> tuple[Packs, list[str]]:
    def read(pack: str) -> list[PackedBlob] | HoldfastError:
        key = key_of(Folder.DATA, pack)
        try:
            if not sizes[pack]:
                return corrupt(key, "a pack", "an empty object")
            return read_header(repository.store, repository.key, key, sizes[pack])
        except (CorruptObject, ObjectNotFound) as error:
            return error

    packs: Packs = {}
    lost: list[str] = []
    with ThreadPoolExecutor(repository.connections, "header") as pool:
        for done, (pack, result) in enumerate(zip(sorted(sizes), pool.map(read, sorted(sizes)), strict=True), 1):
            if isinstance(result, HoldfastError):
                lost.append(str(result))
            else:
                packs[pack] = result
            on_progress(done, len(sizes))
    return packs, lost
