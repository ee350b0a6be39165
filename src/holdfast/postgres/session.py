"""A session with one database: over psycopg where the server can be reached, else through psql in its container.

Rules upheld here:
- Both give rows as plain JSON data, so that facts taken through one compare with facts taken through the other.
- A session that is left in a transaction when it is closed ends it: nothing stays open on the server.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
from typing import Any, Protocol

from holdfast.errors import CommandFailed, DatabaseDenied, DatabaseUnavailable, HoldfastError
from holdfast.model.entry import Conversation

_PAD = "." * 64
"""What follows an answer: the stream may hold back the last bytes that it has seen (see `engine.exec`)."""

_DENIED = (
    "password authentication failed",
    "no password supplied",
    "authentication failed",
    "no pg_hba.conf entry",
    "permission denied",
    "not permitted to log in",
)
_UNKNOWN = re.compile(r'(?:role|database) "[^"]*" does not exist')


class Session(Protocol):
    """Statements on one connection, one after the other."""

    def query(self, sql: str) -> list[dict[str, Any]]:
        """The rows of a SELECT as plain data. Raises: DatabaseUnavailable, DatabaseDenied, CommandFailed."""
        ...

    def execute(self, sql: str) -> None:
        """Run a statement. Raises: as `query`."""
        ...

    def close(self) -> None:
        """End the session."""
        ...


class PsqlSession:
    """psql at the other end of a conversation, as `PSQL` starts it."""

    def __init__(self, conversation: Conversation, which: str) -> None:
        self._conversation, self._which = conversation, which
        self._data = b""

    def query(self, sql: str) -> list[dict[str, Any]]:
        """The rows of a SELECT."""
        answer = self._ask(f"SELECT coalesce(json_agg(q), '[]') FROM ({sql}) q")  # noqa: S608  built here
        rows: list[dict[str, Any]] = json.loads(answer)
        return rows

    def execute(self, sql: str) -> None:
        """Run a statement."""
        self._ask(sql)

    def close(self) -> None:
        """End psql; what it had open is rolled back by the server."""
        self._conversation.close()

    def _ask(self, sql: str) -> str:
        end = secrets.token_hex(12).encode()
        with contextlib.suppress(OSError):  # psql has ended: reading tells why
            self._conversation.send(b"%s;\n\\echo %s%s\n" % (sql.encode(), end, _PAD.encode()))
        try:
            while (at := self._data.find(end)) < 0:
                piece = self._conversation.read(256 << 10)
                if not piece:
                    raise DatabaseUnavailable("the session with the database ended", which=self._which)
                self._data += piece
        except CommandFailed as error:
            raise translate(error, self._which) from error
        answer, self._data = self._data[:at], self._data[at + len(end) :]
        return answer.decode().lstrip(".\n")


class PsycopgSession:
    """A psycopg connection."""

    def __init__(self, *, host: str, port: int, user: str, password: str | None, database: str) -> None:
        import psycopg

        self._which = f"{database} at {host}:{port}"
        try:
            self._connection = psycopg.connect(
                host=host,
                port=port,
                user=user,
                password=password,
                dbname=database,
                autocommit=True,
                connect_timeout=20,
                application_name="holdfast",
            )
        except psycopg.Error as error:
            raise self._failed(error) from error

    def query(self, sql: str) -> list[dict[str, Any]]:
        """The rows of a SELECT."""
        import psycopg

        try:
            row = self._connection.execute(
                f"SELECT coalesce(json_agg(q), '[]')::text FROM ({sql}) q".encode()  # noqa: S608  built here
            ).fetchone()
        except psycopg.Error as error:
            raise self._failed(error) from error
        rows: list[dict[str, Any]] = json.loads(row[0]) if row else []
        return rows

    def execute(self, sql: str) -> None:
        """Run a statement."""
        import psycopg

        try:
            self._connection.execute(sql.encode())
        except psycopg.Error as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Close the connection; what it had open is rolled back by the server."""
        self._connection.close()

    def _failed(self, error: Exception) -> HoldfastError:
        return translate(CommandFailed("a statement failed", which=self._which, found=str(error)), self._which)


def translate(error: CommandFailed, which: str) -> HoldfastError:
    """What a failed session means: refused, unreachable, or a statement that failed."""
    found = " ".join((error.found or "").split())
    if any(words in found for words in _DENIED) or _UNKNOWN.search(found):
        hint = "check user and password_file of this source in the configuration"
        return DatabaseDenied("the database server refuses the connection", which=which, found=found, hint=hint)
    connecting = ("connection", "could not connect", "starting up", "shutting down", "terminating")
    if any(words in found for words in connecting):
        in_container = " in container " in which
        hint = 'start the server; a container in which none is meant to run gets the label holdfast.postgres="false"'
        return DatabaseUnavailable(
            "the database server does not answer", which=which, found=found, hint=hint if in_container else None
        )
    return error
