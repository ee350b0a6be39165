"""Capturing directories whose writers are held only for what changed: two passes.

Rules upheld here:
- Pass 1 runs live and stores nearly everything. Then hooks run and the writers are held, all at once for all sources of
  the group; pass 2 looks at everything, and copies what changed into a spool; then all are let go. What is left to
  compress and upload goes on after that: the hold lasts as long as the change, not as long as the volume or the store.
- A directory on btrfs, ZFS or a thin volume is held only while a snapshot is taken: what changed is read in it later.
- Holding is `services.holding`'s; what fails there, or here, leaves nothing held and nothing committed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from msgspec.structs import replace

from holdfast.engine.client import Engine
from holdfast.engine.ground import ground_of
from holdfast.engine.hold import Holding
from holdfast.errors import SourceError
from holdfast.model import manifest as layout
from holdfast.model.entry import ByteStream, Entry
from holdfast.repository.archive import Parent, TreeArchiver
from holdfast.repository.content import find_node
from holdfast.repository.file_capture import TreeStats
from holdfast.repository.lock import Lock
from holdfast.repository.overlay import overlaid
from holdfast.repository.repository import Repository
from holdfast.services.commit import archive_data, commit
from holdfast.services.holding import FreezePlan, prepared
from holdfast.services.run import Run, SourceReport, compared_with
from holdfast.services.stills import OURS, Stills
from holdfast.sources.frozen import Delta, FrozenTree, LiveTree, Spool, sync_filesystem


@dataclass(frozen=True, slots=True)
class TreeSpec:
    """A directory to capture: where it is, its label, what is left out, whether it may be empty."""

    root: str
    label: str
    exclude: tuple[str, ...] = ()
    allow_empty: bool = False


class AtFreeze(Protocol):
    """What belongs to the instant of a freeze beside the directories."""

    def open(self) -> None:
        """Called just before anything is held."""
        ...

    def take(self) -> Mapping[str, object]:
        """Called while everything is held; what it gives is stored with each snapshot."""
        ...


@dataclass(slots=True)
class _Source:
    """One source of the group on its way: its first pass, and what the second one found."""

    spec: TreeSpec
    live: LiveTree
    since: int
    tree: str = ""
    stats: TreeStats = field(default_factory=TreeStats)
    delta: Delta | None = None
    found: Mapping[str, object] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return self.spec.label

    @property
    def notes(self) -> Sequence[str]:
        fuzzy = self.delta.fuzzy if self.delta else ()
        return tuple(f"{path}: changed while it was read, though its writers were held" for path in fuzzy)

    def facts(self) -> Mapping[str, object]:
        excluded = {"exclude": list(self.spec.exclude)} if self.spec.exclude else {}
        return {**excluded, "freeze": dict(self.found)}

    def second_pass(self, spool: Spool, still: str | None = None) -> Delta:
        """What changed since the first pass, here or where the directory stands still."""
        return FrozenTree(self.live, exclude=(*self.spec.exclude, OURS), since=self.since, still=still).scan(spool)

    def entries(self) -> Iterator[Entry]:
        raise SourceError("a frozen source is read in two passes", which=self.label)


class _Unread:
    """Stands for the content of a file that did not change: the archiver has it from the first pass."""

    def open(self) -> ByteStream:
        """Nobody should."""
        raise SourceError(
            "a file of the first pass is not in the repository", hint="run it again; holdfast verify finds what is lost"
        )


def capture_frozen(
    repository: Repository,
    engine: Engine,
    run: Run,
    specs: Sequence[TreeSpec],
    planned: Callable[[], FreezePlan],
    *,
    at_freeze: AtFreeze | None = None,
) -> list[SourceReport]:
    """Capture directories into a snapshot each, with their writers held once for all of them.

    `planned` tells whom to hold; it is asked again just before that, for who came and went during the first pass.
    Raises: SourceError and its kind, CommandFailed (a hook), EngineRefused, EngineUnavailable, the store's errors. Then
    everything was let go, and no snapshot was made.
    """
    with ExitStack() as stack:
        lock = stack.enter_context(repository.lock(settled=False))
        repository.refresh()
        spool = stack.enter_context(Spool())
        hold = stack.enter_context(prepared(engine, planned()))
        begun = run.now()
        sources = [_first_pass(repository, run, lock, spec) for spec in specs]
        stills = stack.enter_context(Stills(hold.note_snapshot, hold.snapshot_gone))
        for source in sources:
            stills.prepare(source.live)
        if at_freeze is not None:
            at_freeze.open()
        lock.settle()  # nobody is held for a backup that cannot be kept
        # The snapshots are of this instant: a file whose time is at or after it is read again by the next run.
        frozen = run.now()
        holding, at = hold.freeze(
            planned(), at_freeze.take if at_freeze else dict, lambda: _stand_still(stills, sources, spool)
        )
        for source in sources:
            if source.delta is None:
                source.delta = source.second_pass(spool, stills.where(source.label))
            source.found = {**_account(holding, source), **at, **_how(source, stills)}
        reports = [_store(repository, run, lock, source, frozen) for source in sources]
        seconds = (run.now() - begun).total_seconds()
    return [replace(report, held=dict(holding.seconds), seconds=seconds) for report in reports]


def _first_pass(repository: Repository, run: Run, lock: Lock, spec: TreeSpec) -> _Source:
    """Read everything live, and store it: its tree is what the second pass compares with."""
    live = LiveTree(spec.root, label=spec.label, exclude=(*spec.exclude, OURS))
    source = _Source(spec, live, time.time_ns())
    sync_filesystem(live.root)
    parent = run.parent_of(repository, source)
    with repository.writer(level=run.level, before_upload=lock.settle) as blobs:
        archiver = TreeArchiver(blobs, repository.reader, compared_with(parent), run.notify(source))
        archive_data(archiver, live.entries())
        source.tree = archiver.finish()
        blobs.finish()
    source.stats = archiver.stats
    return source


def _stand_still(stills: Stills, sources: Sequence[_Source], spool: Spool) -> None:
    """While everything is held: take the snapshots, and read what has none."""
    stills.take()
    for source in sources:
        if not stills.still(source.label):
            source.delta = source.second_pass(spool)


def _how(source: _Source, stills: Stills) -> Mapping[str, object]:
    return {"snapshot": ground_of(source.spec.root).giver} if stills.still(source.label) else {}


def _store(repository: Repository, run: Run, lock: Lock, source: _Source, frozen: datetime) -> SourceReport:
    """After everything was let go: the first pass with the changes over it becomes the snapshot."""
    delta = source.delta
    assert delta is not None  # noqa: S101  the second pass made it
    parent = run.parent_of(repository, source)
    below = find_node(repository.reader, source.tree, layout.DATA).subtree
    root = delta.entries.pop(b"")
    with repository.writer(level=run.level) as blobs:
        archiver = TreeArchiver(blobs, repository.reader, Parent(source.tree, source.since), run.notify(source))
        archive_data(archiver, [root])
        archive_data(archiver, overlaid(repository.reader, below, delta.entries, delta.listings, _Unread()))
        report = commit(
            repository, run, source, archiver, blobs, lock, parent=parent, started=frozen, before=source.stats
        )
    return replace(report, reread=delta.reread)


def _account(holding: Holding, source: _Source) -> dict[str, object]:
    delta = source.delta
    assert delta is not None  # noqa: S101  the second pass made it
    return {
        "held_seconds": {name: round(seconds, 4) for name, seconds in sorted(holding.seconds.items())},
        "not_running": dict(holding.skipped),
        "reread_files": delta.reread,
        "reread_bytes": delta.bytes,
        "kept_entries": delta.kept,
        "fuzzy": list(delta.fuzzy),
    }
