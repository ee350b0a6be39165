"""The user's own checks of restored data: statements, commands, requests.

Rules upheld here:
- They run on what a drill restored, in its sandbox, on a network without a way out. Production is not asked.
- A check that cannot be made is a problem, not something that is passed over.
- Nothing is pulled: an image that is not there is a problem that says so.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Sequence
from functools import partial
from http.client import HTTPException
from typing import TYPE_CHECKING

from holdfast.config.checks import Application, CommandCheck, HttpCheck, SqlCheck
from holdfast.config.fields import length
from holdfast.errors import DrillFailed, HoldfastError
from holdfast.model.proof import CheckResult
from holdfast.model.snapshot import RestorePoint
from holdfast.repository.repository import Repository
from holdfast.services.restore import restore_directory
from holdfast.services.stacks import stack_of

if TYPE_CHECKING:
    from holdfast.config.models import Config
    from holdfast.engine.client import Engine
    from holdfast.engine.sandbox import Sandbox
    from holdfast.postgres.server import Server
    from holdfast.services.started import Start

_SHOWN = 300


def sql_checks(server: Server, checks: Iterable[SqlCheck]) -> tuple[CheckResult, ...]:
    """Ask a restored server."""
    return tuple(_ask(server, check) for check in checks)


def _ask(server: Server, check: SqlCheck) -> CheckResult:
    try:
        with server.session(check.database) as session:
            session.execute("SET statement_timeout = '10min'")
            rows = session.query(check.query.rstrip().rstrip(";"))
    except HoldfastError as error:
        return CheckResult(name=check.name, found="", problem=str(error))
    values = [value for row in rows for value in row.values()]
    if len(values) != 1:
        return CheckResult(name=check.name, found="", problem=f"wanted one value, found {len(values)}")
    found = values[0] if isinstance(values[0], str) else json.dumps(values[0])
    problem = None if found == check.expect else f"wanted {check.expect}, found {found[:_SHOWN]}"
    return CheckResult(name=check.name, found=found[:_SHOWN], problem=problem)


def application_checks(config: Config, repository: Repository, point: RestorePoint) -> tuple[CheckResult, ...]:
    """Start what the configuration names on restored volumes, and see what it does.

    Each check has a sandbox of its own with fresh copies of the volumes: no check sees what another one changed.
    """
    checks = stack_of(config, point.stack).checks
    wanted: list[CommandCheck | HttpCheck] = [*checks.commands, *checks.http]
    if not wanted:
        return ()
    from holdfast.services.stacks import engine_of

    with engine_of(config) as engine:
        return tuple(_try(engine, repository, point, check) for check in wanted)


def _try(engine: Engine, repository: Repository, point: RestorePoint, check: CommandCheck | HttpCheck) -> CheckResult:
    from holdfast.engine.sandbox import Sandbox

    try:
        with Sandbox(engine) as sandbox:
            start, left = _prepared(engine, sandbox, repository, point, check)
            name = start(check.command)
            done = _command(engine, name, check) if isinstance(check, CommandCheck) else _request(engine, name, check)
    except HoldfastError as error:
        return CheckResult(name=check.name, found="", problem=str(error))
    if done.problem is None or not left:
        return done
    note = f"{done.problem} (not started beside it, no backup of a container: {', '.join(left)})"
    return CheckResult(name=done.name, found=done.found, problem=note)


def _prepared(
    engine: Engine, sandbox: Sandbox, repository: Repository, point: RestorePoint, check: Application
) -> tuple[Start, tuple[str, ...]]:
    """Everything but the start of a check's container; and the databases that it has to do without."""
    if check.service is not None:
        from holdfast.services.started import prepare_service

        return prepare_service(engine, sandbox, repository, point, check.service, check.without, check.beside)
    binds = _mounted(engine, sandbox, repository, point, check)

    def start(command: Sequence[str]) -> str:
        settings = {"command": list(command)} if command else {}
        return sandbox.container("check", check.image or "", settings=settings, binds=binds)

    return start, ()


def _mounted(
    engine: Engine, sandbox: Sandbox, repository: Repository, point: RestorePoint, check: Application
) -> list[tuple[str, str]]:
    """The volumes that a check mounts, restored: scratch volume and path."""
    from holdfast.engine.volumes import readable_directly

    snapshots = {snapshot.source: snapshot for snapshot in point.snapshots}
    mounts: list[tuple[str, str]] = []
    for text in check.mounts:
        name, _, path = text.partition(":")
        snapshot = snapshots.get(f"volume:{name}")
        if snapshot is None:
            raise DrillFailed("the restore point has no such volume", which=name, wanted=", ".join(snapshots))
        volume = sandbox.volume("check")
        reason = readable_directly(engine, volume)
        if reason is not None:
            raise DrillFailed("a check needs a volume that can be written from here", which=name, found=reason)
        restore_directory(repository, snapshot, volume.mountpoint)
        mounts.append((volume.name, path))
    return mounts


def _command(engine: Engine, name: str, check: CommandCheck) -> CheckResult:
    from holdfast.engine.sandbox import wait_for_container

    code, output = wait_for_container(engine, name, length(check.timeout))
    said = " ".join(output.split())[-_SHOWN:]
    if code is None:
        return CheckResult(name=check.name, found=said, problem=f"it did not end within {check.timeout}")
    if code != check.exit_code:
        problem = f"wanted exit code {check.exit_code}, found {code}: {said}"
        return CheckResult(name=check.name, found=said, problem=problem)
    if check.output is not None and check.output not in output:
        return CheckResult(name=check.name, found=said, problem=f"its output has no {check.output!r}: {said}")
    return CheckResult(name=check.name, found=f"exit code {code}{': ' + said if said else ''}")


def _request(engine: Engine, name: str, check: HttpCheck) -> CheckResult:
    from holdfast.engine.discovery import find_container
    from holdfast.engine.inside import within_network

    deadline = time.monotonic() + length(check.timeout)
    found = "it does not answer"
    while time.monotonic() < deadline:
        container = find_container(engine, name)
        address = next(filter(None, container.networks.values()), "")
        if not container.running or not address:
            return CheckResult(name=check.name, found="", problem=f"its container does not run: {container.status}")
        url = f"http://{address}:{check.port}{check.path}"
        status, body = within_network(engine, name, partial(_get, url))
        if status == check.status and (check.contains is None or check.contains in body):
            return CheckResult(name=check.name, found=f"status {status}")
        found = found if status is None else f"status {status}: {' '.join(body.split())[:_SHOWN]}"
        time.sleep(0.3)
    wanted = f"status {check.status}" + (f" with {check.contains!r}" if check.contains else "")
    return CheckResult(name=check.name, found=found, problem=f"wanted {wanted} within {check.timeout}, found {found}")


def _get(url: str) -> tuple[int | None, str]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as answer:
            return answer.status, answer.read(1 << 20).decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read(1 << 20).decode("utf-8", "replace")
    except (OSError, HTTPException):  # nobody there yet, or no HTTP that answers
        return None, ""
