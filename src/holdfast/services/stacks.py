"""From the configuration to the parts: which sources a stack has, and how each is captured.

Rules upheld here:
- What does not exist is found before anything is captured: a mistyped name fails the plan, not the third source.
- A volume is read directly where its mountpoint can be; else over the Engine, and its snapshot says what that costs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from holdfast.config.access import RepositoryAccess, resolve_access
from holdfast.config.models import Config
from holdfast.config.sources import Directory, Postgres, Volume
from holdfast.config.stack import Stack
from holdfast.errors import ConfigError, SourceNotFound
from holdfast.model.entry import Source
from holdfast.model.ids import PointId, new_point_id
from holdfast.repository.repository import Repository
from holdfast.services.backup import BackupReport, OnProgress, SourceReport, capture
from holdfast.sources.tree import TreeSource

if TYPE_CHECKING:
    from holdfast.engine.client import Engine

SourceSpec: TypeAlias = Volume | Directory | Postgres


class BackupPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What one run of a stack will capture, in order, and the restore point that it makes."""

    stack: str
    point: PointId
    started: datetime
    sources: tuple[str, ...]


def access_of(config: Config) -> RepositoryAccess:
    """How to reach the configured repository; the environment may name the password. Raises: ConfigError."""
    return resolve_access(config=config)


def stack_of(config: Config, name: str) -> Stack:
    """A stack by its name. Raises: ConfigError that names the nearest one."""
    found = config.stacks.get(name)
    if found is None:
        near = get_close_matches(name, config.stacks, 1)
        raise ConfigError(
            "the configuration has no such stack",
            which=name,
            wanted=f"one of {', '.join(sorted(config.stacks)) or 'none: it has no stacks'}",
            hint=f"did you mean {near[0]}?" if near else None,
        )
    return found


def source_of(stack: Stack, label: str) -> SourceSpec:
    """A source of a stack by its label. Raises: ConfigError."""
    for spec in stack.sources:
        if spec.label == label:
            return spec
    labels = ", ".join(spec.label for spec in stack.sources)
    raise ConfigError("the stack has no such source", which=label, wanted=f"one of {labels}")


@contextmanager
def engine_of(config: Config) -> Iterator[Engine]:
    """The configured Engine. Raises: EngineUnavailable."""
    from holdfast.engine.client import connect

    with connect(config.engine.url) as engine:
        yield engine


def plan_backup(config: Config, stack: str, *, now: datetime) -> BackupPlan:
    """What a backup of a stack would capture.

    Raises: ConfigError for an unknown stack, SourceNotFound for a source that is not there, SourceUnreadable for a
    container that does not run, EngineUnavailable.
    """
    specs = stack_of(config, stack).sources
    _check_directories(specs)
    if any(not isinstance(spec, Directory) for spec in specs):
        _check_engine(config, specs)
    return BackupPlan(stack=stack, point=new_point_id(now), started=now, sources=tuple(spec.label for spec in specs))


def _check_directories(specs: tuple[SourceSpec, ...]) -> None:
    for spec in specs:
        if isinstance(spec, Directory) and not os.path.isdir(spec.path):
            raise SourceNotFound(
                "there is no such directory", which=spec.path, hint=f"ls -ld {os.path.dirname(spec.path)}"
            )


def _check_engine(config: Config, specs: tuple[SourceSpec, ...]) -> None:
    volumes = [spec.name for spec in specs if isinstance(spec, Volume)]
    containers = [spec.container for spec in specs if isinstance(spec, Postgres) and spec.container]
    if volumes or containers:
        from holdfast.engine.discovery import find_running
        from holdfast.engine.volumes import find_volume

        with engine_of(config) as engine:
            for name in volumes:
                find_volume(engine, name)
            for name in containers:
                find_running(engine, name)


@contextmanager
def opened_source(config: Config, spec: SourceSpec) -> Iterator[Source]:
    """A source ready to be captured, for the time of the block. Raises: SourceError, EngineUnavailable."""
    if isinstance(spec, Directory):
        yield TreeSource(spec.path, label=spec.label, exclude=spec.exclude)
    elif isinstance(spec, Volume):
        with engine_of(config) as engine:
            yield _volume_source(engine, spec)
    elif spec.method == "base":
        from holdfast.services.bases import base_source

        with base_source(config, spec) as base:
            yield base
    else:
        from holdfast.services.databases import dump_source

        with dump_source(config, spec) as source:
            yield source


def _volume_source(engine: Engine, spec: Volume) -> Source:
    from holdfast.engine.archive import ArchiveTree
    from holdfast.engine.volumes import find_volume, readable_directly

    volume = find_volume(engine, spec.name)
    if readable_directly(engine, volume) is None:
        return TreeSource(volume.mountpoint, label=spec.label, exclude=spec.exclude)
    if spec.exclude:
        raise ConfigError(
            "exclude works only where the volume can be read directly",
            which=spec.name,
            found=readable_directly(engine, volume),
            hint="run as root on the Docker host, or remove exclude",
        )
    return ArchiveTree(engine, volume)


def capture_source(
    config: Config,
    repository: Repository,
    plan: BackupPlan,
    source: str,
    *,
    allow_empty: bool = False,
    on_progress: OnProgress | None = None,
) -> SourceReport:
    """Capture one source of a plan into its snapshot: reading, uploading and committing in one call.

    Raises: SourceError and its kind, EngineUnavailable, DatabaseUnavailable, RepositoryLocked, the store's errors; then
    no snapshot was made.
    """
    spec = source_of(stack_of(config, plan.stack), source)
    with opened_source(config, spec) as opened:
        return capture(
            repository,
            opened,
            stack=plan.stack,
            point=plan.point,
            parts=len(plan.sources),
            hostname=config.hostname,
            allow_empty=allow_empty or getattr(spec, "allow_empty", False),
            level=config.repository.level,
            on_progress=on_progress,
        )


def back_up(
    config: Config,
    repository: Repository,
    stack: str,
    *,
    now: Callable[[], datetime],
    allow_empty: bool = False,
    on_progress: OnProgress | None = None,
) -> BackupReport:
    """Plan a stack's backup and capture every source, one after the other. Raises: as the two."""
    plan = plan_backup(config, stack, now=now())
    sources = tuple(
        capture_source(config, repository, plan, source, allow_empty=allow_empty, on_progress=on_progress)
        for source in plan.sources
    )
    seconds = (now() - plan.started).total_seconds()
    return BackupReport(stack=stack, point=plan.point, started=plan.started, seconds=seconds, sources=sources)
