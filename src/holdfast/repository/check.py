"""Checking a repository: is what is stored what was written, and is everything there that snapshots need?

Rules upheld here:
- Checking goes on after a finding: one damaged object hides no other.
- Structure (always): every index file opens, every pack that an index names is there with the right size, every tree
  of every snapshot reads, and everything that it names is there (`check_trees`).
- Data (all, or a share of the packs): what `check_pack` tells, in helper processes, too.
- What is damaged is traced to the files of the snapshots that need it.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from holdfast.errors import CorruptObject, HoldfastError, ObjectNotFound
from holdfast.model.ids import BlobId
from holdfast.repository.cache import origin_of
from holdfast.repository.check_data import READERS, DataCheck, Listed, PackRead, listed
from holdfast.repository.check_pack import unreadable_blobs
from holdfast.repository.check_trees import Checked, TreeCheck
from holdfast.repository.index import Index, packs_in
from holdfast.repository.objects import Folder, corrupt, key_of
from holdfast.repository.pack import BlobKind, PackedBlob
from holdfast.repository.repository import Repository


class Checker:
    """One check of a repository. The caller holds a lock."""

    def __init__(self, repository: Repository, on_progress: Callable[[Checked], None] | None = None) -> None:
        self.done = Checked()
        self._repository = repository
        self._store, self._key = origin_of(repository.store), repository.key
        self._on_progress = on_progress or (lambda _: None)
        self._index = Index()
        self._packs: dict[str, Listed] = {}
        self._lost: set[str] = set()
        self._broken: set[str] = set()
        self._damaged: set[tuple[BlobKind, BlobId]] = set()
        self._reading: deque[Future[PackRead]] = deque()
        self._data = DataCheck(self._store, self._key, self._packs)

    def load(self) -> None:
        """Read the index, and compare the packs that it lists with those that are there. To be called first.

        Raises: errors of the store that are not about single objects.
        """
        self._load_index()
        self._check_packs()

    def run(self, *, read_share: float = 0.0, choose: random.Random | None = None) -> Checked:
        """Check the structure, and the data of `read_share` (0 to 1) of the packs, which `choose` picks.

        Raises: errors of the store that are not about single objects.
        """
        trees = TreeCheck(
            self._repository, self._store, self._index, self.done, self._damaged, self._on_progress, self._take_done
        )
        chosen = self._chosen(read_share, choose or random.Random())  # noqa: S311  a sample, no secret
        with self._data.helped(chosen), ThreadPoolExecutor(READERS, "check") as pool:
            try:
                self._reading.extend(pool.submit(self._data.check, pack) for pack in chosen)
                # Trees are looked at while packs are read: the one is Python's work, the other that of C libraries.
                trees.check()
                while self._reading:
                    self._take_read(self._reading.popleft())
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        if self._lost or self._broken:
            self._find_damaged()
        if self._damaged or trees.misfits:
            trees.trace()
        return self.done

    # --- index and packs ----------------------------------------------------------------------------------------------

    def _load_index(self) -> None:
        for info in self._store.list(Folder.INDEX):
            try:
                for pack, blobs in packs_in(self._key, info.key.rpartition("/")[2], self._store.get(info.key)):
                    self._packs[pack] = listed(blobs)
                    self._index.add(pack, blobs)
            except (CorruptObject, ObjectNotFound) as error:
                self.done.problems.append(error)
        self.done.packs, self.done.blobs = len(self._packs), len(self._index)

    def _check_packs(self) -> None:
        sizes = {info.key.rpartition("/")[2]: info.size for info in self._store.list(Folder.DATA)}
        for pack, (wanted, _) in self._packs.items():
            found = sizes.pop(pack, None)
            if found is None:
                self._damage_pack(pack, ObjectNotFound("a pack is missing", which=key_of(Folder.DATA, pack)))
            elif found != wanted:
                error = corrupt(key_of(Folder.DATA, pack), f"{wanted} bytes", f"{found}")
                self._damage_pack(pack, error)
        if sizes:
            total = sum(sizes.values())
            self.done.notices.append(
                f"{len(sizes)} packs ({total} bytes) are in no index: left by an interrupted run, prune removes them"
            )

    def _damage_pack(self, pack: str, error: HoldfastError) -> None:
        self.done.problems.append(error)
        self._lost.add(pack)

    def _chosen(self, share: float, choose: random.Random) -> list[str]:
        packs = sorted(self._packs)
        count = len(packs) if share >= 1 else max(1, round(len(packs) * share)) if packs and share > 0 else 0
        return choose.sample(packs, count)

    def _take_done(self) -> None:
        if self._reading and self._reading[0].done():
            self._take_read(self._reading.popleft())

    def _take_read(self, reading: Future[PackRead]) -> None:
        pack, size, errors = reading.result()
        if pack in self._lost and size == 0:
            errors = []  # what the listing has not either was reported already
        self.done.packs_read += 1
        self.done.bytes_read += size
        self.done.problems.extend(errors)
        self._on_progress(self.done)
        if errors:
            self._broken.add(pack)

    def _find_damaged(self) -> None:
        """Which blobs are lost: all of a pack that is not there, those of a damaged one that cannot be read from it."""
        found: dict[str, list[PackedBlob]] = {}
        for pack, blob in self._index.blobs_in(self._lost | self._broken):
            found.setdefault(pack, []).append(blob)
        for pack, blobs in found.items():
            lost = blobs if pack in self._lost else self._unreadable(pack, blobs)
            self._damaged.update((blob.kind, blob.id) for blob in lost)

    def _unreadable(self, pack: str, blobs: list[PackedBlob]) -> list[PackedBlob]:
        """The blobs of a damaged pack that cannot be read from it; most of them usually still can."""
        try:
            data = self._store.get(key_of(Folder.DATA, pack))
        except HoldfastError:
            data = b""
        return [blob for blob in blobs if next(unreadable_blobs(self._key, pack, data, [blob]), None) is not None]
