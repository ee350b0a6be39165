"""Where a server's data directory is from here: through its container's mounts, or on this very machine.

Rules upheld here:
- A directory is taken for the server's only if the file that only a running one has is there: `postmaster.pid`, with
  the same start as the server tells. A directory of the same path on another machine is not.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from holdfast.config.postgres import Postgres
from holdfast.postgres.server import Server, why_another

if TYPE_CHECKING:
    from holdfast.config.models import Config
    from holdfast.engine.discovery import Container


@dataclass(frozen=True, slots=True)
class Place:
    """`root` is PGDATA as it can be read from here, None when it cannot, then `reason` says why.

    `subpath` is where PGDATA lies below the root of the volume that it is on. Tablespaces by their oid.
    """

    root: str | None
    reason: str = ""
    subpath: str = ""
    tablespaces: dict[int, str] = field(default_factory=dict)


def find_place(config: Config, spec: Postgres, server: Server) -> Place:
    """Look for a server's data directory. Raises: DatabaseUnavailable, the engine's errors."""
    with server.session() as session:
        row = session.query(
            "SELECT current_setting('data_directory') AS path, pg_is_in_recovery() AS standby,"
            " extract(epoch FROM pg_postmaster_start_time())::bigint AS started"
        )[0]
        spaces = session.query(
            "SELECT oid::bigint AS oid, pg_tablespace_location(oid) AS path FROM pg_tablespace"
            " WHERE pg_tablespace_location(oid) NOT IN ('', 'pg_tblspc/' || oid)"  # in place: a folder like any other
        )
    inside = str(row["path"])
    # A link may be relative to pg_tblspc: a restored server's are.
    paths = {
        int(space["oid"]): os.path.normpath(os.path.join(inside, "pg_tblspc", str(space["path"]))) for space in spaces
    }
    subpath, outside = "", {path: path for path in (inside, *paths.values())}
    if spec.container is not None:
        subpath, outside = _through_mounts(config, spec.container, inside, list(paths.values()))
    reason = _why_not(spec, standby=bool(row["standby"]), outside=outside, inside=inside, started=int(row["started"]))
    if reason:
        return Place(None, reason, subpath)
    return Place(outside[inside], "", subpath, {oid: outside[path] for oid, path in paths.items()})


def _why_not(spec: Postgres, *, standby: bool, outside: dict[str, str], inside: str, started: int) -> str:
    if spec.read == "stream":
        return "read: stream is configured"
    if spec.incremental is not None:
        return "incremental base backups come over the stream"
    if spec.wal is None:
        return "without a WAL archive the backup has to bring its own WAL, which only the stream does"
    if standby:
        return "the server is a standby"
    missing = [path for path, found in outside.items() if not found or not os.path.isdir(found)]
    if missing:
        return f"{missing[0]} is not to be found here"
    return why_another(outside[inside], started)


def _through_mounts(config: Config, name: str, inside: str, others: list[str]) -> tuple[str, dict[str, str]]:
    from holdfast.engine.discovery import find_running
    from holdfast.services.stacks import engine_of

    with engine_of(config) as engine:
        container = find_running(engine, name)
        here = engine.same_machine()
    outside = {path: _outside(container, path) if here else "" for path in (inside, *others)}
    return below_mount(container, inside), outside


def _outside(container: Container, path: str) -> str:
    """A container's path on the host; "" when no mount holds it."""
    holding = [mount for mount in container.mounts if _holds(mount.target, path)]
    if not holding:
        return ""
    mount = max(holding, key=lambda mount: len(mount.target))
    return os.path.normpath(os.path.join(mount.source, os.path.relpath(path, mount.target)))


def below_mount(container: Container, directory: str) -> str:
    """A path of the container relative to the mount that holds it; "" where none does, or where it is the mount."""
    holding = [mount.target for mount in container.mounts if _holds(mount.target, directory)]
    if not holding:
        return ""
    found = os.path.relpath(directory, max(holding, key=len))
    return "" if found == "." else found


def _holds(target: str, path: str) -> bool:
    return bool(target) and os.path.commonpath([target, path]) == os.path.normpath(target)
