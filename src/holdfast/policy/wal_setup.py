"""What a server needs for base backups and for its WAL archive, and how each thing is changed. Pure.

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
    """One thing. `sql` makes it so, `by_hand` is a person's decision; `advice` only: backups work without it."""

    name: str
    wanted: str
    found: str
    met: bool
    sql: tuple[str, ...] = ()
    restart: bool = False
    advice: bool = False
    why: str = ""
    by_hand: str = ""


def archive_command(spool: str) -> str:
    """The shell line for `archive_command` with a spool at this path of the server.

    It succeeds only when the file and its name are on the disk; the same file again is a success, another one under the
    same name a failure. A file is on the disk before it has its name there: it may be shipped, and gone, right after.
    Needs sh, cmp, cp, ln and a `sync` that takes file names (coreutils 8.24, busybox 1.28).
    """
    folder = shlex.quote(spool)
    return (
        f'd={folder}; if [ -e "$d/%f" ]; then cmp -s "%p" "$d/%f" || exit 1; '
        'else t="$d/.%f.$$"; cp "%p" "$t" && sync "$t" && ln "$t" "$d/%f"; s=$?; rm -f "$t"; [ $s = 0 ] || exit 1; fi; '
        'sync "$d"'
    )


def physical_requirements(
    settings: Mapping[str, str], *, senders: int, role: str, replication: bool
) -> list[Requirement]:
    """For base backups and receiving, which take so many `senders` at once.

    `role` is the role's name as SQL has it, `replication` whether it may use them.
    """
    level = settings.get("wal_level", "")
    sql = ("ALTER SYSTEM SET wal_level = 'replica'",)
    found = [Requirement("wal_level", "replica", level, level in ("replica", "logical"), sql, restart=True)]
    if senders:
        may = "REPLICATION" if replication else "no REPLICATION"
        found += [
            _at_least(settings, "max_wal_senders", senders),
            Requirement("the role", "REPLICATION", may, replication, (f"ALTER ROLE {role} REPLICATION",)),
        ]
    return found


def slot_requirements(settings: Mapping[str, str], slots: Sequence[str], slot: str) -> list[Requirement]:
    """For receiving over a slot. `slots` are those of the server, which has to have room for ours."""
    made = slot in slots
    keep = settings.get(KEEP_SIZE, "")
    return [
        _at_least(settings, "max_replication_slots", len({*slots, slot})),
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
            why="without a limit the slot keeps WAL until the server's disk is full; with one, by the room there is, "
            "what is older is lost to the archive",
            by_hand=f"ALTER SYSTEM SET {KEEP_SIZE} = '64GB'; SELECT pg_reload_conf()",
        ),
    ]


def archive_requirements(settings: Mapping[str, str], spool: str) -> list[Requirement]:
    """For `archive_command` with a spool at this path of the server."""
    command, mode, timeout = archive_command(spool), settings.get("archive_mode", ""), settings.get("archive_timeout")
    literal = command.replace("'", "''")
    return [
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
            f"the line that writes into {spool}",
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


def _at_least(settings: Mapping[str, str], name: str, least: int) -> Requirement:
    found = settings.get(name, "0")
    sql = (f"ALTER SYSTEM SET {name} = {max(10, least)}",)
    return Requirement(name, f"at least {least}", found, found.isdigit() and int(found) >= least, sql, restart=True)
