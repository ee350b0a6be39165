"""The folder where a host keeps what runs on it: records of processes, their logs, Prefect's own home.

Rules upheld here:
- One `up`, `down` or `drain` at a time: the folder is locked meanwhile.
- A record names a process by number and start time; a number that now belongs to another process is nobody's.
- What is started can be interrupted, whoever started it: Prefect's worker ends by SIGINT, which shells have ignored by
  what they run in the background.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from holdfast.config.place import state_folder
from holdfast.errors import OperateError

LARGEST_LOG = 20 << 20
"""Bytes of a log after which the next start moves it aside."""


@dataclass(frozen=True)
class Daemon:
    """A process that runs on its own: its name, number, start in clock ticks since boot, where it can be reached."""

    name: str
    pid: int
    start: str
    url: str = ""

    @property
    def alive(self) -> bool:
        """Whether it is this very process that runs, and has not ended."""
        return start_of(self.pid) == self.start != ""


class Folder:
    """The folder; `at` makes it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def at(cls, path: str | None) -> Folder:
        """The folder at this path, or at the usual place. Raises: OperateError."""
        chosen = Path(path or state_folder()).absolute()
        try:
            chosen.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise OperateError(
                "cannot make the folder for what runs here",
                which=str(chosen),
                found=error.strerror,
                hint="choose another with --state DIR or HOLDFAST_STATE",
            ) from error
        return cls(chosen)

    @contextlib.contextmanager
    def locked(self, *, seconds: float = 60.0) -> Iterator[None]:
        """Nobody else changes what runs here during the block. Raises: OperateError after so many seconds."""
        deadline = time.monotonic() + seconds
        with open(self.path / "lock", "w", encoding="ascii") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise OperateError("another up, down or drain is going on", which=str(self.path)) from None
                    time.sleep(0.2)
            yield

    def daemon(self, name: str) -> Daemon | None:
        """The daemon of this name when it runs."""
        try:
            found = Daemon(**json.loads(self._record(name).read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None
        return found if found.alive else None

    def start(self, name: str, argv: Sequence[str], env: Mapping[str, str], *, cwd: str, url: str = "") -> Daemon:
        """Start a process of its own session that outlives this one; its output goes to `NAME.log`."""
        log = self.log(name)
        if log.exists() and log.stat().st_size > LARGEST_LOG:
            log.replace(log.with_suffix(".log.1"))
        with open(log, "ab") as output, _interruptible():
            process = subprocess.Popen(
                argv,
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        made = Daemon(name, process.pid, start_of(process.pid), url)
        record = self._record(name)
        record.with_suffix(".part").write_text(json.dumps(asdict(made)))
        record.with_suffix(".part").replace(record)
        return made

    def stop(self, daemon: Daemon, *, seconds: float = 30.0) -> None:
        """Ask a daemon to end, make it end after so many seconds, and forget it."""
        for number, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, 10.0)):
            if not daemon.alive:
                break
            with contextlib.suppress(ProcessLookupError):
                os.kill(daemon.pid, number)
            _wait_for_end(daemon, patience)
        if daemon.alive:
            raise OperateError("a process does not end", which=f"{daemon.name}, process {daemon.pid}")
        self._record(daemon.name).unlink(missing_ok=True)

    def log(self, name: str) -> Path:
        """Where the output of a daemon goes."""
        return self.path / f"{name}.log"

    def tail(self, name: str) -> str:
        """The last lines that a daemon wrote."""
        try:
            lines = self.log(name).read_text(errors="replace").strip().splitlines()
        except FileNotFoundError:
            return ""
        return " / ".join(line.strip() for line in lines[-3:])

    def marked(self, name: str) -> bool:
        """Whether a mark was left by `mark`."""
        return (self.path / f"{name}.mark").exists()

    def mark(self, name: str, *, present: bool) -> None:
        """Leave a mark for a later call, or take it away."""
        path = self.path / f"{name}.mark"
        path.touch() if present else path.unlink(missing_ok=True)

    def _record(self, name: str) -> Path:
        return self.path / f"{name}.json"


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Children do not inherit that SIGINT is ignored. In the main thread only, as signals are."""
    ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    if ignored:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        if ignored:
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def start_of(pid: int) -> str:
    """A process's start in clock ticks since boot (proc(5), field 22); "" when it is gone or waits to be reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in (b"Z", b"X") else fields[19].decode()


def _wait_for_end(daemon: Daemon, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while daemon.alive and time.monotonic() < deadline:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(daemon.pid, os.WNOHANG)  # where it is our own child, it is gone only when we take note
        time.sleep(0.1)
