"""What the configuration says of monitoring: thresholds, where measured values go, who is told."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from pydantic_core import PydanticCustomError

from holdfast.config.base import Model, at_most_one, exactly_one
from holdfast.config.fields import (
    Amount,
    Bytes,
    CronText,
    FilePath,
    ListenAddress,
    Percentage,
    SecretFile,
    SecretVariable,
    SourceName,
    TimeText,
)
from holdfast.config.schedule import Schedule
from holdfast.config.secret import Secret, read_secret_file, read_secret_variable
from holdfast.config.spelling import Commented
from holdfast.policy.accepted import Acceptable


class Thresholds(Model):
    """When the monitor raises a finding about a stack."""

    backup_within: TimeText | None = Field(
        default=None,
        description="The newest whole restore point is at most this old. Without it: the longest pause of the stack's "
        "schedule, and a tenth of it or an hour more.",
        examples=["26h"],
    )
    proven_within: TimeText | None = Field(
        default=None,
        description="The last drill that passed is at most this old. Without it: as for backup_within, by the drill's "
        "schedule.",
        examples=["8d"],
    )
    rto: TimeText | None = Field(
        default=None, description="A drill restores the stack in at most this long.", examples=["30min"]
    )
    wal_behind: TimeText = Field(
        default="5min",
        description="Where WAL is archived: what is not archived yet is at most this old.",
        examples=["5min"],
    )
    wal_full_within: TimeText = Field(
        default="6h",
        description="Where WAL is archived: while something holds WAL back on the server, the disk of its pg_wal that "
        "would be full within this is a warning, within a quarter of it critical.",
        examples=["6h"],
    )
    replica_behind: TimeText = Field(
        default="5min",
        description="Where WAL is archived: a standby of the server, or the server where it is one, is at most this "
        "far behind.",
        examples=["5min"],
    )
    replica_behind_bytes: Bytes = Field(
        default=1 << 30,
        description="The same in bytes of WAL: what a standby may have to replay still.",
        examples=[268435456],
    )
    shrunk: Percentage = Field(
        default="50%",
        description="A restore point that is smaller than the one before it by more than this is a finding.",
        examples=["50%"],
    )


class Accepted(Model):
    """A finding about the host that somebody has looked at and accepts: it is not told any more."""

    shorthand: ClassVar[str | None] = "kind"

    kind: Acceptable = Field(description="The finding's name.", examples=["container-has-engine"])
    about: str = Field(
        default="*",
        min_length=1,
        description="What it is about: the name of a container or volume, or a file's path; `*` and `?` stand for "
        "anything and for one character.",
        examples=["portainer-*"],
    )


class Monitor(Schedule):
    """When the monitor looks, what it takes for a finding, and where it writes what it measured."""

    cron: CronText = Field(
        default="*/10 * * * *",
        description="Minute, hour, day of the month, month, day of the week.",
        examples=["*/10 * * * *"],
    )
    verified_within: TimeText | None = Field(
        default=None,
        description="The last verification without damage is at most this old. Without it: by the schedule of "
        "`verify`.",
        examples=["2d"],
    )
    space_warning: Percentage = Field(
        default="80%",
        description="A filesystem (or its inodes) that is fuller than this is a warning; also that of a server's "
        "pg_wal, where WAL is archived.",
        examples=["80%"],
    )
    space_critical: Percentage = Field(
        default="92%", description="A filesystem that is fuller than this is critical.", examples=["92%"]
    )
    full_within: TimeText = Field(
        default="14d",
        description="A filesystem that will be full within this, by its trend, is a warning.",
        examples=["14d"],
    )
    accept: tuple[Accepted, ...] = Field(
        default=(),
        description="Findings about containers, volumes and files of this host that are meant to be so. A label "
        "`holdfast.accept` on the container or volume says the same.",
        examples=[[{"kind": "container-has-engine", "about": "portainer"}]],
    )
    price: Amount | None = Field(
        default=None, description="What the store asks for a GiB and month, in any currency.", examples=["0.023"]
    )
    textfile: FilePath | None = Field(
        default=None,
        description="A file for the textfile collector of Prometheus' node exporter.",
        examples=["/var/lib/node_exporter/holdfast.prom"],
    )
    listen: ListenAddress | None = Field(
        default=None,
        description="Where `holdfast up` serves /metrics and the status page.",
        examples=["127.0.0.1:9464"],
    )
    ping_file: SecretFile | None = Field(
        default=None,
        description="A file that holds a URL to ask after each run: a dead man's switch elsewhere that raises the "
        "alarm when nothing comes. `/fail` is added when something is critical.",
        examples=["/run/secrets/healthchecks-url"],
    )
    ping_env: Annotated[SecretVariable | None, Commented()] = Field(
        default=None,
        description="The environment variable that holds that URL, instead of `ping_file`.",
        examples=["HEALTHCHECKS_URL"],
    )

    @classmethod
    def contradictions(cls, given: Mapping[str, Any]) -> Iterator[PydanticCustomError]:
        """One place for the URL."""
        yield from at_most_one(given, "ping_file", "ping_env")

    def ping(self, env: Mapping[str, str] = os.environ) -> Secret | None:
        """The URL to ask, if one is named. Raises: ConfigError."""
        return _secret(self.ping_file, self.ping_env, "the URL to ping", env)


class Channel(Model):
    """Somebody who is told when a finding starts and when it ends."""

    name: SourceName = Field(description="What it is called in logs.", examples=["operators"])
    url_file: SecretFile | None = Field(
        default=None,
        description="A file that holds an Apprise URL: mailto://, slack://, jsons:// (a webhook) and many more.",
        examples=["/run/secrets/notify-operators"],
    )
    url_env: Annotated[SecretVariable | None, Commented()] = Field(
        default=None,
        description="The environment variable that holds it, instead of `url_file`.",
        examples=["NOTIFY_OPERATORS"],
    )
    severity: Literal["info", "warning", "critical"] = Field(
        default="warning", description="What is less bad than this is not told."
    )
    runs: Annotated[bool, Field(strict=True)] = Field(
        default=False,
        description="The Prefect server itself tells this channel, too, at once, of each run that failed or crashed, "
        "also while this host's monitor does not run. `holdfast up` then stores the URL in the server, as a block.",
    )

    @classmethod
    def contradictions(cls, given: Mapping[str, Any]) -> Iterator[PydanticCustomError]:
        """One place for the URL."""
        yield from exactly_one(given, "url_file", "url_env")

    def url(self, env: Mapping[str, str] = os.environ) -> Secret:
        """The Apprise URL. Raises: ConfigError."""
        found = _secret(self.url_file, self.url_env, f"the URL of notification channel {self.name}", env)
        assert found is not None  # noqa: S101  one of them is there: see contradictions
        return found


def _secret(file: str | None, variable: str | None, purpose: str, env: Mapping[str, str]) -> Secret | None:
    if variable:
        return read_secret_variable(variable, purpose, env)
    return read_secret_file(file, purpose) if file else None
