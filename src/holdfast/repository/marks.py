"""The marks of a prune: which data goes, since when it is known to be unused. One sealed object beside the proofs.

Rules upheld here:
- restic never looks into this folder, and nothing but a prune depends on it: losing the marks begins the grace period
  anew, and loses nothing else.
- A set of marks is written whole, under the next generation; then the older ones go. Where two were written at once,
  the milder counts: the later time, and only what both name.
- What cannot be read marks nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping

import msgspec

from holdfast.errors import HoldfastError
from holdfast.policy.prune import ALL, Mark
from holdfast.repository.objects import Folder, key_of
from holdfast.repository.pack import PackedBlob
from holdfast.repository.repository import Repository
from holdfast.repository.usage import Usage

log = logging.getLogger(__name__)


class _MarksJson(msgspec.Struct):
    generation: int
    marks: list[Mark]


class Marks(msgspec.Struct):
    """The marks that count, by pack; `stored` are the objects that they came from."""

    generation: int
    by_pack: dict[str, Mark]
    stored: list[str]


def load_marks(repository: Repository) -> Marks:
    """The marks that are there. Raises: the store's errors when they cannot be listed."""
    found: list[_MarksJson] = []
    stored = []
    for name, document in repository.documents(Folder.MARKS):
        stored.append(name)
        read = _decode(document)
        if isinstance(read, _MarksJson):
            found.append(read)
        else:
            log.warning("marks of a prune are not readable, their time begins anew: %s", read)
    newest = max((each.generation for each in found), default=0)
    current = [{mark.pack: mark for mark in each.marks} for each in found if each.generation == newest]
    return Marks(newest, _mildest(current), stored)


def _decode(document: bytes | HoldfastError) -> _MarksJson | Exception:
    if isinstance(document, HoldfastError):
        return document
    try:
        return msgspec.json.decode(document, type=_MarksJson)
    except msgspec.DecodeError as error:
        return error


def save_marks(repository: Repository, before: Marks, marks: Iterable[Mark]) -> Marks:
    """Replace the marks; nothing is written when they are the same."""
    wanted = {mark.pack: mark for mark in sorted(marks, key=lambda mark: mark.pack)}
    if wanted == before.by_pack and len(before.stored) <= 1:
        return before
    generation = before.generation + 1
    kept: list[str] = []
    if wanted:
        document = msgspec.json.encode(_MarksJson(generation, list(wanted.values())))
        kept.append(repository.save_document(Folder.MARKS, document))
    for name in before.stored:
        repository.store.delete(key_of(Folder.MARKS, name))
    return Marks(generation, wanted, kept)


def still_dead(usage: Usage, marks: Mapping[str, Mark]) -> dict[str, Mark]:
    """The marks without what is used again."""
    found = {}
    for pack, blobs in usage.blobs_of(marks):
        before, now = marks[pack], dead_blobs(usage, pack, blobs)
        dead = _both([each for each in (before.dead, now) if each != ALL])
        if dead == ALL or any(dead):
            found[pack] = Mark(pack, before.since, dead)
    return found


def new_marks(usage: Usage, packs: Collection[str], now: float) -> dict[str, Mark]:
    """Marks of what is dead in these packs now."""
    return {pack: Mark(pack, now, dead_blobs(usage, pack, blobs)) for pack, blobs in usage.blobs_of(packs)}


def dead_blobs(usage: Usage, pack: str, blobs: list[PackedBlob]) -> bytes:
    """Which blobs of a pack no snapshot refers to, as a mark says it. Of spare copies none is needed."""
    bits = 0
    for position, blob in enumerate(blobs):
        if not (usage.used.has(blob.kind, blob.id) and usage.is_first(pack, blob)):
            bits |= 1 << position
    whole = (1 << len(blobs)) - 1
    return ALL if bits == whole else bits.to_bytes((len(blobs) + 7) // 8, "little")


def _mildest(sets: list[dict[str, Mark]]) -> dict[str, Mark]:
    if not sets:
        return {}
    common = set(sets[0]).intersection(*sets[1:])
    return {pack: _milder([each[pack] for each in sets]) for pack in common}


def _milder(marks: list[Mark]) -> Mark:
    dead = _both([mark.dead for mark in marks if mark.dead != ALL])
    return Mark(marks[0].pack, max(mark.since for mark in marks), dead)


def _both(partial: list[bytes]) -> bytes:
    """What all of them name; `ALL` when there is none."""
    if not partial:
        return ALL
    length = min(map(len, partial))
    found = int.from_bytes(partial[0][:length], "little")
    for other in partial[1:]:
        found &= int.from_bytes(other[:length], "little")
    return found.to_bytes(length, "little")
