"""What a server needs so that there is something good to back up: settings that keep its data whole. Pure.

Source: PostgreSQL manual, "Write Ahead Log" (fsync, full_page_writes), "pg_checksums".
"""

from __future__ import annotations

from collections.abc import Mapping

from holdfast.policy.wal_setup import Requirement

_ENABLES = 120_000
"""Since then pg_checksums switches them on."""


def safety_requirements(
    settings: Mapping[str, str], *, checksums: bool, version: int, directory: str, container: str, image: str
) -> list[Requirement]:
    """`directory` is PGDATA as the server has it, `container` and `image` are "" outside Docker."""
    return [
        _on(settings, "fsync", "a crash of the machine loses data, often the whole cluster"),
        _on(
            settings,
            "full_page_writes",
            "a crash leaves pages that are half written, except on a filesystem that never writes half (ZFS)",
            advice=True,
        ),
        Requirement(
            "data checksums",
            "on",
            "on" if checksums else "off",
            checksums,
            advice=True,
            why="a page that the disk damaged is backed up like any other, and nobody is told",
            by_hand=_enabling(version, directory, container, image),
        ),
    ]


def _on(settings: Mapping[str, str], name: str, why: str, *, advice: bool = False) -> Requirement:
    found = settings.get(name, "")
    sql = (f"ALTER SYSTEM SET {name} = 'on'", "SELECT pg_reload_conf()")
    return Requirement(name, "on", found, found == "on", sql, advice=advice, why=why)


def _enabling(version: int, directory: str, container: str, image: str) -> str:
    if version < _ENABLES:
        return "dump it, and load it into a cluster that was made with initdb --data-checksums"
    enable = f"pg_checksums --enable --progress -D {directory}"
    if not container:
        return f"stop the server, then as its user: {enable}"
    program, _, arguments = enable.partition(" ")
    run = f"docker run --rm --volumes-from {container} --user postgres --entrypoint {program} {image} {arguments}"
    return f"docker stop -t 300 {container} && {run}; docker start {container}"
