"""Real PostgreSQL clusters for tests: made, started, written to and killed, in folders of their own."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from deployments.local import machine, postgres, postgres_majors


def programs_of(major: int) -> str:
    """The folder of a version's programs; skips the test where there are none."""
    found = [f"/usr/lib/postgresql/{major}/bin", f"/usr/pgsql-{major}/bin"]
    try:
        if major in postgres_majors.MAJORS:
            found.append(postgres_majors.major_programs(major).folder)
        if major == 16:
            found.append(postgres.wheel_programs().folder)
    except machine.CannotProvide as error:
        pytest.skip(str(error))
    for folder in found:
        program = os.path.join(folder, "postgres")
        if os.access(program, os.X_OK):
            said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
            if f" {major}." in said:
                return folder
    pytest.skip(f"there is no PostgreSQL {major} here")


def has_amcheck(programs: str) -> bool:
    """Whether a server with these programs has the extension amcheck."""
    config = os.path.join(programs, "pg_config")
    folder = subprocess.run([config, "--sharedir"], capture_output=True, text=True, check=True).stdout.strip()
    return os.path.exists(os.path.join(folder, "extension", "amcheck.control"))


@contextlib.contextmanager
def on_path(folder: str) -> Iterator[None]:
    """The programs of a folder first on PATH, for the code under test."""
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{folder}:{before}"
    try:
        yield
    finally:
        os.environ["PATH"] = before


@dataclass
class Cluster:
    """One cluster: `data` is PGDATA. Started servers listen on 127.0.0.1 and in their folder."""

    programs: str
    folder: Path
    data: Path
    port: int = 0
    options: list[str] = field(default_factory=list)

    @classmethod
    def make(cls, programs: str, folder: Path, *arguments: str, settings: str = "") -> Cluster:
        """A new cluster, with `initdb`'s arguments and lines for postgresql.conf."""
        folder.mkdir(parents=True, exist_ok=True)
        open_up(folder)
        made = cls(programs, folder, folder / "data")
        made.run(
            "initdb", "-D", str(made.data), "-U", "postgres", "--auth=trust", "--no-sync", "--no-locale", *arguments
        )
        with open(made.data / "postgresql.conf", "a", encoding="utf-8") as conf:
            conf.write(f"\nfsync = off\nlisten_addresses = '127.0.0.1'\nmax_wal_senders = 5\n{settings}\n")
        return made

    def start(self, *, wait: bool = True) -> Cluster:
        """Start the server on a free port."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        options = ["-p", str(self.port), "-k", str(self.folder), "-h", "127.0.0.1", *self.options]
        self.run(
            "pg_ctl", "-D", str(self.data), "-l", str(self.folder / "log"), "-o", " ".join(options),
            "-w" if wait else "-W", "-t", "60", "start",
        )  # fmt: skip
        return self

    def standby(self, folder: Path) -> Cluster:
        """A standby of it that follows over the network, started."""
        folder.mkdir()
        open_up(folder)
        argv = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-D", str(folder / "data")]
        self.run("pg_basebackup", *argv, "-R", "-X", "stream", "--checkpoint=fast")
        return Cluster(self.programs, folder, folder / "data").start()

    def stop(self, mode: str = "immediate") -> None:
        """Stop it, if it runs."""
        if (self.data / "postmaster.pid").exists():
            self.run("pg_ctl", "-D", str(self.data), "-m", mode, "-w", "stop", check=False)

    def kill(self) -> None:
        """End the postmaster and all its children, as a machine that loses power does."""
        pid = int((self.data / "postmaster.pid").read_text().splitlines()[0])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for one in (pid, *map(int, children)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        while os.path.exists(f"/proc/{pid}"):
            time.sleep(0.05)

    def sql(self, text: str, database: str = "postgres") -> str:
        """What psql prints, rows without decoration."""
        argv = ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres"]
        return self.run(*argv, "-d", database, "-c", text).strip()

    def wait_recovered(self) -> None:
        """Until it is promoted."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(subprocess.CalledProcessError):
                if self.sql("SELECT pg_is_in_recovery()") == "f":
                    return
            time.sleep(0.1)
        raise AssertionError(self.log())

    def log(self) -> str:
        """The server's log."""
        return (self.folder / "log").read_text(errors="replace")

    def run(self, program: str, *arguments: str, check: bool = True) -> str:
        """Run one of its programs as the server's user."""
        owner = server_user()
        done = subprocess.run(
            [os.path.join(self.programs, program), *arguments],
            user=owner.pw_uid if owner else None,
            group=owner.pw_gid if owner else None,
            extra_groups=[] if owner else None,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if program == "pg_ctl" else subprocess.PIPE,
            text=True,
            check=False,
            env=self._environment(),
        ) if program != "pg_ctl" else self._control(arguments)  # fmt: skip
        if check and done.returncode != 0:
            said = self.log() if (self.folder / "log").exists() else ""
            raise subprocess.CalledProcessError(done.returncode, program, f"{done.stdout}{done.stderr}", said[-2000:])
        return str(done.stdout or "")

    def _environment(self) -> dict[str, str]:
        """Programs that were built for another place find the libraries beside them: a standby's WAL receiver does."""
        libraries = Path(self.programs).parent / "lib"
        beside = {"LD_LIBRARY_PATH": str(libraries)} if (libraries / "libpq.so.5").exists() else {}
        return {**os.environ, "LC_ALL": "C", **beside}

    def _control(self, arguments: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
        # The server inherits pg_ctl's output: a pipe would stay open for as long as it runs.
        owner = server_user()
        return subprocess.run(
            [os.path.join(self.programs, "pg_ctl"), *arguments],
            user=owner.pw_uid if owner else None,
            group=owner.pw_gid if owner else None,
            extra_groups=[] if owner else None,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            check=False,
            env=self._environment(),
        )


def server_user() -> pwd.struct_passwd | None:
    """The user that servers run as: they refuse to be root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    pytest.skip("there is no user that a PostgreSQL server could run as")


def open_up(folder: Path) -> None:
    """Give a folder of ours to the server's user."""
    owner = server_user()
    if owner is not None:
        os.chown(folder, owner.pw_uid, owner.pw_gid)


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """A temporary folder that other users can enter: pytest's own can be closed to them at any time."""
    with tempfile.TemporaryDirectory(prefix="holdfast-test-", ignore_cleanup_errors=True) as name:
        os.chmod(name, 0o755)  # noqa: S103  the server's user has to come through
        yield Path(name)
