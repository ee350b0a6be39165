"""Names of things, each with a type of its own so that one is never passed for another."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import NewType

BlobId = NewType("BlobId", bytes)
"""SHA-256 of a blob's plaintext: 32 raw bytes (written as 64 hex digits in JSON)."""

SnapshotId = NewType("SnapshotId", str)
"""SHA-256 of a snapshot object's stored bytes: 64 hex digits; an operator may write the first ones."""

PointId = NewType("PointId", str)
"""A restore point: `20261124T015334Z-3f9a1c`, which sorts by time and is unique without coordination."""

SHORT_ID = 8
"""How many hex digits are shown to people, as restic shows them."""


def new_point_id(now: datetime) -> PointId:
    """A fresh restore point id for a run that starts `now` (any zone; written in UTC)."""
    return PointId(f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}")


def short(snapshot_id: str) -> str:
    """The first digits of an id."""
    return snapshot_id[:SHORT_ID]
