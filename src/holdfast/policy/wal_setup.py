"""What a server needs before its WAL can be archived, and how each thing is changed. Pure.

Rules upheld here:
- Every requirement says what is there, what is wanted, and the statement that changes it.
- What only a restart makes true says so; nothing here restarts a server.

Source: PostgreSQL manual, "Setting Up WAL Archiving", "Replication Slots".
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

KEEP_SIZE = "max_slot_wal_keep_size"


@dataclass(frozen=True, slots=True)
class Requirement:
    """One thing. `sql` makes it so; `advice` only: the archive works without it."""

    name: str
    wanted: str
    found: str
    met: bool
    sql: tuple[str, ...] = ()
    restart: bool = False
    advice: bool = False
    why: str = ""


def archive_command(spool: str) -> str:
    """The shell line for `archive_command` with a spool at this path of the server.

    It succeeds only when the file and its name are on the disk; the same file again is a success, another one under the
    same name a failure. Needs sh, cmp, cp, ln and a `sync` that takes file names (coreutils 8.24, busybox 1.28).
    """
    folder = shlex.quote(spool)
    return (
        f'd={folder}; if [ -e "$d/%f" ]; then cmp -s "%p" "$d/%f" || exit 1; '
        'else t="$d/.%f.$$"; cp "%p" "$t" && sync "$t" && ln "$t" "$d/%f"; s=$?; rm -f "$t"; [ $s = 0 ] || exit 1; fi; '
        'sync "$d/%f" "$d"'
    )


def stream_requirements(
    settings: Mapping[str, str], slots: Sequence[str], slot: str, *, replication: bool
) -> list[Requirement]:
    """For receiving over a slot. `slots` are those of the server, `replication` whether the role may use them."""
    made = slot in slots
    keep = settings.get(KEEP_SIZE, "")
    return [
        _level(settings),
        _positive(settings, "max_wal_senders", 10),
        _positive(settings, "max_replication_slots", 10),
        Requirement(
            "the role",
            "REPLICATION",
            "REPLICATION" if replication else "no REPLICATION",
            replication,
            ("ALTER ROLE CURRENT_USER REPLICATION",),
        ),
        Requirement(
            f"replication slot {slot}",
            "a physical slot",
            "a physical slot" if made else "none",
            made,
            (f"SELECT pg_create_physical_replication_slot('{slot}', true)",),
        ),
        Requirement(
            KEEP_SIZE,
            "a limit",
            keep,
            keep not in ("-1", ""),
            advice=True,
            why="without a limit the slot keeps WAL until the server's disk is full; with one, what is older is lost "
            "to the archive: ALTER SYSTEM SET max_slot_wal_keep_size = '64GB', by the room there is",
        ),
    ]


def archive_requirements(settings: Mapping[str, str], spool: str) -> list[Requirement]:
    """For `archive_command` with a spool at this path of the server."""
    command, mode, timeout = archive_command(spool), settings.get("archive_mode", ""), settings.get("archive_timeout")
    literal = command.replace("'", "''")
    return [
        _level(settings),
        Requirement(
            "archive_mode",
            "on",
            mode,
            mode in ("on", "always"),
            ("ALTER SYSTEM SET archive_mode = 'on'",),
            restart=True,
        ),
        Requirement(
            "archive_command",
            command,
            settings.get("archive_command", ""),
            settings.get("archive_command") == command,
            (f"ALTER SYSTEM SET archive_command = '{literal}'", "SELECT pg_reload_conf()"),
        ),
        Requirement(
            "archive_timeout",
            "at most 60 s",
            timeout or "0",
            timeout not in (None, "0"),
            ("ALTER SYSTEM SET archive_timeout = '60s'", "SELECT pg_reload_conf()"),
            why="a disaster costs what was written since the last finished segment",
        ),
    ]


def incremental_requirement(settings: Mapping[str, str]) -> Requirement:
    """For incremental base backups; without it they are full."""
    found = settings.get("summarize_wal")
    return Requirement(
        "summarize_wal",
        "on",
        found or "not in this version of PostgreSQL",
        found == "on",
        ("ALTER SYSTEM SET summarize_wal = 'on'", "SELECT pg_reload_conf()") if found else (),
        advice=True,
        why="without it every base backup is a full one" if found else "PostgreSQL 17 has it",
    )


def _level(settings: Mapping[str, str]) -> Requirement:
    level = settings.get("wal_level", "")
    sql = ("ALTER SYSTEM SET wal_level = 'replica'",)
    return Requirement("wal_level", "replica", level, level in ("replica", "logical"), sql, restart=True)


def _positive(settings: Mapping[str, str], name: str, wanted: int) -> Requirement:
    found = settings.get(name, "0")
    sql = (f"ALTER SYSTEM SET {name} = {wanted}",)
    return Requirement(name, "at least 1", found, found.isdigit() and int(found) > 0, sql, restart=True)
