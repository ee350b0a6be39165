"""Verify: the stored bytes are what was written — in structure always, in data whole or for a share of the packs.

It proves storage, not recovery: that is what a drill is for.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from holdfast.repository.check import Checker
from holdfast.repository.check_trees import Checked
from holdfast.repository.repository import Repository
from holdfast.services.proofs import Verification, store_verification
from holdfast.services.restore import reading


class VerifyReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a verification looked at and found. `affected` names each file that is lost, by snapshot."""

    snapshots: int
    trees: int
    blobs: int
    packs: int
    packs_read: int
    bytes_read: int
    seconds: float
    problems: tuple[str, ...]
    affected: tuple[str, ...]
    notices: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is damaged or missing."""
        return not self.problems


def verify(
    repository: Repository,
    *,
    read_share: float = 0.0,
    seed: int | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    on_progress: Callable[[Checked], None] | None = None,
) -> VerifyReport:
    """Check a repository under a shared lock, and keep a record that it was done.

    Args:
        repository: an open repository.
        read_share: 0 checks the structure only, 1 reads every pack, between them a random share of the packs.
        seed: makes the choice of packs repeatable.
        now: the clock, for the record that is kept of it.
        on_progress: told now and then what has been checked.

    Raises: RepositoryLocked, and errors of the store that are not about single objects. Damage is in the report.
    """
    started = time.monotonic()
    checker = Checker(repository, on_progress)
    with reading(repository, checker.load):
        done = checker.run(read_share=read_share, choose=random.Random(seed))  # noqa: S311  a sample
    store_verification(
        repository,
        Verification(
            finished=now(),
            read_share=read_share,
            bytes_read=done.bytes_read,
            packs=done.packs,
            problems=len(done.problems),
        ),
    )
    return VerifyReport(
        snapshots=done.snapshots,
        trees=done.trees,
        blobs=done.blobs,
        packs=done.packs,
        packs_read=done.packs_read,
        bytes_read=done.bytes_read,
        seconds=time.monotonic() - started,
        problems=tuple(map(str, done.problems)),
        affected=tuple(done.affected),
        notices=tuple(done.notices),
    )
