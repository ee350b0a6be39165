"""What the configuration says of a stack: its sources, when they are backed up, what is kept, when it is proven."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from holdfast.config.base import Model
from holdfast.config.checks import Checks, Drill
from holdfast.config.fields import Count, DurationText, Percentage
from holdfast.config.monitor import Thresholds
from holdfast.config.schedule import UTC as UTC
from holdfast.config.schedule import Schedule as Schedule
from holdfast.config.sources import Directory, Postgres, Volume
from holdfast.config.spelling import wrong


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
    recovery_window: DurationText | None = Field(
        default=None,
        description="How far back databases with a WAL archive can be recovered to any instant. Their base backups and "
        "WAL of that time stay, whatever the rules say; what is older goes by the rules, its WAL with it.",
        examples=["14d"],
    )
    schedule: Schedule | None = Field(
        default=None,
        description="When the others are forgotten and their data is pruned. Without it this is done by hand only.",
        examples=[{"cron": "30 4 * * *"}],
    )

    @classmethod
    def contradictions(cls, given: Mapping[str, Any]) -> Iterator[PydanticCustomError]:
        """A retention without a rule would keep nothing."""
        if not any(name.startswith("keep_") for name in given):
            wanted = "one keep_… or more, for example keep_daily: 7"
            yield wrong("no rule keeps anything", wanted=wanted, hidden=True)


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
        default=None,
        description="When the stack is backed up. Without it this is done by hand only.",
        examples=[{"cron": "0 3 * * *"}],
    )
    retention: Retention | None = Field(
        default=None, description="Which restore points are kept. Without it all of them are."
    )
    drill: Drill | None = Field(
        default=None,
        description="When a restore point is restored in a sandbox, compared and destroyed: the proof. "
        "Without it this is done by hand only.",
        examples=[{"cron": "0 6 * * sun"}],
    )
    checks: Checks = Field(
        default=Checks(), description="What a drill asks the restored data, beside comparing all of it."
    )
    monitor: Thresholds | None = Field(default=None, description="When the monitor raises a finding about this stack.")

    @classmethod
    def contradictions(cls, given: Mapping[str, Any]) -> Iterator[PydanticCustomError]:
        """A stack without a source would back up nothing, and call it a success."""
        if not any(given.get(name) for name in ("volumes", "paths", "postgres")):
            yield wrong("nothing to back up", wanted="one or more of volumes, paths, postgres", hidden=True)

    @property
    def sources(self) -> tuple[Volume | Directory | Postgres, ...]:
        """Everything that is captured, databases first: they are quick, and a dump is of one instant."""
        return (*self.postgres, *self.volumes, *self.paths)
