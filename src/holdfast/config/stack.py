"""What the configuration says of a stack: its sources, when they are backed up, what is kept, when it is proven."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from holdfast.config.base import Model, at_most_one, exactly_one
from holdfast.config.fields import (
    ContainerName,
    Count,
    CronText,
    DatabaseName,
    DirectoryPath,
    DurationText,
    Exclusion,
    HostName,
    Percentage,
    Port,
    RoleName,
    SecretFile,
    SecretVariable,
    SourceName,
    VolumeName,
    ZoneName,
)
from holdfast.config.secret import Secret, read_secret_file, read_secret_variable
from holdfast.config.spelling import Commented, wrong

UTC = "UTC"


class Schedule(Model):
    """When something runs."""

    shorthand: ClassVar[str | None] = "cron"

    cron: CronText = Field(
        description="Minute, hour, day of the month, month, day of the week.", examples=["0 3 * * *", "30 4 * * sun"]
    )
    timezone: ZoneName = Field(
        default=UTC,
        description="The time zone that the hours are meant in, by its IANA name; else the file's timezone holds.",
        examples=["Europe/Berlin"],
    )


class VerifySchedule(Schedule):
    """When the repository's structure is verified, and how much of its data is read back."""

    read_data: Percentage | None = Field(
        default=None,
        description="The share of the stored data that each run reads back and checks, chosen anew every time. Without "
        "it the structure alone is verified.",
        examples=["5%"],
    )

    @property
    def share(self) -> float:
        """The share of the data that is read back, from 0.0 to 1.0."""
        return float(self.read_data.removesuffix("%")) / 100 if self.read_data else 0.0


class Retention(Model):
    """What is kept. A restore point stays when any of these rules keeps it, as with restic's forget."""

    keep_last: Count | None = Field(default=None, description="The newest ones, this many.", examples=[3])
    keep_hourly: Count | None = Field(
        default=None, description="The last one of each hour, for this many hours that have one.", examples=[24]
    )
    keep_daily: Count | None = Field(
        default=None, description="The last one of each day, for this many days that have one.", examples=[7]
    )
    keep_weekly: Count | None = Field(
        default=None, description="The last one of each week, for this many weeks that have one.", examples=[5]
    )
    keep_monthly: Count | None = Field(
        default=None, description="The last one of each month, for this many months that have one.", examples=[12]
    )
    keep_yearly: Count | None = Field(
        default=None, description="The last one of each year, for this many years that have one.", examples=[3]
    )
    keep_within: DurationText | None = Field(
        default=None,
        description="Everything younger than this, counted back from the newest one: years, months, days, hours.",
        examples=["2d", "1y6m"],
    )
    schedule: Schedule | None = Field(
        default=None,
        description="When the others are forgotten and their data is pruned. Without it this is done by hand only.",
    )

    @classmethod
    def contradictions(cls, given: Mapping[str, Any]) -> Iterator[PydanticCustomError]:
        """A retention without a rule would keep nothing."""
        if not any(name.startswith("keep_") for name in given):
            wanted = "one keep_… or more, for example keep_daily: 7"
            yield wrong("no rule keeps anything", wanted=wanted, hidden=True)


class Volume(Model):
    """A Docker volume."""

    shorthand: ClassVar[str | None] = "name"

    name: VolumeName = Field(
        description="The volume's name, as docker volume ls shows it.", examples=["shop_uploads", "shop_cache"]
    )
    exclude: tuple[Exclusion, ...] = Field(
        default=(),
        description="What is left out: * within one name, ** across directories. A pattern without a slash means a "
        "name anywhere, one with a slash the whole path inside the volume.",
        examples=[["cache/**", "*.tmp"]],
    )
    allow_empty: bool = Field(
        default=False,
        strict=True,
        description="Accept that it is empty after a backup that found files. Otherwise this is taken for a mistake, "
        "and nothing is stored.",
        examples=[True],
    )

    @property
    def label(self) -> str:
        """What its snapshots are called."""
        return f"volume:{self.name}"


