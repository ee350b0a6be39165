"""Restoring a stack: each source of a restore point to where it belongs.

Rules upheld here:
- The plan says where everything will go before anything is touched; a dry run is the plan.
- Restoring never makes it worse: what is there stays. A volume or directory that holds data is not written into: the
  data goes beside it, under a name of its own, unless replacing was asked for; then the old data is kept until the new
  is whole. Nothing is replaced under a running container.
- A volume that was made for a restore that failed is removed again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from holdfast.config.commands import Command
from holdfast.config.models import Config
from holdfast.config.postgres import Postgres
from holdfast.config.sources import Directory, Volume
from holdfast.config.stack import SourceSpec
from holdfast.errors import RestoreError, SourceNotFound
from holdfast.model.ids import PointId, SnapshotId
from holdfast.model.snapshot import RestorePoint, Snapshot
from holdfast.repository.repository import Repository
from holdfast.services.base_recovery import RECOVER, is_base_snapshot, plan_base_volume, restore_base_volume
from holdfast.services.drill import choose_point
from holdfast.services.restore import OnProgress, RestoreReport, open_snapshot, reading, restore_directory
from holdfast.services.stacks import engine_of, source_of, stack_of

if TYPE_CHECKING:
    from holdfast.engine.client import Engine
    from holdfast.engine.volumes import Volume as EngineVolume


_NOT_PLACED = ("stack", "command")
"""Sources that a restore of data has no place for: a stack's description, and what a command wrote."""


class RestoreStep(msgspec.Struct, frozen=True, kw_only=True):
    """One source: what is restored, to where (`place` is the volume, directory or server), and what that means."""

    source: str
    snapshot: SnapshotId
    place: str
    action: str
    replace: bool = False

    @property
    def target(self) -> str:
        """The step in words."""
        return f"{self.action} {self.place}"


class RestorePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What restoring a stack would do, in order."""

    stack: str
    point: PointId
    steps: tuple[RestoreStep, ...]


def plan_restore(
    config: Config, repository: Repository, stack: str, point: str = "latest", *, replace: bool = False
) -> RestorePlan:
    """Where each source of a restore point would go.

    Raises: ConfigError, SnapshotNotFound, TargetInUse (replacing under a running container), EngineUnavailable,
    SourceNotFound and SourceUnreadable for a database's container.
    """
    declared = stack_of(config, stack)
    chosen = choose_point(repository, stack, point, host=config.hostname)
    return RestorePlan(
        stack=stack,
        point=chosen.id,
        steps=tuple(
            _step(config, repository, source_of(declared, snapshot.source), chosen, snapshot, replace=replace)
            for snapshot in chosen.snapshots
            if snapshot.source.partition(":")[0] not in _NOT_PLACED
        ),
    )


def sizes_of(repository: Repository, plan: RestorePlan) -> dict[str, int]:
    """How many bytes of content each source of a plan has."""
    sizes = {snapshot.id: snapshot.size or 0 for snapshot in repository.snapshots().snapshots}
    return {step.source: sizes.get(step.snapshot, 0) for step in plan.steps}


def restore_step(
    config: Config,
    repository: Repository,
    plan: RestorePlan,
    step: RestoreStep,
    on_progress: OnProgress | None = None,
) -> RestoreReport:
    """Carry out one step of a plan.

    Raises: RestoreError and its kind, CorruptObject, EngineUnavailable, DatabaseUnavailable, the store's errors.
    """
    snapshot = _snapshot(repository, plan, step)
    spec = source_of(stack_of(config, plan.stack), step.source)
    if isinstance(spec, Volume):
        with engine_of(config) as engine, _volume_directory(engine, step) as directory:
            if directory is None:
                return _over_api(repository, snapshot, engine, step, on_progress)
            return _named(
                restore_directory(repository, snapshot, directory, replace=step.replace, on_progress=on_progress), step
            )
    if isinstance(spec, Directory):
        return restore_directory(repository, snapshot, step.place, replace=step.replace, on_progress=on_progress)
    server = _placed(spec)
    if step.action == RECOVER:
        return restore_base_volume(config, repository, snapshot, step.place, on_progress)
    return _restore_database(config, repository, server, snapshot, step)


def _placed(spec: SourceSpec) -> Postgres:
    """A source that is a server. Raises: RestoreError for a command's output, which nothing can load by itself."""
    if isinstance(spec, (Command, Volume, Directory)):
        raise RestoreError("a command's output has no place to go", which=spec.label, hint="holdfast restore --to DIR")
    return spec


def _step(
    config: Config,
    repository: Repository,
    spec: SourceSpec,
    point: RestorePoint,
    snapshot: Snapshot,
    *,
    replace: bool,
) -> RestoreStep:
    if isinstance(spec, Volume):
        with engine_of(config) as engine:
            place, action, replaced = _plan_volume(engine, spec.name, point, replace=replace)
    elif isinstance(spec, Directory):
        place, action, replaced = _plan_directory(spec.path, point, replace=replace)
    elif is_base_snapshot(repository, snapshot):
        place, action, replaced = plan_base_volume(_placed(spec), point), RECOVER, False
    else:
        place, action, replaced = _plan_database(config, _placed(spec), replace=replace)
    return RestoreStep(source=spec.label, snapshot=snapshot.id, place=place, action=action, replace=replaced)


