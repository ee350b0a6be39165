"""Speaking to a container of a sandbox: from within its network, since the host has no address there.

Rules upheld here:
- Only the one thread that is made for it enters the network of the container (setns(2)), and it ends with the question.
- The process is looked up once more: what is entered is surely a container of that name, by its id in the cgroup, or
  nothing is entered.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from typing import TypeVar

from holdfast.engine.client import Engine
from holdfast.errors import DrillFailed

_NETWORK = 0x40000000
"""CLONE_NEWNET of sched.h."""

T = TypeVar("T")


def within_network(engine: Engine, name: str, ask: Callable[[], T]) -> T:
    """What `ask` gives in the network of a running container.

    Raises: DrillFailed, SourceNotFound, EngineUnavailable.
    """
    with engine.asking("cannot ask for a container of the sandbox", name):
        found = engine.api.inspect_container(name)
    fd = _network_of(name, str(found["Id"]), int(found["State"]["Pid"]))
    results: list[T] = []
    problems: list[Exception] = []

    def enter() -> None:
        try:
            _enter(fd)
            results.append(ask())
        except Exception as error:  # noqa: BLE001  handed to the thread that waits
            problems.append(error)

    try:
        thread = threading.Thread(target=enter, name="within a sandbox")
        thread.start()
        thread.join()
    finally:
        os.close(fd)
    if problems:
        raise _unreachable(name, str(problems[0])) from problems[0]
    return results[0]


def _enter(fd: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(fd, _NETWORK) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _network_of(name: str, container: str, pid: int) -> int:
    try:
        with open(f"/proc/{pid}/cgroup", encoding="ascii") as file:
            if container not in file.read():
                raise _unreachable(name, "its process is not seen from here")
        return os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _unreachable(name, str(error)) from error


def _unreachable(name: str, found: str) -> DrillFailed:
    return DrillFailed(
        "an application of a sandbox cannot be asked from here",
        which=name,
        found=found,
        hint="run the drill as root on the Docker host, not in a container",
    )
