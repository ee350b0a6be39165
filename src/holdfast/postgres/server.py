"""One PostgreSQL server: how sessions are opened on it, and how client programs are run against it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from holdfast.errors import CommandFailed, DatabaseUnavailable, HoldfastError, SourceUnreadable
from holdfast.model.entry import ByteStream, CommandRunner, Conversation
from holdfast.postgres.programs import LocalRunner, client_programs
from holdfast.postgres.session import PsqlSession, PsycopgSession, Session

log = logging.getLogger(__name__)

MAINTENANCE = "template1"
"""The database that sessions about the whole cluster use: it is there in every cluster, and never restored."""


class ConversingRunner(CommandRunner, Protocol):
    """A runner that also holds conversations: input and output of a program at the same time."""

    def converse(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> Conversation:
        """Start a program whose input stays open."""
        ...


class Server:
    """A server, by what reaches it.

    `image` is the image that it runs from, None outside Docker; `where` names it in messages.
    """

    def __init__(
        self,
        *,
        where: str,
        user: str,
        password: str | None,
        runner: CommandRunner,
        address: Sequence[str],
        connect: Callable[[str], Session],
        image: str | None = None,
    ) -> None:
        self.where, self.user, self.image = where, user, image
        self._password, self._runner, self._address, self._connect = password, runner, tuple(address), connect

    def __repr__(self) -> str:
        return f"Server({self.where!r})"

    @contextmanager
    def session(self, database: str = MAINTENANCE) -> Iterator[Session]:
        """A session for the time of the block. Raises: DatabaseUnavailable, DatabaseDenied, CommandFailed."""
        session = self._connect(database)
        try:
            yield session
        finally:
            session.close()

    def stream(self, program: str, arguments: Sequence[str]) -> ByteStream:
        """The output of a client program. Raises: CommandFailed, with the last read."""
        return self._runner.stream([program, *self._connection(), *arguments], env=self._environment())

    def run(self, program: str, arguments: Sequence[str], stdin: Iterable[bytes] | None = None) -> bytes:
        """Run a client program to its end. Raises: CommandFailed."""
        return self._runner.run([program, *self._connection(), *arguments], env=self._environment(), stdin=stdin)

    @contextmanager
    def beside(self, data: bytes) -> Iterator[str]:
        """A file where the client programs run, for the time of the block; its path. Raises: CommandFailed."""
        script = 'f=$(mktemp /tmp/holdfast.XXXXXXXX) && cat >"$f" && printf %s "$f"'
        path = self._runner.run(["/bin/sh", "-c", script], stdin=[data]).decode()
        try:
            yield path
        finally:
            try:
                self._runner.run(["/bin/sh", "-c", 'rm -f "$1"', "sh", path])
            except HoldfastError as error:  # what went wrong before it is what matters
                log.warning("%s: %s stays behind: %s", self.where, path, error)

    def owner(self) -> tuple[int, int] | None:
        """The user and group that own its data directory, where the server is at hand; None where it is not."""
        with self.session() as session:
            directory = str(session.query("SELECT current_setting('data_directory') AS path")[0]["path"])
        if self.image is None:
            # Outside a container: the directory is there when the server is on this machine.
            try:
                status = os.stat(directory)
            except OSError:
                return None
            return status.st_uid, status.st_gid
        try:
            said = self._runner.run(["stat", "-c", "%u %g", directory]).split()
        except CommandFailed:
            return None
        return int(said[0]), int(said[1])

    def room(self, path: str) -> tuple[int, int]:
        """The free and the total bytes of the filesystem that holds a path of the server.

        Raises: SourceUnreadable where that cannot be seen from here, CommandFailed.
        """
        if self.image is not None:
            said = self._runner.run(["stat", "-f", "-c", "%S %a %b", path]).split()
            block, free, total = map(int, said)
            return block * free, block * total
        with self.session() as session:
            row = session.query(
                "SELECT current_setting('data_directory') AS path,"
                " extract(epoch FROM pg_postmaster_start_time())::bigint AS started"
            )[0]
        why = why_another(str(row["path"]), int(row["started"]))
        if why:
            raise SourceUnreadable("the server's disk cannot be seen from here", which=self.where, found=why)
        status = os.statvfs(path)
        return status.f_frsize * status.f_bavail, status.f_frsize * status.f_blocks

    def _connection(self) -> list[str]:
        return [*self._address, "--username", self.user, "--no-password"]

    def _environment(self) -> dict[str, str]:
        return client_environment(self._password)


def why_another(root: str, started: int) -> str:
    """Why a directory is not that of a server which started at this time (Unix seconds); "" when it is.

    Source: PostgreSQL, src/include/utils/pidfile.h: the third line is the postmaster's start.
    """
    try:
        with open(os.path.join(root, "postmaster.pid"), encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError as error:
        return f"{root}: {error.strerror}"
    if len(lines) < 3 or not lines[2].strip().isdigit() or abs(int(lines[2]) - started) > 5:
        return f"{root} is another server's"
    return ""


def client_environment(password: str | None) -> dict[str, str]:
    """The environment of client programs."""
    return {"LC_ALL": "C", "PGCONNECT_TIMEOUT": "20", **({"PGPASSWORD": password} if password else {})}


def container_server(
    runner: ConversingRunner, *, user: str, password: str | None, image: str | None, address: Sequence[str] = ()
) -> Server:
    """The server inside a container, by its own programs. `address` is empty for its socket."""

    def connect(database: str) -> Session:
        options = ["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "--username", user, "--no-password"]
        argv = ["psql", *address, *options, "--dbname", dbname(database)]
        conversation = runner.converse(argv, env=client_environment(password))
        session = PsqlSession(conversation, f"{database} in {runner.where}")
        try:
            session.execute("SELECT 1")  # what is wrong with the connection shows here, and not in the middle
        except BaseException:
            session.close()
            raise
        return session

    return Server(
        where=runner.where,
        user=user,
        password=password,
        runner=runner,
        address=address,
        connect=connect,
        image=image,
    )


def host_server(host: str, port: int, *, user: str, password: str | None) -> Server:
    """A server outside Docker, or at a socket folder (`/run/postgresql`). Raises: SourceNotFound for old programs."""

    def connect(database: str) -> Session:
        return PsycopgSession(host=host, port=port, user=user, password=password, database=database)

    session = connect(MAINTENANCE)
    try:
        version = server_version(session)
    finally:
        session.close()
    return Server(
        where=f"{host}:{port}",
        user=user,
        password=password,
        runner=LocalRunner(client_programs(version)),
        address=("--host", host, "--port", str(port)),
        connect=connect,
    )


def server_version(session: Session) -> int:
    """`server_version_num`: 150014."""
    rows = session.query("SELECT current_setting('server_version_num')::int AS version")
    if not rows:
        raise DatabaseUnavailable("the server does not tell its version")
    return int(rows[0]["version"])


def dbname(database: str) -> str:
    """A database's name as a connection string: a plain one with `=` in it would be read as such a string."""
    escaped = database.replace("\\", "\\\\").replace("'", "\\'")
    return f"dbname='{escaped}'"
