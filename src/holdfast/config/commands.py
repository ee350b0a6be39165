"""What the configuration says of commands in containers: those whose output is captured, and hooks around a capture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field
from pydantic_core import PydanticCustomError

from holdfast.config.base import MISSING, Model
from holdfast.config.fields import (
    Bytes,
    CommandWords,
    ContainerName,
    FileName,
    Percentage,
    Seconds,
    SourceName,
    UserName,
)
from holdfast.config.spelling import Commented, wrong


class Command(Model):
    """The standard output of a command in a container, which becomes a file of the snapshot."""

    name: SourceName = Field(description="What its snapshots are called.", examples=["shop-redis"])
    container: ContainerName = Field(description="The container that it runs in.", examples=["shop-redis-1"])
    command: CommandWords = Field(
        description="The program and its arguments. It must exit with 0, and write something.",
        examples=[["redis-cli", "--rdb", "-"]],
    )
    user: Annotated[UserName | None, Commented()] = Field(
        default=None, description="The user inside the container; else the container's own.", examples=["redis"]
    )
    file: FileName = Field(default="output", description="What the file is called.", examples=["dump.rdb"])
    min_size: Bytes = Field(
        default=1, description="An output shorter than this is a failure, and nothing is stored.", examples=[1024]
    )
    max_shrink: Percentage = Field(
        default="90%",
        description="An output that is smaller than the last one by more than this is taken for a mistake, and nothing "
        "is stored, until `--allow-empty` accepts it.",
        examples=["50%"],
    )
    timeout: Seconds = Field(default=3600, description="How long it may take.", examples=[600])

    @property
    def label(self) -> str:
        """What its snapshots are called."""
        return f"command:{self.name}"


class Hook(Model):
    """Commands in a container, run before the containers of the stack are held and after they are let go."""

    container: ContainerName = Field(description="The container that they run in.", examples=["shop-redis-1"])
    pre: CommandWords | None = Field(
        default=None,
        description="Run before; unless it exits with 0, nothing is captured.",
        examples=[["redis-cli", "save"]],
    )
    post: CommandWords | None = Field(
        default=None,
        description="Run after, also when the capture failed or Holdfast was killed: then by its watchdog, or by the "
        "next start.",
        examples=[["redis-cli", "config", "set", "appendonly", "yes"]],
    )
    user: Annotated[UserName | None, Commented()] = Field(
        default=None, description="The user inside the container; else the container's own.", examples=["redis"]
    )
    timeout: Seconds = Field(default=60, description="How long each may take.", examples=[30])

    @classmethod
    def contradictions(cls, given: Mapping[str, Any]) -> Iterator[PydanticCustomError]:
        """A hook without a command does nothing."""
        if not given.get("pre") and not given.get("post"):
            yield wrong(MISSING, wanted="pre or post, or both", hidden=True)
