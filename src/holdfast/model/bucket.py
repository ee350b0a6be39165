"""What a bucket says of itself: facts about how safe it keeps what is in it."""

from __future__ import annotations

from datetime import datetime

import msgspec


class BucketFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One bucket, asked with our credentials and without any.

    `versioned` and `locked` are None where the server does not know such a thing, or does not let us ask.
    `readable_by_all`: whether a request without a signature was answered, None where it got neither that nor a refusal.
    `clock` is the server's own, at `asked`.
    """

    name: str
    versioned: bool | None
    locked: bool | None
    readable_by_all: bool | None
    asked: datetime
    clock: datetime | None = None
