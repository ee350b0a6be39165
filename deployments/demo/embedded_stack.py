"""The sample stack without an engine: a directory, and a PostgreSQL server of this machine's programs.

Rules upheld here:
- The server never runs as root, listens on 127.0.0.1 at a free port, and asks for a password that is made for one run.
- Each server lives in a kept folder of its own: it ends, and its data goes, with the demo, however that ends.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from typing import Any, Self

from deployments.demo import tree
from deployments.demo.ports import free_port
from deployments.demo.sample import STACK, SUPERUSER
from deployments.local.kept import Command, Kept
from deployments.local.machine import CannotProvide, is_root
from deployments.local.postgres import ServerPrograms
from holdfast.errors import HoldfastError
from holdfast.postgres.server import Server, host_server

READY_SECONDS = 60.0
# SIGTERM would wait for every client; this server is thrown away, so it is told to end at once (pg_ctl(1), fast).
SHELL = "trap 'kill -INT $server' TERM; \"$@\" & server=$!; while kill -0 $server 2>/dev/null; do wait $server; done"


class EmbeddedStack:
    """The stack of one demo; use it in a `with` block, which removes all of it."""

    def __init__(self, folder: str, programs: ServerPrograms) -> None:
        self._folder = folder
        self._programs = programs
        self._owner = _owner()
        self._port = free_port()
        self._password = secrets.token_hex(16)
        self._server: Kept | None = None

    @property
    def description(self) -> str:
        """What it consists of."""
        return f"directory {self.directory}, PostgreSQL {self._programs.version} at 127.0.0.1:{self._port}"

    @property
    def directory(self) -> str:
        """The directory of the application's files."""
        return os.path.join(self._folder, "uploads")

    def configuration(self) -> dict[str, Any]:
        """The stack's directory and server; an engine that is not there, so that none is used by chance."""
        password_file = os.path.join(self._folder, "database-password")
        postgres = {"name": "db", "host": "127.0.0.1", "port": self._port, "user": SUPERUSER}
        return {
            "engine": {"url": f"unix://{self._folder}/no-engine.sock"},
            "stacks": {STACK: {"paths": [self.directory], "postgres": [{**postgres, "password_file": password_file}]}},
        }

    def create(self, chance: random.Random) -> None:
        """Fill the directory, start the server."""
        os.makedirs(self.directory)
        _write_secret(os.path.join(self._folder, "database-password"), self._password)
        tree.fill(self.directory, chance)
        self.start_database()

    @contextlib.contextmanager
    def database(self) -> Iterator[Server]:
        """The server, by the programs of its own version."""
        yield host_server("127.0.0.1", self._port, user=SUPERUSER, password=self._password)

    def destroy(self) -> list[str]:
        """End the server and delete its data and the directory."""
        self._stop_server()
        shutil.rmtree(self.directory)
        return [f"the PostgreSQL server at 127.0.0.1:{self._port} and its data", f"directory {self.directory}"]

    def start_database(self) -> None:
        """A new server with new data; returns when it answers."""
        kept = self._server = Kept()
        os.chmod(kept.folder, 0o711)  # noqa: S103  the server's user passes through; what is inside has its own modes
        data = kept.path("data")
        self._initialize(kept, data)
        settings = ("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off")
        argv = (self._program("postgres"), "-D", data, "-p", str(self._port), *settings)
        kept.start([Command("postgres", (*self._as_owner(), "/bin/sh", "-c", SHELL, "sh", *argv), grace=15.0)])
        self._wait(kept)

    def start_application(self) -> str:
        """There is no application's container here; the number of files that any process sees."""
        count = sum(len(names) for _, _, names in os.walk(self.directory))
        return f"{count:,} entries in {self.directory}"

    def _initialize(self, kept: Kept, data: str) -> None:
        secret = kept.path("password")
        _write_secret(secret, self._password)
        os.mkdir(data, 0o700)
        if self._owner is not None:
            for path in (secret, data):
                os.chown(path, self._owner.pw_uid, self._owner.pw_gid)
        options = ("--auth=scram-sha-256", f"--pwfile={secret}", "--no-locale", "--encoding=UTF8", "--no-sync")
        command = (*self._as_owner(), self._program("initdb"), "-D", data, "-U", SUPERUSER, *options)
        done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
        os.unlink(secret)
        if done.returncode != 0:
            raise CannotProvide("initdb failed", which=data, found=" ".join(done.stderr.split())[-300:])

    def _as_owner(self) -> tuple[str, ...]:
        """PostgreSQL refuses to run as root; the new user also gets the keeper's end told."""
        if self._owner is None:
            return ()
        identity = (f"--reuid={self._owner.pw_uid}", f"--regid={self._owner.pw_gid}", "--clear-groups")
        return ("setpriv", *identity, "--pdeathsig=TERM", "--")

    def _program(self, name: str) -> str:
        return os.path.join(self._programs.folder, name)

    def _wait(self, kept: Kept) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while True:
            kept.require_alive()
            try:
                host_server("127.0.0.1", self._port, user=SUPERUSER, password=self._password)
            except HoldfastError as error:
                if time.monotonic() > deadline:
                    raise CannotProvide("PostgreSQL does not start", found=str(error)) from error
            else:
                return
            time.sleep(0.1)

    def _stop_server(self) -> None:
        kept, self._server = self._server, None
        if kept is not None:
            kept.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_server()
        shutil.rmtree(self._folder, ignore_errors=True)


def _owner() -> pwd.struct_passwd | None:
    """The user that the server runs as when we are root."""
    if not is_root():
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise CannotProvide("PostgreSQL does not run as root", wanted="a user postgres or nobody", found="neither")


def _write_secret(path: str, secret: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(secret)
