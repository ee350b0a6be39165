"""The sample stack without Docker: a directory, and a PostgreSQL server of this machine's (or a wheel's) programs."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from deployments.local.kept import Command, Kept
from deployments.local.machine import CannotProvide, is_root
from deployments.local.postgres import ServerPrograms
from holdfast.errors import HoldfastError
from holdfast.postgres.server import Server, host_server

_READY_SECONDS = 60.0


class LocalStack:
    """Made when entered, removed when left."""

    def __init__(self, programs: ServerPrograms) -> None:
        self._programs = programs
        self._folder = ""
        self._password = secrets.token_hex(12)
        self._port = 0
        self._kept: Kept | None = None

    def __enter__(self) -> LocalStack:
        self._folder = tempfile.mkdtemp(prefix="holdfast-demo-")
        os.chmod(self._folder, 0o755)  # noqa: S103  the server's own user must get through to its folder
        try:
            os.mkdir(self.directory)
            self._port = _free_port()
            self.start_empty_database()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def words(self) -> str:
        """What it is made of."""
        return f"directory {self.directory}, PostgreSQL {self._programs.version} on port {self._port}"

    @property
    def sources(self) -> dict[str, Any]:
        """The stack's part of the configuration."""
        password = os.path.join(self._folder, "db-password")
        with open(password, "w", encoding="ascii", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(self._password)
        server = {"name": "shop-db", "host": "127.0.0.1", "port": self._port, "password_file": password}
        return {"paths": [self.directory], "postgres": [server]}

    @property
    def directory(self) -> str:
        """Where the files are."""
        return os.path.join(self._folder, "files")

    @contextmanager
    def server(self) -> Iterator[Server]:
        """The server on its port."""
        yield host_server("127.0.0.1", self._port, user="postgres", password=self._password)

    def destroy(self) -> None:
        """Stop the server, remove its data and the files."""
        self._stop()
        shutil.rmtree(os.path.join(self._folder, "db"))
        shutil.rmtree(self.directory)

    def start_empty_database(self) -> None:
        """A new cluster, and its server."""
        owner = _owner()
        home = os.path.join(self._folder, "db")
        os.mkdir(home, 0o700)
        password = os.path.join(home, "password")
        with open(password, "w", encoding="ascii") as file:
            file.write(self._password)
        if owner is not None:
            os.chown(home, owner.pw_uid, owner.pw_gid)
            os.chown(password, owner.pw_uid, owner.pw_gid)
        data = os.path.join(home, "data")
        arguments = ("--pgdata", data, "--username=postgres", "--auth=scram-sha-256", f"--pwfile={password}")
        settings = ("-c", "listen_addresses=127.0.0.1", "-p", str(self._port), "-k", home)
        self._run("initdb", *arguments, "--no-locale", "--encoding=UTF8", "--no-sync")
        self._kept = Kept()
        self._kept.start([Command("postgres", (*_as(owner), self._program("postgres"), "-D", data, *settings))])
        self._wait()

    def _run(self, program: str, *arguments: str) -> None:
        command = (*_as(_owner()), self._program(program), *arguments)
        done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise CannotProvide(f"{program} failed", found=" ".join(done.stderr.split())[-300:])

    def _program(self, name: str) -> str:
        return os.path.join(self._programs.folder, name)

    def _wait(self) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while True:
            try:
                with self.server() as server, server.session() as session:
                    session.query("SELECT 1 AS one")
            except HoldfastError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return

    def _stop(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.stop()


def _owner() -> pwd.struct_passwd | None:
    """Whom the server runs as: PostgreSQL refuses to run as root."""
    if not is_root():
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise CannotProvide("PostgreSQL does not run as root", found="no user postgres and no user nobody")


def _as(owner: pwd.struct_passwd | None) -> tuple[str, ...]:
    if owner is None:
        return ()
    return ("setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups", "--")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
