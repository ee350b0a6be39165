"""What the configuration says of the files of a stack: volumes, directories, and how their writers are held."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from holdfast.config.base import Model
from holdfast.config.fields import (
    DirectoryPath,
    Exclusion,
    VolumeName,
)
from holdfast.config.spelling import Commented

Quiesce = Literal["none", "pause", "stop", "hooks"]
"""How the containers that write a source are held while the last of it is read."""

QUIESCE_WORDS = (
    "`pause` and `stop` hold every container that may write it, for as long as reading takes what changed since a "
    "first, live pass; `hooks` only runs the hooks; `none` reads it live, and names what changed meanwhile."
)


class Volume(Model):
    """A Docker volume."""

    shorthand: ClassVar[str | None] = "name"

    name: VolumeName = Field(
        description="The volume's name, as `docker volume ls` shows it.", examples=["shop_uploads", "shop_cache"]
    )
    exclude: tuple[Exclusion, ...] = Field(
        default=(),
        description="What is left out: `*` within one name, `**` across directories. A pattern without a slash means a "
        "name anywhere, one with a slash the whole path inside the volume.",
        examples=[["cache/**", "*.tmp"]],
    )
    allow_empty: bool = Field(
        default=False,
        strict=True,
        description="Accept that it is empty after a backup that found files. Otherwise this is taken for a mistake, "
        "and nothing is stored.",
    )
    quiesce: Annotated[Quiesce | None, Commented()] = Field(
        default=None,
        description="How the containers that write this volume are held; without it the stack's `quiesce` holds.",
        examples=["stop"],
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
    )
    quiesce: Annotated[Quiesce | None, Commented()] = Field(
        default=None,
        description="How the containers that write this directory are held, as for a volume.",
        examples=["pause"],
    )

    @property
    def label(self) -> str:
        """What its snapshots are called."""
        return f"path:{self.path}"
