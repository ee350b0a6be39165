"""What the configuration says of when something runs."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from holdfast.config.base import Model
from holdfast.config.fields import CronText, ZoneName
from holdfast.config.spelling import Commented

UTC = "UTC"


class Schedule(Model):
    """When something runs."""

    shorthand: ClassVar[str | None] = "cron"

    cron: CronText = Field(
        description="Minute, hour, day of the month, month, day of the week.",
        examples=["0 3 * * *", "30 4 * * sun"],
    )
    timezone: Annotated[ZoneName, Commented()] = Field(
        default=UTC,
        description="The time zone that the hours are meant in, by its IANA name; else the file's `timezone` holds.",
        examples=["Europe/Berlin"],
    )
