"""What the configuration says of drills: which restore point, and what the restored data is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic_core import PydanticCustomError

from holdfast.config.base import Model, exactly_one
from holdfast.config.fields import DatabaseName, Port, SourceName, TimeText
from holdfast.config.schedule import Schedule
from holdfast.config.spelling import Commented, Spelling, Words, wrong

Text = Annotated[str, Spelling("a text", "text without NUL characters", r"^[^\x00]+$")]
ImageName = Annotated[
    str, Spelling("an image", "its name, such as nginx:1.27", r"^[a-zA-Z0-9][a-zA-Z0-9._/:@-]{0,254}$")
]
ExitCode = Annotated[int, Field(strict=True, ge=0, le=255), Words("an exit code, 0 to 255")]
HttpStatus = Annotated[int, Field(strict=True, ge=100, le=599), Words("an HTTP status, 100 to 599")]
UrlPath = Annotated[str, Spelling("a path of a URL", "it begins with /", r"^/[^\s\x00]*$")]
InsidePath = Annotated[str, Spelling("a path in a container", "it begins with /", r"^/[^\x00:]*$")]
MountText = Annotated[
    str,
    Spelling("a mount", "a volume's name, a colon and a path", r"^[a-zA-Z0-9][a-zA-Z0-9_.-]+:/[^\x00:]*$"),
]


class Drill(Schedule):
    """When a stack is drilled, and with which restore point."""

    point: Literal["newest", "random"] = Field(
        default="newest",
        description="Which restore point: the newest whole one, or one chosen at random of all that are kept, so that "
        "old ones are proven, too; databases with archived WAL are then recovered to a random instant.",
    )
    timeout: TimeText = Field(
        default="6h",
        description="How long restoring and comparing one source may take: then it is ended.",
        examples=["6h"],
    )


class SqlCheck(Model):
    """A statement on a restored database, and what it has to answer."""

    name: SourceName = Field(description="What the check is called in proofs.", examples=["orders-are-there"])
    postgres: SourceName = Field(description="The PostgreSQL source, by its `name`.", examples=["shop-db"])
    database: DatabaseName = Field(default="postgres", description="The database.", examples=["shop"])
    query: Text = Field(
        description="A SELECT that gives one row of one column.", examples=["SELECT count(*) > 0 FROM orders"]
    )
    expect: Text = Field(description="That value as text, as JSON writes it: true, 42, abc.", examples=["true"])


class Application(Model):
    """A container that is started in the sandbox, on the restored volumes."""

    name: SourceName = Field(description="What the check is called in proofs.", examples=["uploads-are-readable"])
    image: ImageName | None = Field(
        default=None, description="The image. It is not pulled: it has to be there.", examples=["shop-web:1.4"]
    )
    service: Annotated[SourceName | None, Commented()] = Field(
        default=None,
        description="In place of `image`: a service of this stack, by its name in Compose or its container's name. It "
        "is started as it was recorded at the backup (image, environment, command, user, mounts), on restored data, "
        "beside the databases of the restore point, under the names it knows.",
        examples=["web"],
    )
    beside: Annotated[tuple[SourceName, ...], Commented()] = Field(
        default=(),
        description="Other services that it needs (a cache, a queue): started before it, as recorded, each on restored "
        "data of its own.",
        examples=[["cache"]],
    )
    without: Annotated[tuple[InsidePath, ...], Commented()] = Field(
        default=(),
        description="Where the service mounts what is not backed up: these mounts are left away.",
        examples=[["/etc/localtime"]],
    )
    mounts: tuple[MountText, ...] = Field(
        default=(),
        description="Which restored volumes of this stack are mounted, and where.",
        examples=[["shop_uploads:/srv/uploads"]],
    )
    timeout: TimeText = Field(default="60s", description="How long it may take.", examples=["60s"])

    @classmethod
    def contradictions(cls, given: Mapping[str, Any]) -> Iterator[PydanticCustomError]:
        """What runs is an image with mounts, or a service that has its own."""
        yield from exactly_one(given, "image", "service")
        for key, owner in (("mounts", "image"), ("without", "service"), ("beside", "service")):
            if key in given and owner not in given:
                yield wrong(f"{key} goes with {owner}", wanted=f"{owner}, or no {key}", hidden=True)


class CommandCheck(Application):
    """A command in a container on the restored volumes, and how it has to end."""

    command: Annotated[tuple[Text, ...], Field(min_length=1)] = Field(
        description="The command and its arguments.", examples=[["sh", "-c", "test -s /srv/uploads/index"]]
    )
    exit_code: ExitCode = Field(default=0, description="The exit code that it has to end with.")
    output: Text | None = Field(
        default=None, description="A text that its output has to contain.", examples=["all good"]
    )


class HttpCheck(Application):
    """A request to an application that was started on the restored volumes."""

    name: SourceName = Field(description="What the check is called in proofs.", examples=["shop-answers"])

    command: tuple[Text, ...] = Field(
        default=(),
        description="The command, where it is not the image's own.",
        examples=[["nginx", "-g", "daemon off;"]],
    )
    port: Port = Field(description="The port that it listens on inside its container.", examples=[8080])
    path: UrlPath = Field(default="/", description="The path that is asked for.", examples=["/health"])
    status: HttpStatus = Field(default=200, description="The status that it has to answer with.")
    contains: Text | None = Field(default=None, description="A text that the answer has to contain.", examples=["ok"])


class Checks(Model):
    """What a drill asks the restored data."""

    sql: tuple[SqlCheck, ...] = Field(default=(), description="Statements on restored databases.")
    commands: tuple[CommandCheck, ...] = Field(default=(), description="Commands in containers on restored volumes.")
    http: tuple[HttpCheck, ...] = Field(default=(), description="Requests to applications on restored volumes.")

    @classmethod
    def contradictions(cls, given: Mapping[str, Any]) -> Iterator[PydanticCustomError]:
        """Every check has a name of its own: proofs are read by it."""
        names = [
            check.get("name")
            for kind in given.values()
            if isinstance(kind, (list, tuple))
            for check in kind
            if isinstance(check, Mapping)
        ]
        twice = sorted({str(name) for name in names if names.count(name) > 1})
        if twice:
            yield wrong("two checks have the same name", wanted="each name once", found=", ".join(twice), hidden=True)
