"""What the WAL of a recovery does when it is replayed, beyond pages: looked at before anything is written.

Rules upheld here:
- PostgreSQL replays a CREATE TABLESPACE at the very place that it names. Where the original lies on this machine, a
  recovered copy would write into the running server's files: such a recovery is refused before it begins. A place that
  is not there is told: PostgreSQL wants an empty folder, and makes none.
- A server whose limits were raised since the base backup pauses its recovery for ever with the old ones: the copy gets
  what the WAL asks for.
- Behind a stretch of wal_level = minimal PostgreSQL recovers nothing: refused, with the last address before it.

Source: PostgreSQL, src/backend/commands/tablespace.c (tblspc_redo, create_tablespace_directories), xlogrecovery.c
(CheckRequiredParameterValues).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from holdfast.errors import RestoreError
from holdfast.model.wal import Lsn, WalSegment
from holdfast.postgres.walpages import Content
from holdfast.postgres.walreplay import (
    SettingsChanged,
    TablespaceMade,
    may_matter,
    settings_changed,
    tablespaces_made,
)

Found = TypeVar("Found", TablespaceMade, SettingsChanged)


@dataclass(frozen=True, slots=True)
class Replayed:
    """What is in the WAL up to the target, as far as it is known: what lies in the last segment may be behind it."""

    tablespaces: tuple[TablespaceMade, ...] = ()
    settings: tuple[SettingsChanged, ...] = ()

    def least(self, given: dict[str, str]) -> dict[str, str]:
        """The settings that have to be higher than those given."""
        wanted: dict[str, int] = {}
        for change in self.settings:
            for name, value in change.values.items():
                wanted[name] = max(value, wanted.get(name, 0))
        return {name: str(value) for name, value in wanted.items() if value > int(given.get(name, 0))}


class ReplayWatch:
    """Remembers which segments are worth a closer look, as they pass."""

    def __init__(self) -> None:
        self._suspects: set[str] = set()

    def __call__(self, name: str, piece: memoryview) -> None:
        """Look at a piece."""
        if name not in self._suspects and may_matter(piece):
            self._suspects.add(name)

    def look(self, folder: str, segments: Sequence[WalSegment], *, until: Lsn | None) -> Replayed:
        """What these segments do, which lie in a folder; `until` is the address of the target. Raises: OSError."""
        return Replayed(
            self._found(folder, segments, tablespaces_made, until),
            self._found(folder, segments, settings_changed, until),
        )

    def _found(
        self,
        folder: str,
        segments: Sequence[WalSegment],
        look: Callable[[Iterable[Content]], list[Found]],
        until: Lsn | None,
    ) -> tuple[Found, ...]:
        found: dict[int, Found] = {}
        for number, segment in enumerate(segments):
            if segment.name in self._suspects:
                for one in look([_content(folder, each) for each in segments[number : number + 2]]):
                    if until is None or one.before < until:
                        found[one.record.begin] = one
        return tuple(found[begin] for begin in sorted(found))


def refuse_minimal(settings: Sequence[SettingsChanged]) -> None:
    """Raises: RestoreError where the server wrote with wal_level = minimal on the way."""
    for change in settings:
        if change.minimal:
            raise RestoreError(
                "the server wrote too little WAL on the way to the target: nothing behind that can be recovered",
                which=f"from {change.record.begin} on",
                wanted="wal_level = replica all the way",
                found="wal_level = minimal",
                hint=f"recover to before it (--lsn {change.before}), or from a base backup that was taken after it",
            )


def judge_tablespaces(made: Sequence[TablespaceMade], known: Collection[int], *, here: bool) -> list[str]:
    """A line for each place that has to be there; `here` tells that the server will run on this machine.

    `known` are the tablespaces that the base backup holds. Raises: RestoreError for a place that is in use.
    """
    notes = []
    for one in made:
        if one.oid in known:
            continue
        if here and os.path.isdir(one.location) and os.listdir(one.location):
            raise RestoreError(
                "the WAL makes a tablespace in a folder that is in use here: the copy would write into it",
                which=f"tablespace {one.oid} at {one.location}",
                wanted="an empty folder of the server's user at that place, or a target before it",
                found=f"a folder that holds {len(os.listdir(one.location))} entries",
                hint=f"recover to before it (--lsn {one.before}), from a base backup that holds it, into a "
                "container or on another machine; or move that folder away, if no server works in it any more",
            )
        notes.append(
            f"tablespace {one.oid} is made by the WAL: have an empty folder of the server's user at {one.location}"
        )
    return notes


def refuse_foreign(data: bytes, begin: Lsn) -> None:
    """As a server asks for a segment, in its data directory: refuse one that leads into a folder that is in use.

    A tablespace that is linked already was made by this server: it replays once more. Raises: RestoreError.
    """
    if may_matter(data):
        made = [one for one in tablespaces_made([(begin, data)]) if not os.path.lexists(f"pg_tblspc/{one.oid}")]
        judge_tablespaces(made, (), here=True)


def _content(folder: str, segment: WalSegment) -> Content:
    with open(os.path.join(folder, segment.name), "rb") as file:
        return segment.begin, file.read()
