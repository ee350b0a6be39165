"""What of the stored data is used: which blobs the snapshots refer to, and where each of them lies.

Rules upheld here:
- When anything that could refer to data cannot be read — a snapshot, a tree, an index file — nothing is called unused.
- Of a blob that lies in several packs one copy is the used one; the others are spare.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field

from holdfast.errors import CorruptObject
from holdfast.model.ids import BlobId, SnapshotId
from holdfast.repository.index import read_index_file
from holdfast.repository.objects import Folder
from holdfast.repository.pack import BlobKind, PackedBlob
from holdfast.repository.repository import Repository
from holdfast.store.base import ObjectInfo

BlobKey = tuple[BlobKind, BlobId]


@dataclass(slots=True)
class Usage:
    """Every pack: what it holds (by the index), which of it is used, and what the store lists.

    `files` gives for each index file the packs that it names. `unindexed` are packs that no index names.
    """

    packs: dict[str, list[PackedBlob]] = field(default_factory=dict)
    used: dict[str, set[BlobKey]] = field(default_factory=lambda: defaultdict(set))
    files: dict[str, set[str]] = field(default_factory=dict)
    listed: dict[str, ObjectInfo] = field(default_factory=dict)

    @property
    def unindexed(self) -> list[ObjectInfo]:
        """Packs on the store that no index names."""
        return [info for pack, info in self.listed.items() if pack not in self.packs]


def measure_usage(repository: Repository, *, without: Collection[SnapshotId] = ()) -> Usage:
    """Read the index, the listing of packs, and every tree, those of snapshots in `without` excepted.

    The caller holds the exclusive lock when it means to delete something.

    Raises: CorruptObject when something that refers to data cannot be read, or data that is used is not there.
    """
    usage = Usage()
    for info in repository.store.list(Folder.INDEX):
        name = info.key.rpartition("/")[2]
        found = read_index_file(repository.store, repository.key, name)
        usage.files[name] = set(found)
        usage.packs.update(found)
    usage.listed = {info.key.rpartition("/")[2]: info for info in repository.store.list(Folder.DATA)}
    wanted = _referenced(repository, without)
    for pack, blobs in usage.packs.items():
        if pack not in usage.listed:
            continue
        for blob in blobs:
            key = (blob.kind, blob.id)
            if key in wanted:
                wanted.discard(key)
                usage.used[pack].add(key)
    if wanted:
        raise _refuse(f"{len(wanted)} blobs that snapshots need are in no pack that is there")
    return usage


def _referenced(repository: Repository, without: Collection[SnapshotId]) -> set[BlobKey]:
    listed = repository.snapshots()
    if listed.damaged:
        raise _refuse(f"{len(listed.damaged)} snapshots cannot be read, first: {listed.damaged[0]}")
    referenced: set[BlobKey] = set()
    waiting = [snapshot.tree for snapshot in listed.snapshots if snapshot.id not in without]
    while waiting:
        tree = waiting.pop()
        key = (BlobKind.TREE, BlobId(bytes.fromhex(tree)))
        if key in referenced:
            continue
        referenced.add(key)
        for node in repository.reader.load_tree(tree):
            referenced.update((BlobKind.DATA, BlobId(bytes.fromhex(blob))) for blob in node.blobs)
            if node.subtree:
                waiting.append(node.subtree)
    return referenced


def _refuse(found: str) -> CorruptObject:
    return CorruptObject(
        "refusing to delete data while it is not known what is needed",
        found=found,
        hint="holdfast verify shows what is damaged; remove a snapshot that is lost with `restic forget ID`",
    )
