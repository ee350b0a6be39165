"""Capturing the sources of a stack: one that lives by itself, or several whose writers are held together.

Rules upheld here:
- A command's output is compared with what it was last time, before anything is committed.
- Several directories that are held are of one instant, and so are the stack's databases: dumps show that instant, and a
  server whose WAL is archived has a restore point there.
- A server whose own container is stopped for the capture keeps no instant: it is dumped before, and a word says so.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from holdfast.config.commands import Command
from holdfast.config.fields import share
from holdfast.config.models import Config
from holdfast.config.postgres import Postgres
from holdfast.config.sources import Directory, Volume
from holdfast.config.stack import Stack
from holdfast.errors import ConfigError
from holdfast.model.definition import KIND
from holdfast.repository.repository import Repository
from holdfast.services.backup import Run, SourceReport, capture_live
from holdfast.services.stacks import engine_of, opened_source, source_of
from holdfast.sources.command import CommandSource, Expected

if TYPE_CHECKING:
    from holdfast.services.holding import FreezePlan

log = logging.getLogger(__name__)


def capture_one(config: Config, repository: Repository, run: Run, stack: Stack, label: str) -> SourceReport:
    """Capture one source live. Raises: as `services.stacks.capture_group`."""
    if label.startswith(f"{KIND}:"):
        return _capture_definition(config, repository, run, stack)
    spec = source_of(stack, label)
    run = replace(run, allow_empty=run.allow_empty or getattr(spec, "allow_empty", False))
    if isinstance(spec, Command):
        return _capture_command(config, repository, run, spec)
    if isinstance(spec, Postgres) and spec.method == "base":
        from holdfast.services.bases import base_source

        with base_source(config, spec, repository, run.stack) as base:
            return capture_live(repository, run, base)
    with opened_source(config, spec) as source:
        return capture_live(repository, run, source)


def capture_frozen_sources(
    config: Config, repository: Repository, run: Run, stack: Stack, labels: Sequence[str]
) -> list[SourceReport]:
    """Capture directories whose writers are held, and the dumps that belong to them, all of one instant.

    Raises: as `services.stacks.capture_group`.
    """
    from holdfast.services.freeze import TreeSpec, capture_frozen
    from holdfast.services.instant import Databases
    from holdfast.services.quiesce import plan_freeze

    found = [source_of(stack, label) for label in labels]
    specs = [spec for spec in found if isinstance(spec, (Volume, Directory))]
    with engine_of(config) as engine:
        trees = [
            TreeSpec(_root(engine, spec), spec.label, tuple(spec.exclude), run.allow_empty or spec.allow_empty)
            for spec in specs
        ]

        def planned() -> FreezePlan:
            return plan_freeze(engine, run.stack, stack, specs)

        stopped = {target.container.name for target in planned().targets if target.method == "stop"}
        dumps = [spec for spec in found if isinstance(spec, Postgres) and spec.container not in stopped]
        early = [spec for spec in found if isinstance(spec, Postgres) and spec.container in stopped]
        reports = [_capture_early(config, repository, run, stack, spec) for spec in early]
        with Databases(config, stack.postgres, [spec.label for spec in dumps], run.point) as databases:
            reports += capture_frozen(repository, engine, run, trees, planned, at_freeze=databases)
            databases.archive_points()
            for spec in dumps:
                with databases.dump(spec) as source:
                    reports.append(capture_live(repository, run, source))
    return reports


def _capture_early(config: Config, repository: Repository, run: Run, stack: Stack, spec: Postgres) -> SourceReport:
    log.warning("%s: its container is stopped with the volumes: dumped before, not of their instant", spec.label)
    return capture_one(config, repository, run, stack, spec.label)


def _root(engine: Any, spec: Volume | Directory) -> str:
    if isinstance(spec, Directory):
        return spec.path
    from holdfast.engine.volumes import find_volume, readable_directly
    from holdfast.services.live_server import refuse_live_server

    volume = find_volume(engine, spec.name)
    reason = readable_directly(engine, volume)
    if reason is not None:
        raise ConfigError(
            "a volume can be captured with its writers held only where it can be read directly",
            which=spec.name,
            found=reason,
            hint="run as root on the Docker host, or set quiesce: none for this volume",
        )
    refuse_live_server(engine, volume.name, volume.mountpoint, held=True)
    return volume.mountpoint


def _capture_command(config: Config, repository: Repository, run: Run, spec: Command) -> SourceReport:
    from holdfast.engine.exec import ContainerRunner
    from holdfast.engine.hold import has_shell

    last = None if run.allow_empty else _last_size(repository, run, spec)
    with engine_of(config) as engine:
        shell = has_shell(engine, spec.container)
        source = CommandSource(
            ContainerRunner(engine, spec.container, user=spec.user, shell=shell),
            spec.command,
            label=spec.label,
            file=spec.file,
            expected=Expected(spec.min_size, last, share(spec.max_shrink)),
            timeout=float(spec.timeout),
        )
        return capture_live(repository, run, source)


def _last_size(repository: Repository, run: Run, spec: Command) -> int | None:
    from holdfast.services.restore import open_snapshot

    same = [s for s in repository.snapshots().snapshots if s.source == spec.label and s.stack == run.stack]
    if not same:
        return None
    manifest = open_snapshot(repository, same[-1]).manifest
    size = manifest.facts.get("size") if manifest else None
    return size if isinstance(size, int) else None


def _capture_definition(config: Config, repository: Repository, run: Run, stack: Stack) -> SourceReport:
    from holdfast.services.definition import DefinitionSource
    from holdfast.services.discovery import discover_on

    with engine_of(config) as engine:
        found = discover_on(config, engine).found[run.stack]
        return capture_live(repository, run, DefinitionSource(engine, run.stack, stack, found))
