"""The owner's side of a keeper: a folder of its own, the programs that run in it, and their certain end.

Rules upheld here:
- The folder's name is random and its lock is held by the keeper: a folder whose lock is free was left by a keeper
  that was killed, and is swept before the next start.
- Secrets reach the programs by environment, never by argument or file.
- `stop` may be called twice, from `with`, from atexit or by hand.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Self

from deployments.local.machine import REPOSITORY_ROOT, CannotProvide, full_path, progress, temporary_parent
from deployments.local.sweep import sweep

PREFIX = "holdfast-kept-"
LOCK = "keeper.lock"


@dataclass(frozen=True)
class Command:
    """One program to keep: its name, its arguments, and the seconds that it gets to end by itself.

    `ends_with_keeper` asks it to end, too, when the keeper itself is killed.
    """

    name: str
    argv: tuple[str, ...]
    grace: float = 5.0
    ends_with_keeper: bool = True


class Stopping:
    """Something that a `with` block stops at its end; that it could not hides nothing of what went wrong inside."""

    def stop(self) -> None:
        """Stop it, and remove every trace. Raises: CannotProvide."""
        raise NotImplementedError

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        except CannotProvide as problem:
            if error is None:
                raise
            error.add_note(str(problem))


class Kept(Stopping):
    """A folder, and programs that run until `stop`, or until this process is gone."""

    def __init__(self) -> None:
        sweep_leftovers()
        self.folder = tempfile.mkdtemp(prefix=PREFIX, dir=temporary_parent())
        self._lock: int | None = _locked_file(self.folder)
        self._process: subprocess.Popen[str] | None = None
        self._owner = os.getpid()
        atexit.register(self.stop)

    def path(self, *names: str) -> str:
        """A path inside the folder."""
        return os.path.join(self.folder, *names)

    def start(self, commands: Sequence[Command], *, environment: Mapping[str, str] | None = None) -> None:
        """Start the programs in this order; they are not ready yet when this returns.

        Args:
            commands: what to run; each one's output goes to `NAME.log` in the folder.
            environment: variables in addition to this process's own.
        """
        lock = self._lock
        if lock is None or self._process is not None:
            raise CannotProvide("a folder's programs are started once", which=self.folder)
        with open(self.path("order.json"), "w", encoding="utf-8") as file:
            json.dump({"owner": self._owner, "commands": [asdict(command) for command in commands]}, file)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "deployments.local.keeper", self.path("order.json")],
            cwd=REPOSITORY_ROOT,
            env={**os.environ, "PATH": full_path(), **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            pass_fds=(lock,),
            text=True,
        )

    def require_alive(self) -> None:
        """Raise when a program has ended by itself.

        Raises:
            CannotProvide: with its exit status and the end of its log.
        """
        if self._process is not None and self._process.poll() is not None:
            self.stop()

    def stop(self) -> None:
        """Stop the programs and remove every trace of them; does nothing the second time.

        Raises:
            CannotProvide: a program had ended by itself before, or something could not be removed.
        """
        atexit.unregister(self.stop)
        if self._lock is None or os.getpid() != self._owner:  # stopped already, or a forked child that owns nothing
            return
        process, self._process = self._process, None
        answer = process.communicate()[0] if process else ""  # closes the keeper's input: its sign to stop
        report: dict[str, Any] = json.loads(answer) if answer else {"left": sweep(self.folder)}
        if process and not answer:
            report |= {"died": "keeper", "status": process.returncode, "log": []}
        os.close(self._lock)
        self._lock = None
        if report.get("died"):
            log = " / ".join(report["log"][-3:])
            found = f"exit status {report['status']}: {log}"
            raise CannotProvide(f"{report['died']} ended by itself", which=self.folder, found=found)
        if report.get("left"):
            raise CannotProvide("not everything could be removed", which=self.folder, found="; ".join(report["left"]))

    def __enter__(self) -> Self:
        return self


def sweep_leftovers() -> None:
    """Remove what a killed keeper of this user left behind, here or in an earlier session."""
    parent = temporary_parent()
    for name in os.listdir(parent):
        folder = os.path.join(parent, name)
        if name.startswith(PREFIX) and not os.path.islink(folder):
            with _if_abandoned(folder) as abandoned:
                for complaint in sweep(folder) if abandoned else ():
                    progress(f"Left over from an earlier run: {complaint}")


@contextlib.contextmanager
def _if_abandoned(folder: str) -> Iterator[bool]:
    """Hold the lock of a folder that is ours and that no keeper holds; says whether that was so."""
    try:
        lock = os.open(os.path.join(folder, LOCK), os.O_RDWR | os.O_NOFOLLOW)
    except OSError:  # just being made, just being deleted, or not ours
        yield False
        return
    try:
        yield os.fstat(lock).st_uid == os.geteuid() and _locks(lock)
    finally:
        os.close(lock)


def _locks(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _locked_file(folder: str) -> int:
    """Make the folder's lock file, already locked when its name appears."""
    descriptor = os.open(os.path.join(folder, f".{LOCK}"), os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.rename(os.path.join(folder, f".{LOCK}"), os.path.join(folder, LOCK))
    return descriptor
