"""The programs that benchmarks compare with: installed from the distribution when they are missing.

Not part of what the tests need: a machine that cannot have them runs everything but the comparisons.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

from deployments.local.packages import ensure_tool


@dataclass(frozen=True)
class Peer:
    """A program's path and its version, such as "2.45"."""

    path: str
    version: str


def pgbackrest() -> Peer:
    """pgBackRest, the measure for physical PostgreSQL backups.

    Raises:
        CannotProvide: it is missing and cannot be installed here.
    """
    path = ensure_tool("pgbackrest", ("pgbackrest",))
    said = subprocess.run([path, "version"], capture_output=True, text=True, check=True).stdout
    return Peer(path, said.split()[-1])


def borg() -> str:
    """The path of BorgBackup. Raises: CannotProvide."""
    return ensure_tool("borg", ("borgbackup",))


def zstd() -> str:
    """The zstd program, which packs what `pg_basebackup` streams.

    Raises:
        CannotProvide: it is missing and cannot be installed here.
    """
    return ensure_tool("zstd", ("zstd",))
