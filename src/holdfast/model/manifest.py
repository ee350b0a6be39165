"""The manifest: what a snapshot says of itself, kept in its own tree as `/.holdfast/manifest.json`.

It lies in the tree and not in the snapshot object because restic drops unknown fields when it rewrites a snapshot.
Restoring never needs it: it serves comparison, not recovery.
"""

from __future__ import annotations

from typing import Any

import msgspec

from holdfast.model.ids import PointId

FOLDER = b".holdfast"
NAME = b"manifest.json"
DATA = b"data"
"""The directory of a snapshot's root tree that holds a captured tree: it carries the metadata of the source's root."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What was captured, how it looked, and what could not be captured.

    `kind` is the part of the source's label before its colon; `facts` is what the source gave for comparison
    (`model.facts`, as plain JSON data); `notes` are the source's own lines about what was changed or left out.
    """

    version: int = 1
    stack: str
    source: str
    point: PointId
    parts: int
    holdfast: str
    facts: dict[str, Any] = {}
    notes: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """`volume`, `path`, `postgres`."""
        return self.source.partition(":")[0]
