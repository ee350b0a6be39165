"""Pruning: what happens to each pack, and why. Pure: no clock, no store.

Rules upheld here:
- What is not used is first marked, and goes when its mark is older than the grace period: until then a snapshot that
  was forgotten by mistake can come back, and a run that was broken off finds what it uploaded.
- A mark says which blobs of the pack were dead when it was made. Only these go: what died later waits its own time.
- A mark ends when what it names is used again. A clock that was set back makes a mark younger, never older.
- A pack is rewritten only when enough of it is dead; a little waste is cheaper than the traffic. Trees are small and
  read often: their packs are always tidied up.
- A pack that no index names is an upload, in flight or broken off: it goes by its age.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

import msgspec

ALL = b""
"""A mark's `dead` when every blob of the pack is."""


class PackFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One pack as it was measured. `size` and `unused` are bytes on the store; `modified` is in Unix seconds.

    `blobs` is how many the index says it holds, `used` how many of these snapshots need here; None for a pack that no
    index names.
    """

    pack: str
    size: int
    unused: int = 0
    blobs: int | None = None
    used: int = 0
    trees: bool = False
    modified: float | None = None


class Mark(msgspec.Struct, frozen=True):
    """What is to go: a pack, since when (Unix seconds), and one bit for each of its blobs, in their order.

    A set bit (the lowest first) is a blob that was dead when the mark was made; `ALL` means that each is.
    """

    pack: str
    since: float
    dead: bytes = ALL

    def names(self, position: int) -> bool:
        """Whether the blob at this position of the pack is to go."""
        if self.dead == ALL:
            return True
        byte = position // 8
        return byte < len(self.dead) and bool(self.dead[byte] >> position % 8 & 1)


class Action(StrEnum):
    """What happens to a pack now."""

    KEEP = "keep"
    MARK = "mark"
    DELETE = "delete"
    REWRITE = "rewrite"
    LEAVE = "leave"


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What happens to one pack, and why. `freed` are bytes on the store; `due` is when a marked pack goes."""

    pack: str
    action: Action
    reason: str
    size: int
    freed: int = 0
    due: float | None = None


class PrunePlan(msgspec.Struct, frozen=True, kw_only=True):
    """A decision for each pack. `due` of what is marked is in Unix seconds."""

    decisions: tuple[Decision, ...]
    bytes_total: int
    bytes_unused: int

    def of(self, action: Action) -> list[Decision]:
        """The decisions for one action."""
        return [decision for decision in self.decisions if decision.action is action]


def plan_prune(
    facts: Sequence[PackFacts],
    marks: Mapping[str, Mark],
    *,
    grace: float,
    orphan_age: float,
    max_unused: float,
    now: float,
) -> PrunePlan:
    """Decide for each pack.

    Args:
        facts: every pack that the store lists or an index names.
        marks: those of earlier runs, by pack.
        grace: seconds from a mark to the deletion; 0 deletes what is unused now.
        orphan_age: seconds after which a pack that no index names is a broken upload.
        max_unused: the share of all stored bytes that may stay unused inside packs that are partly used.
        now: Unix seconds.
    """
    total = sum(fact.size for fact in facts)
    tidy = _worth_rewriting(facts, max_unused * total)
    decisions = []
    for fact in facts:
        if fact.blobs is None:
            decisions.append(_unindexed(fact, now - orphan_age))
        elif fact.used == 0 or fact.pack in tidy:
            decisions.append(_marked(fact, marks.get(fact.pack), grace=grace, now=now))
        else:
            reason = "a little of it is not used" if fact.unused else "all of it is used"
            decisions.append(Decision(pack=fact.pack, action=Action.KEEP, reason=reason, size=fact.size))
    unused = sum(fact.unused if fact.blobs is not None else 0 for fact in facts)
    orphans = sum(decision.freed for decision in decisions if decision.reason.startswith("no index"))
    return PrunePlan(decisions=tuple(decisions), bytes_total=total, bytes_unused=unused + orphans)


def begins_anew(mark: Mark, *, used: int) -> bool:
    """Whether a mark's time starts again: of a pack that died wholly after only a part of it was marked.

    It waits once more, and then goes without anything of it being copied.
    """
    return used == 0 and mark.dead != ALL


def _worth_rewriting(facts: Iterable[PackFacts], budget: float) -> set[str]:
    partly = sorted((fact for fact in facts if fact.used and fact.unused), key=lambda fact: (-fact.unused, fact.pack))
    waste = sum(fact.unused for fact in partly)
    chosen = set()
    for fact in partly:
        if waste > budget or fact.trees:
            chosen.add(fact.pack)
            waste -= fact.unused
    return chosen


def _marked(fact: PackFacts, mark: Mark | None, *, grace: float, now: float) -> Decision:
    since = now if mark is None or begins_anew(mark, used=fact.used) else min(mark.since, now)
    whole = fact.used == 0
    reason = "nothing refers to it" if whole else f"{fact.unused} of {fact.size} bytes are not used"
    action = Action.DELETE if whole else Action.REWRITE
    if since + grace > now:
        action = Action.MARK
    return Decision(
        pack=fact.pack, action=action, reason=reason, size=fact.size, freed=fact.unused, due=max(since + grace, now)
    )


def _unindexed(fact: PackFacts, older_than: float) -> Decision:
    if fact.modified is not None and fact.modified < older_than:
        return Decision(
            pack=fact.pack,
            action=Action.DELETE,
            reason="no index names it: left by a broken upload",
            size=fact.size,
            freed=fact.size,
        )
    return Decision(
        pack=fact.pack, action=Action.LEAVE, reason="no index names it yet: it may be an upload", size=fact.size
    )
