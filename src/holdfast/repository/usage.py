"""What of the stored data is used: which blobs the snapshots refer to, and in which pack each of them lies.

Rules upheld here:
- When anything that could refer to data cannot be read — a snapshot, a tree, an index file — nothing is called unused.
- Of a blob that lies in several packs one copy is the used one; the others are spare. A pack that is marked to go
  is the last to be asked.
- A blob takes the 48 bytes of its row in the index and one or two more: what a pack holds in detail is read again from
  the index files, for the few packs that something is done with.
- Snapshots are listed before index files: writers may go on meanwhile, and what a listed snapshot needs is indexed.
  What they add can only seem unused; `catch_up` makes the measurement true once nobody else is at work.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from holdfast.errors import CorruptObject, ObjectNotFound
from holdfast.model.ids import BlobId, SnapshotId
from holdfast.model.snapshot import Snapshot
from holdfast.policy.prune import PackFacts
from holdfast.repository.index import BlobSet, Index, read_index_files
from holdfast.repository.objects import Folder
from holdfast.repository.pack import BlobKind, PackedBlob, entry_size
from holdfast.repository.reader import BlobReader
from holdfast.repository.repository import Repository
from holdfast.store.base import ObjectInfo

BlobKey = tuple[BlobKind, BlobId]


@dataclass(slots=True)
class _Count:
    """One indexed pack: how many blobs and bytes it holds, and how much of both is used."""

    blobs: int = 0
    bytes: int = 0
    used: int = 0
    used_bytes: int = 0
    trees: bool = False


@dataclass(slots=True)
class Usage:
    """Every pack, what of it is used, and what the store lists. `files` gives for each index file its packs."""

    repository: Repository
    index: Index = field(default_factory=Index)
    used: BlobSet = field(init=False)
    held: BlobSet = field(init=False)
    packs: dict[str, _Count] = field(default_factory=dict)
    files: dict[str, set[str]] = field(default_factory=dict)
    listed: dict[str, ObjectInfo] = field(default_factory=dict)
    snapshots: set[SnapshotId] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.used, self.held = BlobSet(self.index), BlobSet(self.index)

    # --- measuring ----------------------------------------------------------------------------------------------------

    def take_files(self, names: Iterable[str], marked: Collection[str] = ()) -> None:
        """Read index files into the index; those packs last that are marked to go. Raises: CorruptObject."""
        later = []
        for name, packs in self._read(names):
            self.files[name] = set(packs)
            for pack, blobs in packs.items():
                if pack in marked:
                    later.append(name)
                else:
                    self._take_pack(pack, blobs)
        for _, packs in self._read(dict.fromkeys(later)):
            for pack, blobs in packs.items():
                self._take_pack(pack, blobs)

    def _read(self, names: Iterable[str]) -> Iterator[tuple[str, dict[str, list[PackedBlob]]]]:
        repository = self.repository
        return read_index_files(repository.store, repository.key, names, threads=repository.connections)

    def _take_pack(self, pack: str, blobs: list[PackedBlob]) -> None:
        if pack in self.packs:
            return
        self.packs[pack] = _Count(
            blobs=len(blobs),
            bytes=sum(blob.length + entry_size(blob) for blob in blobs),
            trees=any(blob.kind is BlobKind.TREE for blob in blobs),
        )
        if pack in self.listed:
            self.index.add(pack, blobs)

    def take_snapshots(self, listed: Iterable[Snapshot]) -> None:
        """Count what the snapshots need that were not looked at before. Raises: CorruptObject."""
        new = [snapshot for snapshot in listed if snapshot.id not in self.snapshots]
        self._walk((snapshot.tree for snapshot in new), self.used)
        self.snapshots.update(snapshot.id for snapshot in new)

    def hold(self, trees: Iterable[str]) -> None:
        """Keep what these trees need although no snapshot does, as far as it is there and whole.

        Raises: the store's errors when it does not answer: then it is not known what has to be held.
        """
        for tree in trees:
            try:
                self._walk([tree], self.held)
            except (CorruptObject, ObjectNotFound):
                continue  # it cannot come back any more: there is nothing to hold

    def _walk(self, trees: Iterable[str], into: BlobSet) -> None:
        reader = BlobReader(self.repository.store, self.repository.key, self.index)
        missing = 0
        waiting = list(trees)
        while waiting:
            tree = waiting.pop()
            blob = BlobId(bytes.fromhex(tree))
            reader.locate(BlobKind.TREE, blob)
            if not self._count(BlobKind.TREE, blob, into):
                continue
            for node in reader.load_tree(tree):
                for text in node.blobs:
                    try:
                        self._count(BlobKind.DATA, BlobId(bytes.fromhex(text)), into)
                    except KeyError:
                        missing += 1
                if node.subtree:
                    waiting.append(node.subtree)
        if missing:
            raise _refuse(f"{missing} blobs that snapshots need are in no pack that is there")

    def _count(self, kind: BlobKind, blob: BlobId, into: BlobSet) -> bool:
        """Add a blob, and whether it was new. What snapshots use need not be held."""
        if into is self.held and self.used.has(kind, blob):
            return False
        if not into.add(kind, blob):
            return False
        if into is self.used:
            where = self.index.find(kind, blob)
            assert where is not None  # noqa: S101  the set would not have taken it
            count = self.packs[where.pack]
            count.used += 1
            count.used_bytes += where.length + entry_size(PackedBlob(blob, kind, *where[1:]))
        return True

    # --- asking -------------------------------------------------------------------------------------------------------

    def facts(self) -> list[PackFacts]:
        """Every pack as the policy wants to know it."""
        return [*map(self._indexed, self.packs), *map(self._unindexed, self.unindexed)]

    def _indexed(self, pack: str) -> PackFacts:
        count, info = self.packs[pack], self.listed.get(pack)
        size = info.size if info else 0
        unused = size if not count.used else min(size, count.bytes - count.used_bytes)
        return PackFacts(pack=pack, size=size, unused=unused, blobs=count.blobs, used=count.used, trees=count.trees)

    @staticmethod
    def _unindexed(info: ObjectInfo) -> PackFacts:
        return PackFacts(pack=info.key.rpartition("/")[2], size=info.size, modified=info.modified)

    @property
    def unindexed(self) -> list[ObjectInfo]:
        """Packs on the store that no index names."""
        return [info for pack, info in self.listed.items() if pack not in self.packs]

    def blobs_of(self, packs: Collection[str]) -> Iterator[tuple[str, list[PackedBlob]]]:
        """What packs hold, each once, by their place in the pack: from the index files that name them."""
        wanted = set(packs)
        for _, found in self._read([name for name, names in self.files.items() if names & wanted]):
            for pack in wanted & found.keys():
                wanted.discard(pack)
                yield pack, sorted(found[pack], key=lambda blob: blob.offset)

    def is_first(self, pack: str, blob: PackedBlob) -> bool:
        """Whether this copy of a blob is the one that counts, not a spare one."""
        where = self.index.find(blob.kind, blob.id)
        return where is not None and (where.pack, where.offset) == (pack, blob.offset)

    def needs(self, blob: PackedBlob) -> bool:
        """Whether a snapshot refers to a blob, or one that may still come back."""
        return self.used.has(blob.kind, blob.id) or self.held.has(blob.kind, blob.id)


def measure_usage(
    repository: Repository,
    *,
    without: Collection[SnapshotId] = (),
    hold: Iterable[str] = (),
    marked: Collection[str] = (),
) -> Usage:
    """Read the index, the listing of packs, and every tree.

    Args:
        repository: an open repository, of which the caller holds a lock.
        without: snapshots that count as forgotten.
        hold: trees of snapshots that are forgotten and may come back.
        marked: packs that an earlier run marked to go.

    Raises: CorruptObject when something that refers to data cannot be read, or data that is used is not there.
    """
    usage = Usage(repository)
    snapshots = [snapshot for snapshot in _snapshots(repository) if snapshot.id not in without]
    names = _index_names(repository)
    usage.listed = {info.key.rpartition("/")[2]: info for info in repository.store.list(Folder.DATA)}
    usage.take_files(names, marked)
    usage.take_snapshots(snapshots)
    usage.hold(hold)
    return usage


def _snapshots(repository: Repository) -> tuple[Snapshot, ...]:
    listed = repository.snapshots()
    if listed.damaged:
        raise _refuse(f"{len(listed.damaged)} snapshots cannot be read, first: {listed.damaged[0]}")
    return listed.snapshots


def _index_names(repository: Repository) -> list[str]:
    return sorted(info.key.rpartition("/")[2] for info in repository.store.list(Folder.INDEX))


def catch_up(usage: Usage, *, leaving: Collection[str], hold: Iterable[str] = ()) -> set[BlobKey] | None:
    """Take in what was added since; under the exclusive lock the measurement is then true.

    Returns: the blobs of packs in `leaving` of which a new pack that is there has a copy; None when index files that
    were measured are gone, and all must be measured anew.

    Raises: as `measure_usage`.
    """
    names = _index_names(usage.repository)
    if not usage.files.keys() <= set(names):
        return None
    new = [name for name in names if name not in usage.files]
    known = set(usage.packs)
    there = {info.key.rpartition("/")[2]: info for info in usage.repository.store.list(Folder.DATA)} if new else {}
    usage.listed |= there
    usage.take_files(new)
    copies: set[BlobKey] = set()
    for _, blobs in usage.blobs_of((usage.packs.keys() - known) & there.keys()):
        for blob in blobs:
            where = usage.index.find(blob.kind, blob.id)
            if where is not None and where.pack in leaving:
                copies.add((blob.kind, blob.id))
    usage.take_snapshots(_snapshots(usage.repository))
    usage.hold(hold)
    return copies


def _refuse(found: str) -> CorruptObject:
    return CorruptObject(
        "refusing to delete data while it is not known what is needed",
        found=found,
        hint="holdfast verify shows what is damaged; remove a snapshot that is lost with `restic forget ID`",
    )