class Directory(Model):
    """A directory of the host."""

    shorthand: ClassVar[str | None] = "path"

    path: DirectoryPath = Field(description="The directory, absolute.", examples=["/srv/www", "/etc/shop"])
    exclude: tuple[Exclusion, ...] = Field(
        default=(),
        description="What is left out, as for a volume.",
        examples=[[".cache/**"]],
    )
    allow_empty: bool = Field(
        default=False,
        strict=True,
        description="Accept that it is empty after a backup that found files, as for a volume.",
        examples=[True],
    )

    @property
    def label(self) -> str:
        """What its snapshots are called."""
        return f"path:{self.path}"


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


class Postgres(Model):
    """A PostgreSQL server, dumped with its roles and tablespaces by its own pg_dump."""

    name: SourceName = Field(
        description="What its snapshots are called. Keep it when the container gets another name.", examples=["shop-db"]
    )
    container: ContainerName | None = Field(
        default=None, description="The container that it runs in.", examples=["shop-db-1"]
    )
    host: Annotated[HostName | None, Commented()] = Field(
        default=None,
        description="The host of a server outside Docker, instead of container; the tools of this machine are used.",
        examples=["db.example.com"],
    )
    port: Annotated[Port | None, Commented()] = Field(
        default=None, description="The server's port, with host; 5432 when it is not given.", examples=[5432]
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
        description="The environment variable that holds the role's password, instead of password_file.",
        examples=["SHOP_DB_PASSWORD"],
    )
    databases: Databases = Field(
        default="all", description="Which databases are dumped: all of them, or a list.", examples=[["shop"], "all"]
    )
    compare: Literal["digest", "rows"] = Field(
        default="digest",
        description="What is recorded of each table, for a drill to compare: digest proves the contents of every row, "
        "rows counts them, which is quicker on large tables.",
        examples=["digest"],
    )

    @classmethod
    def contradictions(cls, given: Mapping[str, Any]) -> Iterator[PydanticCustomError]:
        """One place to find the server, and one password at most."""
        yield from exactly_one(given, "container", "host")
        yield from at_most_one(given, "password_file", "password_env")
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


_Labelled = TypeVar("_Labelled", Volume, Directory, Postgres)


def _distinct(sources: tuple[_Labelled, ...]) -> tuple[_Labelled, ...]:
    labels = [source.label for source in sources]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        what = "two sources of one stack have the same label"
        raise wrong(what, wanted="each of them once", found=", ".join(twice), hidden=True)
    return sources


class Stack(Model):
    """What is backed up and restored together: the volumes, directories and databases of one application."""

    volumes: Annotated[tuple[Volume, ...], AfterValidator(_distinct)] = Field(
        default=(), description="Docker volumes, each by its name or with options."
    )
    paths: Annotated[tuple[Directory, ...], AfterValidator(_distinct)] = Field(
        default=(), description="Directories of the host (bind mounts among them), each by its path or with options."
    )
    postgres: Annotated[tuple[Postgres, ...], AfterValidator(_distinct)] = Field(
        default=(), description="PostgreSQL servers."
    )
    schedule: Schedule | None = Field(
        default=None, description="When the stack is backed up. Without it this is done by hand only."
    )
    retention: Retention | None = Field(
        default=None, description="Which restore points are kept. Without it all of them are."
    )
    drill: Schedule | None = Field(
        default=None,
        description="When the newest restore point is restored in a sandbox, compared and destroyed: the proof.",
    )

    @classmethod
    def contradictions(cls, given: Mapping[str, Any]) -> Iterator[PydanticCustomError]:
        """A stack without a source would back up nothing, and call it a success."""
        if not any(given.get(name) for name in ("volumes", "paths", "postgres")):
            yield wrong("nothing to back up", wanted="one or more of volumes, paths, postgres", hidden=True)

    @property
    def sources(self) -> tuple[Volume | Directory | Postgres, ...]:
        """Everything that is captured, databases first: they are quick, and a dump is of one instant."""
        return (*self.postgres, *self.volumes, *self.paths)
