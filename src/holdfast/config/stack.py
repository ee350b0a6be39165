"""What the configuration says of a stack: its sources, when they are backed up, what is kept, when it is proven."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from holdfast.config.base import Model
from holdfast.config.checks import Checks, Drill
from holdfast.config.commands import Command, Hook
from holdfast.config.fields import Count, DurationText, Percentage, Seconds, SourceName, share
from holdfast.config.monitor import Thresholds
from holdfast.config.postgres import Postgres
from holdfast.config.schedule import UTC as UTC
from holdfast.config.schedule import Schedule as Schedule
from holdfast.config.sources import QUIESCE_WORDS, Directory, Quiesce, Volume
from holdfast.config.spelling import Commented, wrong


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
        return share(self.read_data) if self.read_data else 0.0


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


_Labelled = TypeVar("_Labelled", Volume, Directory, Postgres, Command)

SourceSpec: TypeAlias = Volume | Directory | Postgres | Command
"""One thing of a stack that is captured into a snapshot of its own."""


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
    commands: Annotated[tuple[Command, ...], AfterValidator(_distinct)] = Field(
        default=(), description="Commands in containers whose output is captured: dumps of other databases."
    )
    discover: bool = Field(
        default=False,
        strict=True,
        description="Add what the Compose project of this name has beside what is named here: its volumes, the bind "
        "mounts below its folder, its databases. `holdfast plan` shows what that is.",
    )
    project: Annotated[SourceName | None, Commented()] = Field(
        default=None,
        description="The Compose project, where it has another name than the stack.",
        examples=["shop"],
    )
    quiesce: Quiesce = Field(
        default="none",
        description="How the containers that write the volumes and directories are held while the last of them is "
        f"read, all at once. {QUIESCE_WORDS}",
        examples=["pause", "stop"],
    )
    hooks: tuple[Hook, ...] = Field(
        default=(), description="Commands in containers around the moment when the stack is held."
    )
    hold_limit: Seconds = Field(
        default=60,
        description="The longest time that containers are held: then they are let go, and nothing is stored.",
        examples=[10],
    )
    when_busy: Literal["refuse", "wait"] = Field(
        default="refuse",
        description="What a backup does while another one of the same stack runs on this host.",
    )
    images: Literal["reference", "save"] = Field(
        default="reference",
        description="How images come back on a blank host: `reference` records their names, `save` keeps the images in "
        "the repository, for those that no registry has.",
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
        if not any(given.get(name) for name in ("volumes", "paths", "postgres", "commands", "discover")):
            wanted = "one or more of volumes, paths, postgres, commands; or discover: true"
            yield wrong("nothing to back up", wanted=wanted, hidden=True)

    @property
    def sources(self) -> tuple[SourceSpec, ...]:
        """Everything that is captured, databases first: they are quick, and a dump is of one instant."""
        return (*self.postgres, *self.commands, *self.volumes, *self.paths)

    def quiesce_of(self, spec: SourceSpec) -> Quiesce:
        """How the writers of a source are held."""
        own = spec.quiesce if isinstance(spec, (Volume, Directory)) else "none"
        return own if own is not None else self.quiesce
