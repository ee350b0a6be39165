"""pg_receivewal: its arguments, and as a supervised process of this machine.

Rules upheld here:
- It receives through a replication slot, so that the server keeps what was not received yet.
- What is written is on the disk before the server is told so (`--synchronous`): the slot never runs ahead of the spool.
- It ends with us: also when this process is killed.

Source: PostgreSQL manual, pg_receivewal.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from typing import Protocol

from holdfast.errors import WalNotReady
from holdfast.model.environment import for_children

_GRACE = 5.0
_KEPT = 1000


class Receiver(Protocol):
    """Something that writes a server's WAL into a spool."""

    def start(self) -> None:
        """Begin. Raises: WalNotReady, EngineUnavailable, …."""
        ...

    def alive(self) -> bool:
        """Whether it is at work."""
        ...

    def said(self) -> str:
        """The last of what it said."""
        ...

    def stop(self) -> None:
        """End it, and wait until it is gone."""
        ...


def slot_name(source: str) -> str:
    """The slot's name for a source: `shop-db` → `holdfast_shop_db`."""
    return f"holdfast_{re.sub('[^a-z0-9_]', '_', source.lower())}"[:63]


def receive_arguments(directory: str, slot: str, connection: Sequence[str]) -> list[str]:
    """The command line. `connection` is host, port and user as options."""
    return [
        "pg_receivewal",
        *connection,
        f"--directory={directory}",
        f"--slot={slot}",
        "--synchronous",
        "--no-loop",
        "--status-interval=5",
        "--no-password",
    ]


class LocalReceiver:
    """A process of this machine."""

    def __init__(self, folder: str, arguments: Sequence[str], env: Mapping[str, str]) -> None:
        self._folder, self._arguments, self._env = folder, list(arguments), dict(env)
        self._process: subprocess.Popen[bytes] | None = None
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed with the receiver

    def start(self) -> None:
        """Begin."""
        self._errors.truncate(0)
        program = os.path.join(self._folder, self._arguments[0])
        argv = [program, *self._arguments[1:]]
        if (guard := shutil.which("setpriv")) is not None:
            argv = [guard, "--pdeathsig", "TERM", *argv]
        try:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                env={**for_children(), "LC_ALL": "C", **self._env},
                start_new_session=True,
            )
        except OSError as error:
            raise WalNotReady("pg_receivewal cannot be started", which=program, found=error.strerror) from error

    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def said(self) -> str:
        """The end of its error output."""
        self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - _KEPT))
        return " ".join(self._errors.read().decode(errors="replace").split())

    def stop(self) -> None:
        """Ask it to end (it writes down what it has), then make it."""
        if self._process is None:
            return
        for number in (signal.SIGINT, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE)
                break
        self._process = None
