"""What doctor looks at in the sources that a configuration names: that each can be read, now, from here.

Rules upheld here:
- Each source is one finding under its own name, so that the one that fails is seen at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from holdfast.config.postgres import Postgres
from holdfast.config.sources import Directory, Volume
from holdfast.errors import HoldfastError
from holdfast.services.finding import Finding, attempt, failed

if TYPE_CHECKING:
    from holdfast.config.models import Config
    from holdfast.engine.client import Engine


def examine_sources(config: Config) -> Iterator[Finding]:
    """The findings about every source of every stack, and the engine where one needs it."""
    specs = {f"{name}: {spec.label}": spec for name, stack in config.stacks.items() for spec in stack.sources}
    engine = None
    if any(isinstance(spec, Volume) or (isinstance(spec, Postgres) and spec.container) for spec in specs.values()):
        from holdfast.engine.client import connect

        findings: list[Finding] = []
        engine = attempt(findings, "engine", lambda: connect(config.engine.url), _engine)
        yield from findings
    try:
        for title, spec in specs.items():
            if isinstance(spec, Directory):
                yield _directory(title, spec)
            elif isinstance(spec, Postgres) and (spec.host or engine is not None):
                yield _database(title, config, spec)
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


def _database(title: str, config: Config, spec: Postgres) -> Finding:
    from holdfast.postgres.server import server_version
    from holdfast.services.databases import server_of

    try:
        with server_of(config, spec) as server, server.session() as session:
            version = server_version(session)
    except HoldfastError as error:
        return failed(title, error)
    return Finding(check=title, verdict="ok", found=f"answers, version {version // 10000}.{version % 10000}")
