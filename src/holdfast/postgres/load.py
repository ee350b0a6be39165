"""Loading a dump into a running server.

Rules upheld here:
- A database that holds anything is refused before anything is touched, unless replacing was asked for; then the old one
  is kept under another name until the new one is whole, and comes back if it is not.
- Roles that are there stay, and are as they were backed up. The role that loads comes last: from then on it has the
  password of the backup, which a session that is still needed might not know.
- Tablespaces are not made: their folders are the host's affair, what lay in them goes to the default one, with a note.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from holdfast.errors import CommandFailed, HoldfastError, RestoreError, TargetInUse, TargetNotEmpty
from holdfast.postgres.facts import databases, roles
from holdfast.postgres.server import MAINTENANCE, Server
from holdfast.postgres.session import Session

ASIDE = r"(.*)-holdfast-old-[0-9a-f]{6}"
"""What a database that was set aside is called: the beginning of its name, and a mark."""

_TERMINATE = """
SELECT count(pg_catalog.pg_terminate_backend(pid)) AS ended FROM pg_catalog.pg_stat_activity WHERE datname = '{name}'
"""
_IS_EMPTY = """
SELECT count(*) AS found FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
  AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d
                  WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e')
"""


@dataclass(frozen=True, slots=True)
class Archive:
    """One database's archive: its name, and its bytes in order."""

    database: str
    data: Iterable[bytes]


def check_target(server: Server, names: Sequence[str], *, replace: bool) -> None:
    """Refuse before anything is touched. Raises: TargetNotEmpty, DatabaseUnavailable, DatabaseDenied."""
    with server.session() as session:
        present = set(databases(session))
    for name in names:
        if name not in present or replace:
            continue
        with server.session(name) as session:
            found = int(session.query(_IS_EMPTY)[0]["found"])
        if found:
            raise TargetNotEmpty(
                "the database is not empty",
                which=f"{name} in {server.where}",
                wanted="no database of this name, or an empty one",
                found=f"{found} relations",
                hint="restore into another server, or replace what is there with --replace",
            )


def load_globals(server: Server, script: bytes) -> list[str]:
    """Roles and their memberships; one line for each thing that was left out. Raises: RestoreError."""
    with server.session() as session:
        present = roles(session)
        quoted = {name: _ident(session, name) for name in present}
    kept, notes = [], []
    for line in script.splitlines(keepends=True):
        text = line.decode(errors="replace")
        if any(text.startswith(f"CREATE ROLE {ident};") for ident in quoted.values()):
            continue
        if "TABLESPACE" in text.split("'")[0] and not text.startswith("--"):
            notes.append(f"tablespaces are not restored: {' '.join(text.split())[:80]}")
            continue
        if not text.startswith(f"ALTER ROLE {quoted.get(server.user, server.user)} WITH "):
            kept.append(line)
    _run_script(server, kept)
    return notes


def load_own_role(server: Server, script: bytes) -> list[str]:
    """The attributes and password of the role that loads, last of all; a note about it. Raises: RestoreError."""
    with server.session() as session:
        own = f"ALTER ROLE {_ident(session, server.user)} WITH "
    lines = [line for line in script.splitlines(keepends=True) if line.startswith(own.encode())]
    _run_script(server, lines)
    return [f"role {server.user}: its password is that of the backup again"] if lines else []


def _run_script(server: Server, lines: Iterable[bytes]) -> None:
    try:
        server.run("psql", ["-X", "-q", "-v", "ON_ERROR_STOP=1", "--dbname", MAINTENANCE], lines)
    except CommandFailed as error:
        raise RestoreError("cannot restore the roles", which=server.where, found=error.found) from error


def load_database(server: Server, archive: Archive, *, keep: bool = False) -> str | None:
    """Create a database from its archive. One of the same name is kept aside until the new one is whole.

    With `keep` it stays aside after that, too: its name there, for `bring_back` or `drop_aside`.
    Raises: RestoreError, TargetInUse when somebody is connected to the old one; then it is as it was.
    """
    name = archive.database
    with server.session() as session:
        aside = _set_aside(session, server, name)
        try:
            arguments = ["--create", "--exit-on-error", "--no-tablespaces", "--dbname", MAINTENANCE]
            server.run("pg_restore", arguments, archive.data)
        except BaseException as error:
            _bring_back(session, name, aside)
            if isinstance(error, CommandFailed):
                which = f"{name} in {server.where}"
                raise RestoreError("cannot restore the database", which=which, found=error.found) from error
            raise
        if aside and not keep:
            session.execute(f"DROP DATABASE {_ident(session, aside)}")
    return aside if keep else None


def bring_back(server: Server, name: str, aside: str | None) -> None:
    """Undo `load_database`: the new database goes, the old one comes back. Raises: the session's errors."""
    with server.session() as session:
        # A pg_restore whose starter was killed may still be at it.
        session.query(_TERMINATE.format(name=name.replace("'", "''")))
        session.execute(f"DROP DATABASE IF EXISTS {_ident(session, name)}")
        if aside:
            session.execute(f"ALTER DATABASE {_ident(session, aside)} RENAME TO {_ident(session, name)}")


def drop_aside(server: Server, aside: str) -> None:
    """The new database is proven: the old one goes. Raises: DatabaseUnavailable, DatabaseDenied."""
    with server.session() as session:
        session.execute(f"DROP DATABASE IF EXISTS {_ident(session, aside)}")


def _set_aside(session: Session, server: Server, name: str) -> str | None:
    if name not in databases(session):
        return None
    aside = f"{name[:40]}-holdfast-old-{secrets.token_hex(3)}"
    try:
        session.execute(f"ALTER DATABASE {_ident(session, name)} RENAME TO {_ident(session, aside)}")
    except HoldfastError as error:
        raise TargetInUse(
            "the database cannot be set aside",
            which=f"{name} in {server.where}",
            wanted="nobody connected to it",
            found=error.found,
            hint="stop the application, then restore again",
        ) from error
    return aside


def _bring_back(session: Session, name: str, aside: str | None) -> None:
    # The failure that brought us here is the one to report: this is best effort, on a server that may be gone.
    with contextlib.suppress(HoldfastError):
        session.execute(f"DROP DATABASE IF EXISTS {_ident(session, name)}")
        if aside:
            session.execute(f"ALTER DATABASE {_ident(session, aside)} RENAME TO {_ident(session, name)}")


def _ident(session: Session, name: str) -> str:
    literal = name.replace("'", "''")
    return str(session.query(f"SELECT quote_ident('{literal}') AS ident")[0]["ident"])
