"""The keeper: a process that starts programs, and stops them and sweeps up when its owner asks, ends or dies.

Rules upheld here:
- The owner holds the other end of the keeper's standard input. When it closes, for whatever reason (also kill -9 of
  the owner), the programs are stopped and everything of theirs is removed.
- The keeper leads a session of its own, so a Ctrl-C at the terminal reaches the owner and not the keeper; SIGTERM
  means stop.
- It is the subreaper (prctl(2)) of all that it started: what daemonizes, as a container's shim does, stays below it.
- A program that ends by itself ends everything; its last words go to the owner on standard output, as one JSON
  object.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from deployments.local.sweep import command_name, descendants, is_alive, kill_all, sweep, thaw

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass
class Program:
    """One running program: its name (also its log's), process id and the seconds that it gets to end by itself."""

    name: str
    pid: int
    grace: float
    handle: subprocess.Popen[bytes] = field(repr=False)


class Keeper:
    """Starts the programs of one folder, waits, and removes every trace."""

    def __init__(self, folder: str, owner: int, commands: list[dict[str, Any]]) -> None:
        self.folder = folder
        self.owner = _descriptor_of(owner)
        self.commands = commands
        self.running: list[Program] = []
        self.ended: dict[int, int] = {}
        self.signals, writing_end = os.pipe()
        os.set_blocking(writing_end, False)
        os.set_blocking(self.signals, False)
        signal.set_wakeup_fd(writing_end, warn_on_full_buffer=False)

    def run(self) -> dict[str, Any]:
        """Start everything, wait for an end, stop everything; returns what the owner should know."""
        for command in self.commands:
            self._start(command)
        report = self._wait()
        self._stop()
        report["left"] = sweep(self.folder)
        return report

    def _start(self, command: dict[str, Any]) -> None:
        with open(os.path.join(self.folder, f"{command['name']}.log"), "wb") as log:
            handle = subprocess.Popen(
                command["argv"],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=_end_with_keeper
                if command["ends_with_keeper"]
                else None,  # one thread: nothing to dead-lock
            )
        self.running.append(Program(command["name"], handle.pid, command["grace"], handle))

    def _wait(self) -> dict[str, Any]:
        """Block until the owner lets go, a signal says stop, or a program ends; which of these it was."""
        watched = [0, self.signals, *([] if self.owner is None else [self.owner])]
        while True:
            ready, _, _ = select.select(watched, [], [])
            self._reap()
            for program in self.running:
                if program.pid in self.ended:
                    return self._last_words(program)
            asked_to_stop = self.signals in ready and signal.SIGTERM in os.read(self.signals, 64)
            let_go = self.owner in ready or (0 in ready and not os.read(0, 64))
            if asked_to_stop or let_go:
                return {}

    def _last_words(self, program: Program) -> dict[str, Any]:
        with open(os.path.join(self.folder, f"{program.name}.log"), "rb") as log:
            lines = log.read()[-8000:].decode(errors="replace").splitlines()
        status = os.waitstatus_to_exitcode(self.ended[program.pid])
        return {"died": program.name, "status": status, "log": lines[-12:]}

    def _stop(self) -> None:
        """The programs in reverse order, then whatever is left."""
        for program in reversed(self.running):
            self._end(program)
        kill_all(self._everything_below)
        deadline = time.monotonic() + 1
        while self._everything_below() and time.monotonic() < deadline:  # the last zombies
            time.sleep(0.02)

    def _containers(self) -> list[int]:
        self._reap()
        shims = [pid for pid in descendants([os.getpid()]) if command_name(pid).startswith("containerd-shim")]
        return [pid for pid in descendants(shims) if pid not in shims]

    def _everything_below(self) -> list[int]:
        self._reap()
        return descendants([os.getpid()])

    def _end(self, program: Program) -> None:
        """Ask a program to end. Containers are killed meanwhile: their engine would give each one ten seconds."""
        if program.pid not in self.ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(program.pid, signal.SIGTERM)
        deadline = time.monotonic() + program.grace
        while is_alive(program.pid) and time.monotonic() < deadline:
            thaw(os.path.basename(self.folder))
            kill_all(self._containers, seconds=0)
            time.sleep(0.02)
        self._reap()

    def _reap(self) -> None:
        """Collect every child that has ended; as subreaper we are the parent of strangers, too."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                self.ended[pid] = status


def _descriptor_of(owner: int) -> int | None:
    """A descriptor that reports the owner's end even if a forked child of it still holds the pipe (pidfd_open(2))."""
    try:
        return os.pidfd_open(owner)
    except OSError:  # an older kernel, or the owner has just ended: the pipe tells
        return None


def _end_with_keeper() -> None:
    """In the new program, before it starts: should the keeper itself be killed, end in an orderly way."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def main() -> None:
    """Read the order from the file named on the command line, and keep it."""
    LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)  # the wake-up pipe carries the news
    with open(sys.argv[1], encoding="utf-8") as file:
        order = json.load(file)
    report = Keeper(os.path.dirname(os.path.abspath(sys.argv[1])), order["owner"], order["commands"]).run()
    with contextlib.suppress(BrokenPipeError):  # the owner is gone: nobody to tell
        sys.stdout.write(json.dumps(report))
        sys.stdout.flush()
    os._exit(1 if report.get("died") or report["left"] else 0)


if __name__ == "__main__":
    main()
