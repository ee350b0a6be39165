"""The whole configuration: `holdfast.yaml`, version 1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from holdfast.config.base import Model
from holdfast.config.fields import HostName, StackName, ZoneName, is_zone
from holdfast.config.monitor import Channel, Monitor
from holdfast.config.repository import Engine, Repository
from holdfast.config.schedule import UTC, Schedule
from holdfast.config.spelling import Commented, SampleKey, wrong
from holdfast.config.stack import Stack, VerifySchedule


def _whole(value: object) -> object:
    """Refuse what equals 1 and is not written so: true, 1.0."""
    if type(value) is not int:
        raise wrong("not what belongs here", wanted="1")
    return value


class Config(Model):
    """Everything that Holdfast is told: where to, what, when, and how long."""

    version: Annotated[Literal[1], BeforeValidator(_whole)] = Field(
        description="The version of this file's format.", examples=[1]
    )
    repository: Repository = Field(description="Where the backups are kept: a restic repository of format version 2.")
    engine: Engine = Field(
        default=Engine(), description="The Docker Engine whose volumes and containers are backed up."
    )
    hostname: Annotated[HostName | None, Commented()] = Field(
        default=None,
        description="The host that snapshots are recorded under, where it is not the machine's own name: a worker in a "
        "container has a new name after every start.",
        examples=["host-1"],
    )
    timezone: ZoneName = Field(
        default=UTC,
        description="The time zone of every schedule that names none of its own.",
        examples=["Europe/Berlin"],
    )
    stacks: Annotated[Mapping[StackName, Stack], SampleKey("shop")] = Field(
        default={},
        description="What is backed up: each stack under its name. A stack's volumes, directories and databases are "
        "captured, restored and proven together.",
    )
    verify: VerifySchedule | None = Field(
        default=None,
        description="When the repository is verified. Without it this is done by hand only.",
        examples=[{"cron": "0 5 * * *"}],
    )

    monitor: Monitor = Field(
        default=Monitor(),
        description="When the monitor looks, what it takes for a finding, and where it writes what it measured.",
    )
    notify: tuple[Channel, ...] = Field(default=(), description="Who is told when a finding starts and when it ends.")
    canary: Schedule | None = Field(
        default=None,
        description="When a stack that Holdfast makes itself is backed up, destroyed, restored and compared: proof "
        "that this very installation works.",
        examples=[{"cron": "15 2 * * *"}],
    )

    @classmethod
    def without_file(cls, url: str, engine: str | None = None) -> Config:
        """What holds where there is no file: every default, and no stack but those that are found."""
        repository = Repository.model_construct(url=url, password_env="HOLDFAST_PASSWORD")  # noqa: S106  a name
        return cls.model_construct(version=1, repository=repository, engine=Engine(url=engine), stacks={})

    @model_validator(mode="before")
    @classmethod
    def _hand_down_timezone(cls, data: Any) -> Any:
        zone = data.get("timezone") if isinstance(data, Mapping) else None
        return _zoned(data, zone) if isinstance(zone, str) and is_zone(zone) else data


def _zoned(data: Mapping[str, Any], zone: str) -> dict[str, Any]:
    """The same values, with the zone in each schedule that names none. What has the wrong shape is left as it is."""

    def within(holder: Any, name: str) -> Any:
        schedule = holder.get(name) if isinstance(holder, Mapping) else None
        if isinstance(schedule, str):
            schedule = {"cron": schedule}
        if not isinstance(schedule, Mapping) or schedule.get("timezone") is not None:
            return holder
        return {**holder, name: {**schedule, "timezone": zone}}

    def stack(value: Any) -> Any:
        value = within(within(value, "schedule"), "drill")
        retention = value.get("retention") if isinstance(value, Mapping) else None
        return {**value, "retention": within(retention, "schedule")} if retention is not None else value

    stacks = data.get("stacks")
    zoned = {name: stack(value) for name, value in stacks.items()} if isinstance(stacks, Mapping) else stacks
    for name in ("verify", "monitor", "canary"):
        data = within(data, name)
    return {**data, **({"stacks": zoned} if "stacks" in data else {})}
