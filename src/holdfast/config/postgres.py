"""What the configuration says of a stack's PostgreSQL servers: where they are, how they are backed up, their WAL."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from holdfast.config.base import Model, at_most_one, exactly_one
from holdfast.config.fields import (
    ContainerName,
    Count,
    DatabaseName,
    DirectoryPath,
    HostName,
    Port,
    RoleName,
    SecretFile,
    SecretVariable,
    SlotName,
    SourceName,
)
from holdfast.config.secret import Secret, read_secret_file, read_secret_variable
from holdfast.config.spelling import Commented, wrong


def _list_or_word(value: object) -> str:
    return "word" if isinstance(value, str) else "list"


def _unlike(names: tuple[str, ...]) -> tuple[str, ...]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise wrong("the same name twice", wanted="each name once", found=", ".join(twice))
    return names


Databases = Annotated[
    Annotated[Literal["all"], Tag("word")]
    | Annotated[tuple[DatabaseName, ...], Field(min_length=1), AfterValidator(_unlike), Tag("list")],
    Discriminator(_list_or_word),
]


class Wal(Model):
    """How a PostgreSQL server's WAL comes into the archive, for recovery to any instant."""

    shorthand: ClassVar[str | None] = "spool"

    spool: DirectoryPath = Field(
        description="The directory of the host in which finished WAL waits to be shipped. It needs room for all that "
        "is written while the store cannot be reached, and belongs to this server alone.",
        examples=["/var/lib/holdfast/spool/shop-db"],
    )
    via: Literal["stream", "archive"] = Field(
        default="stream",
        description="`stream` receives the WAL with pg_receivewal and a replication slot, within seconds; `archive` "
        "takes finished segments from the server's archive_command, which writes into the spool.",
    )
    mount: Annotated[DirectoryPath | None, Commented()] = Field(
        default=None,
        description="With `archive`: the spool's path inside the server's container, when it is another one there.",
        examples=["/holdfast-spool"],
    )
    slot: Annotated[SlotName | None, Commented()] = Field(
        default=None,
        description="With `stream`: the replication slot's name; else made from the source's name.",
        examples=["holdfast_shop_db"],
    )
    partial_seconds: Annotated[Count, Commented()] = Field(
        default=60,
        description="With `stream`: how often the unfinished segment is shipped, in seconds. A disaster costs no more.",
        examples=[60],
    )


class Postgres(Model):
    """A PostgreSQL server: dumped by its own pg_dump, or backed up physically with its WAL."""

    name: SourceName = Field(
        description="What its snapshots are called. Keep it when the container gets another name.", examples=["shop-db"]
    )
    container: ContainerName | None = Field(
        default=None, description="The container that it runs in.", examples=["shop-db-1"]
    )
    host: Annotated[HostName | None, Commented()] = Field(
        default=None,
        description="The host of a server outside Docker, instead of `container`; the tools of this machine are used.",
        examples=["db.example.com"],
    )
    port: Annotated[Port | None, Commented()] = Field(
        default=None, description="The server's port, with `host`; 5432 when it is not given.", examples=[5432]
    )
    user: RoleName = Field(
        default="postgres", description="The role that reads everything: a superuser.", examples=["postgres"]
    )
    password_file: SecretFile | None = Field(
        default=None,
        description="A file that holds the role's password; a line break at its end does not count. Needed only where "
        "the server asks for one: the official image asks nothing inside its own container.",
        examples=["/run/secrets/shop-db-password"],
    )
    password_env: Annotated[SecretVariable | None, Commented()] = Field(
        default=None,
        description="The environment variable that holds the role's password, instead of `password_file`.",
        examples=["SHOP_DB_PASSWORD"],
    )
    databases: Databases = Field(
        default="all",
        description="Which databases are dumped: `all` of them, or a list. A base backup holds all of them; there it "
        "says whose tables are recorded for the drill.",
        examples=[["shop"], "all"],
    )
    compare: Literal["digest", "rows", "none"] = Field(
        default="digest",
        description="What is recorded of each table, for a drill to compare: `digest` proves the contents of every "
        "row, `rows` counts them, which is quicker on large tables; `none`, for base backups only, records nothing of "
        "tables: a drill then checks their structure.",
    )

    method: Literal["dump", "base"] = Field(
        default="dump",
        description="`dump` stores what pg_dump writes, database by database; `base` stores the data directory, from "
        "which a server starts at once, and with `wal` recovers to any instant.",
        examples=["base"],
    )
    read: Annotated[Literal["auto", "stream", "direct"], Commented()] = Field(
        default="auto",
        description="How a base backup reads the data directory: `direct` from the server's files, which takes root on "
        "its host and a WAL archive, skips unchanged files, checks every page and knows tablespaces; `stream` over "
        "the replication protocol, from anywhere; `auto` the first where it is possible.",
    )
    incremental: Annotated[Count | None, Commented()] = Field(
        default=None,
        description="How many incremental base backups may follow a full one. Each holds the pages that changed since "
        "the one before it; a recovery combines them. Needs PostgreSQL 17 or newer with `summarize_wal` on, and reads "
        "over the stream. Where it is not possible a full one is taken, and says why.",
        examples=[6],
    )
    wal: Wal | None = Field(
        default=None,
        description="The WAL archive of this server, with `method: base`. Without it a base backup restores to its own "
        "end only.",
        examples=[{"spool": "/var/lib/holdfast/spool/shop-db"}],
    )

    @classmethod
    def contradictions(cls, given: Mapping[str, Any]) -> Iterator[PydanticCustomError]:
        """One place to find the server, one password at most, WAL only with base backups."""
        yield from exactly_one(given, "container", "host")
        if given.get("wal") and given.get("method") != "base":
            yield wrong("a WAL archive without base backups", wanted="method: base", found="wal alone", hidden=True)
        yield from at_most_one(given, "password_file", "password_env")
        if given.get("incremental") and given.get("method") != "base":
            yield wrong(
                "incremental without base backups", wanted="method: base", found="incremental alone", hidden=True
            )
        if given.get("incremental") and given.get("read") == "direct":
            yield wrong(
                "incremental base backups that are read directly",
                wanted="read: stream; reading directly skips unchanged files by itself",
                found="read: direct",
                hidden=True,
            )
        if given.get("compare") == "none" and given.get("method") != "base":
            yield wrong("a dump that nothing is recorded of", wanted="compare: rows", found="none", hidden=True)
        if "port" in given and "host" not in given:
            yield wrong("a port without a host", wanted="port with host", found="port with container", hidden=True)

    @property
    def label(self) -> str:
        """What its snapshots are called."""
        return f"postgres:{self.name}"

    def password(self, env: Mapping[str, str] = os.environ) -> Secret | None:
        """The role's password, if one is named. Raises: ConfigError."""
        purpose = f"the password of PostgreSQL {self.name}"
        if self.password_env:
            return read_secret_variable(self.password_env, purpose, env)
        return read_secret_file(self.password_file, purpose, strip="\r\n") if self.password_file else None
