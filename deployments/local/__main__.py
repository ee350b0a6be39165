"""Prepare everything that the tests use, and say what is here and what is not: `python -m deployments.local [--peers]`.

Rules upheld here:
- A second run does nothing but look.
- A part that cannot be had is said with its reason, and does not fail the rest: the tests that need it are skipped
  with it.
- What only benchmarks need, the programs to measure against, is prepared with `--peers`.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable

from deployments.local.engine import PrivateEngine, engine_version
from deployments.local.images import BLANK, POSTGRES, provide
from deployments.local.machine import CannotProvide
from deployments.local.peers import borg, pgbackrest, zstd
from deployments.local.postgres import server_programs
from deployments.local.postgres_majors import MAJORS, major_programs
from deployments.local.s3 import RcloneServer, restic_binary


def main(arguments: list[str]) -> int:
    """Prepare each part and print one line for it; always 0."""
    parts: list[tuple[str, Callable[[], str]]] = [
        ("engine and images", _engine),
        ("S3 server", _s3),
        ("restic", restic_binary),
        ("PostgreSQL programs", _postgres),
        *((f"PostgreSQL {major}", functools.partial(_postgres_of, major)) for major in MAJORS),
    ]
    if "--peers" in arguments:
        parts.append(("peers to measure by", _peers))
    for part, prepare in parts:
        _report(part, prepare)
    return 0


def _report(part: str, prepare: Callable[[], str]) -> None:
    started = time.monotonic()
    try:
        line = f"{prepare()} ({time.monotonic() - started:.1f} s)"
    except CannotProvide as error:
        line = f"not available: {error}" + (f" (to have it: {error.hint})" if error.hint else "")
    sys.stdout.write(f"{part:>20}: {line}\n")
    sys.stdout.flush()


def _engine() -> str:
    """Start a private engine once, which shows that it can be done, and have both images in the cache."""
    with PrivateEngine() as engine:
        images = [
            f"{image.reference} ({image.origin})" for image in (provide(engine.url, r) for r in (POSTGRES, BLANK))
        ]
    return f"{engine_version()}; {', '.join(images)}"


def _s3() -> str:
    with RcloneServer() as server:
        return f"rclone answers, {server.endpoint}"


def _postgres() -> str:
    programs = server_programs()
    return f"{programs.version} ({programs.origin}) in {programs.folder}"


def _postgres_of(major: int) -> str:
    programs = major_programs(major)
    return f"{programs.version} in {programs.folder}"


def _peers() -> str:
    zstd()
    borg()
    found = pgbackrest()
    return f"pgBackRest {found.version}, {found.path}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
