"""Ending a program that was started by exec. The Engine has no call for it, and lets it run on when nobody listens.

Rules upheld here:
- First TERM, so that pg_dump can cancel what it asked of the server, then KILL; each to the whole process group: the
  runtime makes every exec a session of its own (runc, nsexec.c).
- A process of this machine is signalled only if it surely belongs to the container: its control group names it. The
  same number may be a stranger's where the engine and we do not share one view of processes.
- Otherwise a second exec does it from inside, as the same user, and knows the processes by the random value that they
  carry in their environment. It needs a shell, kill and grep there.
- What cannot be ended is an error that names it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass

from holdfast.engine.client import Engine
from holdfast.engine.discovery import Container
from holdfast.errors import CommandFailed, EngineRefused, SourceNotFound

MARK = "HOLDFAST_EXEC"
"""The environment variable that carries a program's random value."""

_GRACE = {"TERM": 5.0, "KILL": 5.0}
_INSIDE = (
    'for found in $(grep -lsa -e "$1" /proc/[0-9]*/environ); do'
    ' found=${found#/proc/}; kill -s "$2" "${found%/environ}" 2>/dev/null; done; :'
)


@dataclass(frozen=True, slots=True)
class Process:
    """A program that was started by exec: the Engine's id of it, and the value that it carries in its environment."""

    engine: Engine
    container: Container
    exec_id: str
    mark: str
    user: str | None


@dataclass(frozen=True, slots=True)
class ExecState:
    """What the Engine knows of an exec. `pid` is a number of its host; `code` is None while it is not known."""

    running: bool
    code: int | None
    pid: int


def inspect(process: Process) -> ExecState:
    """The state now. Raises: SourceNotFound when the container is gone, EngineUnavailable."""
    with process.engine.asking("the command's container is gone", process.container.name):
        found = process.engine.api.exec_inspect(process.exec_id)
    return ExecState(bool(found["Running"]), found["ExitCode"], found.get("Pid") or 0)


def wait_for_exit(process: Process, seconds: float) -> ExecState:
    """The state once the program has ended, or after so many seconds. Raises: as `inspect`."""
    deadline = time.monotonic() + seconds
    pause = 0.002
    while (state := inspect(process)).running and time.monotonic() < deadline:
        time.sleep(pause)
        pause = min(pause * 2, 0.2)
    return state


def stop(process: Process, signals: Sequence[str] = ("TERM", "KILL")) -> None:
    """End the program if it still runs, and wait until it has. Raises: CommandFailed, EngineUnavailable."""
    try:
        for name in signals:
            state = inspect(process)
            if not state.running:
                return
            if not _signal_from_here(process, state.pid, name):
                _signal_inside(process, name)
            if not wait_for_exit(process, _GRACE[name]).running:
                return
    except SourceNotFound:
        return  # the container is gone, and everything that ran in it
    raise CommandFailed(
        "a command cannot be stopped and still runs",
        which=f"in container {process.container.name}",
        hint=f"docker top {process.container.name}; docker restart {process.container.name} ends it",
    )


def exit_status(code: int | None) -> str:
    """An exit status in words."""
    if code is None:
        return "no exit status"
    try:
        return f"exit status {code} ({signal.Signals(code - 128).name})" if code > 128 else f"exit status {code}"
    except ValueError:
        return f"exit status {code}"


def _signal_from_here(process: Process, pid: int, name: str) -> bool:
    """Signal the process group directly; False where that is not surely right, or not allowed."""
    if not process.engine.local or pid <= 1 or not _belongs(pid, process.container.id):
        return False
    try:
        group = os.getpgid(pid)
        os.killpg(group, signal.Signals[f"SIG{name}"]) if group == pid else os.kill(pid, signal.Signals[f"SIG{name}"])
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return True


def _belongs(pid: int, container_id: str) -> bool:
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="replace") as file:
            return container_id in file.read()
    except OSError:
        return False


def _signal_inside(process: Process, name: str) -> None:
    """Signal from inside the container. What comes of it is seen by whether the program ends."""
    api = process.engine.api
    argv = ["/bin/sh", "-c", _INSIDE, "sh", f"{MARK}={process.mark}", name]
    try:
        with process.engine.asking("cannot stop a command", process.container.name):
            created = api.exec_create(process.container.id, argv, user=process.user or "")
            api.exec_start(created["Id"])
    except EngineRefused:
        return  # the container stopped meanwhile, or is paused: `stop` looks again
