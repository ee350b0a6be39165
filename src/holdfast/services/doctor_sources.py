"""What doctor looks at in the sources that a configuration names: that each can be read, now, from here.

Rules upheld here:
- Each source is one finding under its own name, so that the one that fails is seen at once.
- What a database server's settings lack is a finding of its own below it, with the line that changes it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from holdfast.config.postgres import Postgres
from holdfast.config.sources import Directory, Volume
from holdfast.errors import CommandFailed, DatabaseDenied, HoldfastError
from holdfast.services.finding import Finding, attempt, failed

if TYPE_CHECKING:
    from holdfast.config.models import Config
    from holdfast.engine.client import Engine
    from holdfast.policy.wal_setup import Requirement
    from holdfast.postgres.server import Server


def examine_sources(config: Config) -> Iterator[Finding]:
    """The findings about every source of every stack, and the engine where one needs it."""
    specs = {(name, f"{name}: {spec.label}"): spec for name, stack in config.stacks.items() for spec in stack.sources}
    engine = None
    if any(isinstance(spec, Volume) or (isinstance(spec, Postgres) and spec.container) for spec in specs.values()):
        from holdfast.engine.client import connect

        findings: list[Finding] = []
        engine = attempt(findings, "engine", lambda: connect(config.engine.url), _engine)
        yield from findings
    try:
        for (stack, title), spec in specs.items():
            if isinstance(spec, Directory):
                yield _directory(title, spec)
            elif isinstance(spec, Postgres) and (spec.host or engine is not None):
                yield from _database(title, config, stack, spec)
            elif isinstance(spec, Volume) and engine is not None:
                yield _volume(title, engine, spec)
    finally:
        if engine is not None:
            engine.close()


def _engine(engine: Engine) -> str:
    return f"{engine.url}, version {engine.info().get('ServerVersion', 'not told')}"


def _directory(title: str, spec: Directory) -> Finding:
    if not os.path.isdir(spec.path):
        hint = f"ls -ld {os.path.dirname(spec.path)}"
        return Finding(check=title, verdict="fail", found="there is no such directory", hint=hint)
    if not os.access(spec.path, os.R_OK | os.X_OK):
        return Finding(check=title, verdict="fail", found=f"uid {os.getuid()} may not read it", hint="run as root")
    return Finding(check=title, verdict="ok", found="can be read")


def _volume(title: str, engine: Engine, spec: Volume) -> Finding:
    from holdfast.engine.volumes import find_volume, readable_directly

    try:
        reason = readable_directly(engine, find_volume(engine, spec.name))
    except HoldfastError as error:
        return failed(title, error)
    if reason is None:
        return Finding(check=title, verdict="ok", found="can be read directly")
    hint = "run as root on the Docker host: through the engine it is slower, and attributes are lost"
    return Finding(check=title, verdict="warn", found=f"cannot be read directly: {reason}", hint=hint)


def _database(title: str, config: Config, stack: str, spec: Postgres) -> Iterator[Finding]:
    from holdfast.postgres.server import server_version
    from holdfast.services.databases import server_of

    try:
        with server_of(config, spec) as server:
            with server.session() as session:
                version = server_version(session)
            yield Finding(check=title, verdict="ok", found=f"answers, version {version // 10000}.{version % 10000}")
            yield from _settings(title, config, stack, spec, server)
    except HoldfastError as error:
        yield failed(title, error)


def _settings(title: str, config: Config, stack: str, spec: Postgres, server: Server) -> Iterator[Finding]:
    """What its settings lack for what is done with it."""
    from holdfast.services.server_needs import all_needs

    try:
        with server.session() as session:
            needs = all_needs(config, stack, spec, server, session)
    except (DatabaseDenied, CommandFailed) as error:
        hint = f"GRANT pg_monitor TO {spec.user}"
        yield Finding(check=f"{title}, settings", verdict="warn", found=f"cannot be asked: {error}", hint=hint)
        return
    lacking = [need for need in needs if not need.met]
    for need in lacking:
        found = f"{need.found or 'empty'}{f': {need.why}' if need.why else ''}"
        yield Finding(
            check=f"{title}, {need.name}",
            verdict="warn" if need.advice else "fail",
            found=found,
            wanted=need.wanted,
            hint=need.by_hand or _change(need),
        )
    if not lacking:
        yield Finding(check=f"{title}, settings", verdict="ok", found=f"as they should be: {_names(needs)}")


def _change(need: Requirement) -> str | None:
    lines = "; ".join(need.sql)
    return f"{lines}; then restart the server" if need.restart else lines or None


def _names(needs: Sequence[Requirement]) -> str:
    return ", ".join(need.name for need in needs)
