"""pg_combinebackup: an incremental base backup and those below it become one data directory.

Source: PostgreSQL manual, pg_combinebackup.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from holdfast.errors import CommandFailed, RestoreError
from holdfast.postgres.programs import LocalRunner, server_programs

_LINKS_SINCE = 180_000


def combine_arguments(version: int, parts: Sequence[str], target: str) -> list[str]:
    """The arguments for a version (`server_version_num`): the parts are oldest first, and thrown away afterwards."""
    # Links cost nothing, and the parts go at once: nobody can write to a file through its other name.
    return ["--no-sync", *(["--link"] if version >= _LINKS_SINCE else []), f"--output={target}", *parts]


def combine_locally(version: int, parts: Sequence[str], target: str) -> None:
    """Combine with a program of exactly this major version.

    Raises: SourceNotFound without one, RestoreError when it fails.
    """
    folder = server_programs(version)
    program = os.path.join(folder, "pg_combinebackup")
    try:
        LocalRunner(folder).run(["pg_combinebackup", *combine_arguments(version, parts, target)])
    except CommandFailed as error:
        raise RestoreError(
            "the incremental base backups could not be combined",
            which=program,
            wanted="exit status 0",
            found=error.found,
        ) from error