def _plan_volume(engine: Engine, name: str, point: RestorePoint, *, replace: bool) -> tuple[str, str, bool]:
    from holdfast.engine.volumes import find_volume, readable_directly

    try:
        volume = find_volume(engine, name)
    except SourceNotFound:
        return name, "make the volume", False
    if readable_directly(engine, volume) is not None:
        if replace:
            _require_direct(engine, name)
        return f"{name}-{_suffix(point)}", f"{name} cannot be written from here and stays; make the volume", False
    holds = any(entry != "lost+found" for entry in os.listdir(volume.mountpoint))
    if holds and not replace:
        return f"{name}-{_suffix(point)}", f"{name} holds data and stays; make the volume", False
    _require_idle(engine, volume)
    return name, "replace what is in the volume" if holds else "fill the empty volume", holds


def _plan_directory(path: str, point: RestorePoint, *, replace: bool) -> tuple[str, str, bool]:
    holds = os.path.isdir(path) and bool(os.listdir(path))
    if holds and not replace:
        return f"{path}.{_suffix(point)}", f"{path} holds data and stays; make the directory", False
    return path, "replace what is in the directory" if holds else "fill the directory", holds


def _plan_database(config: Config, spec: Postgres, *, replace: bool) -> tuple[str, str, bool]:
    from holdfast.services.databases import server_of

    with server_of(config, spec) as server:
        return server.where, "replace databases in" if replace else "load databases into", replace


def _suffix(point: RestorePoint) -> str:
    return f"restored-{point.id.lower()}"


@contextmanager
def _volume_directory(engine: Engine, step: RestoreStep) -> Iterator[str | None]:
    """The directory of the volume to restore into; a volume that was made here goes when the block fails.

    None for a volume that is to be made, where new ones cannot be written from here.
    """
    from holdfast.engine.volumes import create_volume, find_volume, readable_directly, remove_volume

    try:
        volume = find_volume(engine, step.place)
        made = False
    except SourceNotFound:
        volume, made = create_volume(engine, step.place), True
    if made and readable_directly(engine, volume) is not None:
        remove_volume(engine, volume.name)
        yield None
        return
    try:
        _require_idle(engine, volume)
        _require_direct(engine, volume.name)
        yield volume.mountpoint
    except BaseException:
        if made:
            remove_volume(engine, volume.name)
        raise


def _over_api(
    repository: Repository, snapshot: Snapshot, engine: Engine, step: RestoreStep, on_progress: OnProgress | None
) -> RestoreReport:
    from holdfast.engine.volumes import create_volume
    from holdfast.services.archive_restore import restore_new_volume

    volume = create_volume(engine, step.place)
    return restore_new_volume(repository, snapshot, engine, volume, on_progress=on_progress)


def _require_idle(engine: Engine, volume: EngineVolume) -> None:
    from holdfast.engine.volumes import containers_using, in_use

    users = containers_using(engine, volume)
    if any(use.running for use in users):
        raise in_use(volume, users)


def _require_direct(engine: Engine, name: str) -> None:
    from holdfast.engine.volumes import find_volume, readable_directly

    reason = readable_directly(engine, find_volume(engine, name))
    if reason is not None:
        raise RestoreError(
            "the volume cannot be written from here",
            which=name,
            found=reason,
            hint="run holdfast restore as root on the Docker host, or restore --to a directory",
        )


def _restore_database(
    config: Config, repository: Repository, spec: Postgres, snapshot: Snapshot, step: RestoreStep
) -> RestoreReport:
    from holdfast.services.databases import load_dump, server_of

    started = time.monotonic()
    with server_of(config, spec) as server, reading(repository):
        data = open_snapshot(repository, snapshot)
        notes = load_dump(repository, data, server, replace=step.replace)
    nodes = repository.reader.load_tree(data.tree)
    sizes = [
        node.size
        for parent in nodes
        for node in ([parent] if parent.type == "file" else repository.reader.load_tree(parent.subtree))
    ]
    return RestoreReport(
        snapshot=snapshot.id,
        source=step.source,
        target=step.place,
        files=len(sizes),
        directories=1,
        others=0,
        bytes=sum(sizes),
        seconds=time.monotonic() - started,
        notes=tuple(notes),
    )


def _snapshot(repository: Repository, plan: RestorePlan, step: RestoreStep) -> Snapshot:
    point = choose_point(repository, plan.stack, plan.point)
    return next(snapshot for snapshot in point.snapshots if snapshot.id == step.snapshot)


def _named(report: RestoreReport, step: RestoreStep) -> RestoreReport:
    """A volume is known by its name, not by where the engine keeps it."""
    return msgspec.structs.replace(report, target=f"volume {step.place}")
