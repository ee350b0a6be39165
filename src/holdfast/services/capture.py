"""Capturing the sources of a stack: one that lives by itself, or several whose writers are held together.

Rules upheld here:
- A command's output is compared with what it was last time, before anything is committed.
- Several directories that are held are of one instant, and so are the positions of the stack's databases that are
  stored with them: a recovery to that position belongs to these files.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from holdfast.config.models import Config
from holdfast.config.sources import Command, Directory, Postgres, Volume
from holdfast.config.stack import Stack
from holdfast.errors import ConfigError, HoldfastError
from holdfast.model.definition import KIND
from holdfast.repository.repository import Repository
from holdfast.services.backup import Run, SourceReport, capture_live
from holdfast.services.stacks import engine_of, opened_source, refuse_live_server, source_of
from holdfast.sources.command import CommandSource, Expected

log = logging.getLogger(__name__)

_POSITION = """
SELECT (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END)::text AS lsn
"""


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
    """Capture directories whose writers are held, all of one instant. Raises: as `services.stacks.capture_group`."""
    from holdfast.services.freeze import TreeSpec, capture_frozen
    from holdfast.services.quiesce import plan_freeze

    specs = [spec for label in labels if isinstance(spec := source_of(stack, label), (Volume, Directory))]
    with engine_of(config) as engine:
        trees = [
            TreeSpec(_root(engine, spec), spec.label, tuple(spec.exclude), run.allow_empty or spec.allow_empty)
            for spec in specs
        ]
        with _positions(config, stack) as positions:
            return capture_frozen(
                repository,
                engine,
                run,
                trees,
                lambda: plan_freeze(engine, run.stack, stack, specs),
                at_freeze=positions,
            )


def _root(engine: Any, spec: Volume | Directory) -> str:
    if isinstance(spec, Directory):
        return spec.path
    from holdfast.engine.volumes import find_volume, readable_directly

    volume = find_volume(engine, spec.name)
    reason = readable_directly(engine, volume)
    if reason is not None:
        raise ConfigError(
            "a volume can be captured with its writers held only where it can be read directly",
            which=spec.name,
            found=reason,
            hint="run as root on the Docker host, or set quiesce: none for this volume",
        )
    refuse_live_server(engine, volume.name, volume.mountpoint)
    return volume.mountpoint


@contextmanager
def _positions(config: Config, stack: Stack) -> Iterator[Callable[[], Mapping[str, object]]]:
    """What gives each database's WAL position: sessions are open before anything is held, and cost no time then."""
    from holdfast.services.databases import server_of

    with ExitStack() as sessions:
        open_ones: dict[str, Any] = {}
        for server in stack.postgres:
            try:
                found = sessions.enter_context(server_of(config, server))
                open_ones[server.label] = sessions.enter_context(found.session())
            except HoldfastError as error:
                # The dump of this server fails by itself where it has to; here its position is only not known.
                log.warning("%s: its position at the freeze is not known: %s", server.label, error)

        def ask() -> Mapping[str, object]:
            positions = {label: session.query(_POSITION)[0]["lsn"] for label, session in open_ones.items()}
            return {"wal_positions": positions} if positions else {}

        yield ask


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
            expected=Expected(spec.min_size, last, float(spec.max_shrink.removesuffix("%")) / 100),
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
