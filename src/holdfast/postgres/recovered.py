"""A server that recovers from a base backup: waiting for its end, and checking what came of it.

Rules upheld here:
- Recovered means promoted: it answers, and says itself that it recovers no more.
- A recovery that failed is told in PostgreSQL's own words: its last FATAL or PANIC line.
- What is compared is what was recorded with the base: the canary's commit, and every table that did not change while it
  was recorded.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime

import msgspec

from holdfast.errors import CommandFailed, HoldfastError, RecoveryFailed
from holdfast.model.base import BaseFacts, TargetKind
from holdfast.model.facts import DatabaseFacts, PostgresFacts, amount, are_digested, differences
from holdfast.model.words import many
from holdfast.postgres.canary import table_name
from holdfast.postgres.facts import cluster_facts
from holdfast.postgres.server import Server

SECONDS = 3600.0
"""How long a recovery may take before it counts as failed."""

_FAILED = re.compile(r"(?:FATAL|PANIC):.*")
_LAST_COMMIT = re.compile(r"last completed transaction was at log time (\S+ \S+)")
_NO_PROGRAM = ("exit status 127", "exit status 126", "cannot start a command", "executable file not found")
"""What a shell, this machine and an engine say of a program that is not there."""
_HARMLESS = ("the database system is starting up", "the database system is not yet accepting connections")


def wait_recovered(
    connect: Callable[[], Server], log: Callable[[], str], *, alive: Callable[[], bool] = lambda: True
) -> Server:
    """Wait until a server is recovered and promoted. Raises: RecoveryFailed with PostgreSQL's reason."""
    deadline = time.monotonic() + SECONDS
    server: Server | None = None
    while time.monotonic() < deadline:
        failure = _failure(log())
        if failure or not alive():
            raise RecoveryFailed(
                "PostgreSQL did not recover", which="the restored server", found=failure or _last(log())
            )
        try:
            server = server or connect()
            with server.session() as session:
                if not session.query("SELECT pg_is_in_recovery() AS busy")[0]["busy"]:
                    return server
        except HoldfastError:
            server = None
        time.sleep(0.2)
    raise RecoveryFailed("PostgreSQL did not recover in time", wanted=f"{SECONDS:.0f} s", found=_last(log()))


def last_replayed(log: str) -> datetime | None:
    """The last commit that a recovery replayed, as the server's log says it; None when it says nothing.

    Source: xlogrecovery.c, ShutdownWalRecovery and what logs "last completed transaction was at log time".
    """
    found = _LAST_COMMIT.findall(log)
    try:
        return datetime.fromisoformat(found[-1]).astimezone(UTC) if found else None
    except ValueError:
        return None


def prove_base(facts: BaseFacts, server: Server, target: TargetKind) -> tuple[str, list[str]]:
    """What a recovered server holds against what was recorded with its base: in words, and each difference."""
    problems: list[str] = []
    words: list[str] = []
    if facts.canary is not None and target is not TargetKind.CONSISTENT:
        problems += _check_canary(facts, server)
        words.append("canary committed" if not problems else "canary missing")
    if words and target is TargetKind.TIME:
        words.append("rows not compared: production wrote on until that instant")
    elif words:
        compared, different = _compare_rows(facts, server)
        words.append(compared)
        problems += different
    checked, damaged = _check_structure(server)
    return "; ".join([*words, checked]), [*problems, *damaged]


def _check_canary(facts: BaseFacts, server: Server) -> list[str]:
    canary = facts.canary
    assert canary is not None  # noqa: S101  the caller looked
    with server.session() as session:
        try:
            status = session.query(f"SELECT pg_xact_status('{canary.xid}'::xid8) AS status")[0]["status"]
        except HoldfastError as error:  # a number that was never given out
            status = error.found or str(error)
    return [] if status == "committed" else [f"transaction {canary.xid} is not committed: {status}"]


def _compare_rows(facts: BaseFacts, server: Server) -> tuple[str, list[str]]:
    left_out = frozenset(facts.changing)
    wanted = _without(facts.databases, left_out)
    if not any(database.tables for database in wanted):
        return "no tables compared", []
    names = [database.name for database in wanted]
    found = cluster_facts(server, names, digest=are_digested(wanted), logged=True)
    said = amount(wanted)
    if left_out:
        said += f", {many(len(left_out), 'table')} not compared: written meanwhile"
    expected = PostgresFacts(version=facts.version, databases=wanted, roles=facts.roles, user=facts.user)
    present = msgspec.structs.replace(found, databases=_without(found.databases, left_out))
    if facts.canary is not None and not facts.canary.quiet:  # tables came and went while the others were recorded
        present = msgspec.structs.replace(present, databases=_only(present.databases, wanted))
    return said, differences(expected, present)


def _check_structure(server: Server) -> tuple[str, list[str]]:
    """pg_amcheck over everything. Where it, or the server's extension, is missing that is said, and no difference."""
    with server.session() as session:
        if not session.query("SELECT 1 AS there FROM pg_available_extensions WHERE name = 'amcheck'"):
            return "structure not checked: the server has no amcheck extension", []
    damage = b""
    arguments = ["--all", "--install-missing", "--maintenance-db", "template1"]
    try:
        with contextlib.closing(server.stream("pg_amcheck", arguments)) as stream:
            while piece := stream.read(1 << 16):  # what is wrong goes to standard output, and the rest to the other
                damage = (damage + piece)[-4000:]
    except CommandFailed as error:
        told, found = f"{error} {error.found or ''}", " ".join(damage.decode(errors="replace").split())
        if any(words in told or words in found for words in _NO_PROGRAM):
            return "structure not checked: there is no program pg_amcheck", []
        return "structure checked", [f"pg_amcheck: {(found or told)[-400:]}"]
    return "structure checked by pg_amcheck", []


def _without(databases: tuple[DatabaseFacts, ...], left_out: Collection[str]) -> tuple[DatabaseFacts, ...]:
    return tuple(
        DatabaseFacts(
            name=database.name,
            tables=tuple(t for t in database.tables if table_name(database.name, t.schema, t.table) not in left_out),
        )
        for database in databases
        if database.name not in left_out
    )


def _only(databases: tuple[DatabaseFacts, ...], wanted: tuple[DatabaseFacts, ...]) -> tuple[DatabaseFacts, ...]:
    known = {(database.name, t.schema, t.table) for database in wanted for t in database.tables}
    return tuple(
        DatabaseFacts(
            name=database.name, tables=tuple(t for t in database.tables if (database.name, t.schema, t.table) in known)
        )
        for database in databases
    )


def _failure(log: str) -> str:
    lines = [line for line in log.splitlines() if _FAILED.search(line) and not any(h in line for h in _HARMLESS)]
    return lines[-1] if lines else ""


def _last(log: str) -> str:
    return " / ".join(log.splitlines()[-3:])
