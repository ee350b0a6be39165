"""From the configuration to the parts: which sources a stack has, and how each is captured.

Rules upheld here:
- Sources whose writers are held are one group: captured by one call that holds once, and lets go, for all of them.
- What does not exist is found before anything is captured: a mistyped name fails the plan, not the third source.
- A volume is read directly where its mountpoint can be; else over the Engine, and its snapshot says what that costs.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING

import msgspec

from holdfast.config.access import RepositoryAccess, resolve_access
from holdfast.config.commands import Command
from holdfast.config.models import Config
from holdfast.config.postgres import Postgres
from holdfast.config.sources import Directory, Volume
from holdfast.config.stack import SourceSpec, Stack
from holdfast.errors import ConfigError, SourceNotFound
from holdfast.model.definition import KIND
from holdfast.model.entry import Source
from holdfast.model.ids import PointId, new_point_id
from holdfast.repository.repository import Repository
from holdfast.services.backup import BackupReport, OnProgress, Run, SourceReport
from holdfast.services.failing import Failing
from holdfast.services.outcomes import outcome
from holdfast.sources.tree import TreeSource

if TYPE_CHECKING:
    from holdfast.engine.client import Engine

log = logging.getLogger(__name__)


class BackupPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What one run of a stack will capture, in order, and the restore point that it makes.

    `groups` are the same sources, those together that are captured while their writers are held once.
    """

    stack: str
    point: PointId
    started: datetime
    sources: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]


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
    declared = stack_of(config, stack)
    _check_directories(declared.sources)
    if in_docker(declared):
        _check_engine(config, declared.sources)
    groups = grouped(stack, declared)
    return BackupPlan(
        stack=stack,
        point=new_point_id(now),
        started=now,
        sources=tuple(label for group in groups for label in group),
        groups=groups,
    )


def grouped(name: str, stack: Stack) -> tuple[tuple[str, ...], ...]:
    """The labels of what a backup captures, in order: each by itself, what is captured in one hold, the description.

    Dumps belong to the hold, where there is one: they show the databases at its instant.
    """
    frozen = tuple(spec.label for spec in stack.sources if stack.quiesce_of(spec) != "none")
    if frozen:
        frozen = (*(s.label for s in stack.postgres if s.method == "dump"), *frozen)
    groups: list[tuple[str, ...]] = [(spec.label,) for spec in stack.sources if spec.label not in frozen]
    if frozen:
        groups.append(frozen)
    if in_docker(stack):
        groups.append((f"{KIND}:{name}",))
    return tuple(groups)


def in_docker(stack: Stack) -> bool:
    """Whether something of the stack lives in Docker: then its description belongs to its restore points."""
    servers = any(server.container for server in stack.postgres)
    return bool(stack.volumes or stack.commands or stack.hooks or servers or stack.project)


def needs_engine(config: Config) -> bool:
    """Whether a stack of the configuration has to be found, or lives, in Docker."""
    return any(stack.discover or in_docker(stack) for stack in config.stacks.values())


def _check_directories(specs: tuple[SourceSpec, ...]) -> None:
    for spec in specs:
        if isinstance(spec, Directory) and not os.path.isdir(spec.path):
            raise SourceNotFound(
                "there is no such directory", which=spec.path, hint=f"ls -ld {os.path.dirname(spec.path)}"
            )


def _check_engine(config: Config, specs: tuple[SourceSpec, ...]) -> None:
    volumes = [spec.name for spec in specs if isinstance(spec, Volume)]
    containers = [spec.container for spec in specs if isinstance(spec, (Postgres, Command)) and spec.container]
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
    elif isinstance(spec, Command):
        raise ConfigError("a command is captured with what its last output was", which=spec.label)
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
    from holdfast.services.live_server import refuse_live_server

    volume = find_volume(engine, spec.name)
    refuse_live_server(engine, volume.name, volume.mountpoint)
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


def sizes_before(repository: Repository, plan: BackupPlan) -> dict[str, int]:
    """How many bytes of content each source of a plan had last time; what is new is not among them."""
    found: dict[str, int] = {}
    for snapshot in repository.snapshots().snapshots:
        if snapshot.stack == plan.stack and snapshot.source in plan.sources and snapshot.size:
            found[snapshot.source] = snapshot.size
    return found


def capture_group(
    config: Config,
    repository: Repository,
    plan: BackupPlan,
    group: tuple[str, ...],
    *,
    allow_empty: bool = False,
    on_progress: OnProgress | None = None,
) -> tuple[SourceReport, ...]:
    """Capture the sources of a group, each into its snapshot: reading, holding, uploading and committing in one call.

    Raises: SourceError and its kind, EngineUnavailable, DatabaseUnavailable, RepositoryLocked, the store's errors; then
    no snapshot was made of this group, and nothing is held.
    """
    from holdfast.services.capture import capture_frozen_sources, capture_one

    stack = stack_of(config, plan.stack)
    run = Run(
        stack=plan.stack,
        point=plan.point,
        parts=len(plan.sources),
        host=config.hostname or socket.gethostname(),
        now=lambda: datetime.now(UTC),
        allow_empty=allow_empty,
        level=config.repository.level,
        on_progress=on_progress,
    )
    if len(group) == 1 and (group[0].startswith(f"{KIND}:") or stack.quiesce_of(source_of(stack, group[0])) == "none"):
        return (capture_one(config, repository, run, stack, group[0]),)
    return tuple(capture_frozen_sources(config, repository, run, stack, group))


def back_up(
    config: Config,
    repository: Repository,
    stack: str,
    *,
    now: Callable[[], datetime],
    allow_empty: bool = False,
    on_progress: OnProgress | None = None,
) -> BackupReport:
    """Plan a stack's backup and capture every source, one group after the other, also when one before it failed.

    What an earlier run left held is let go first. Files that could not be read are the report's `problem`, and
    remembered as one. Raises: as the two; SourceBusy while another backup of it runs.
    """
    with outcome("backup", stack) as ending, only_one(config, stack):
        plan = plan_backup(config, stack, now=now())
        sources: list[SourceReport] = []
        failing = Failing()
        for group in plan.groups:
            with failing.alone(", ".join(group)):
                sources += capture_group(
                    config, repository, plan, group, allow_empty=allow_empty, on_progress=on_progress
                )
        failing.end(len(sources), len(plan.sources), f"restore point {plan.point} of {stack}")
        seconds = (now() - plan.started).total_seconds()
        report = BackupReport(
            stack=stack, point=plan.point, started=plan.started, seconds=seconds, sources=tuple(sources)
        )
        ending.problem = report.problem
    return report


def place_of(config: Config) -> str:
    """What tells stacks of one name apart on a host: the engine and the repository."""
    return f"{config.engine.url or os.environ.get('DOCKER_HOST')} {config.repository.url}"


@contextmanager
def only_one(config: Config, stack: str) -> Iterator[None]:
    """Be the only backup of a stack on this host; what killed runs left held is let go. Raises: SourceBusy."""
    declared = stack_of(config, stack)
    if not in_docker(declared):
        yield
        return
    from holdfast.services.quiesce import alone, thaw_left
    from holdfast.services.rebuild_journal import refuse_unfinished

    with alone(stack, place_of(config), wait=declared.when_busy == "wait"):
        refuse_unfinished(stack)
        for line in thaw_left(own=config.engine.url):
            log.warning("a run that was killed had left something held, it was let go: %s", line)
        yield
