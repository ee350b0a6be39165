"""Holdfast against restic, BorgBackup and `tar | zstd` on the same data in the same run, on a directory and on S3.

`make bench` runs it; HOLDFAST_BENCH_SCALE=0.1 makes it small, HOLDFAST_BENCH_ROUNDS sets the number of rounds (3).
It asserts nothing about time: it prints the tables that docs/benchmarks.md holds.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from deployments.local.machine import CannotProvide
from deployments.local.peers import borg, zstd
from deployments.local.s3 import RcloneServer, restic_binary
from tests.bench.data import build_volume, change_some
from tests.bench.measure import HEAD, Run, compare
from tests.bench.peers import Borg, Holdfast, Peer, Restic, Tar

pytestmark = [pytest.mark.bench, pytest.mark.timeout(7200)]

SCALE = float(os.environ.get("HOLDFAST_BENCH_SCALE", "1"))
ROUNDS = int(os.environ.get("HOLDFAST_BENCH_ROUNDS", "3"))


class Contest:
    """Repositories beside each other, and one job at a time for all."""

    def __init__(self, root: Path, peers: list[Peer]) -> None:
        self.volume, self.target, self.peers = root / "volume", root / "restored", peers
        self.lines: list[str] = []

    def hold(self, job: str, work: Callable[[Peer], Run | None], before: Callable[[int], None] | None = None) -> None:
        """Every peer in turn, `ROUNDS` times; `before` is called ahead of each round."""
        for line in compare(
            job, [(peer.name, partial(work, peer)) for peer in self.peers], rounds=ROUNDS, before=before
        ):
            self.lines.append(line)
            print(line, flush=True)

    def from_scratch(self, peer: Peer) -> Run:
        peer.fresh()
        return peer.back_up(self.volume)

    def restored(self, peer: Peer) -> Run | None:
        # Removing 50,000 files at once would slow down whoever comes next: they are put aside, and go at the end.
        if self.target.exists():
            self.target.rename(self.target.with_name(f"old-{len(list(self.target.parent.iterdir()))}"))
        return peer.restore(self.target)


@pytest.fixture(scope="module", params=["directory", "s3"])
def contest(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Contest]:
    root = tmp_path_factory.mktemp("bench")
    kinds: list[type[Peer]] = [Holdfast]
    for kind, provide in ((Restic, restic_binary), (Borg, borg), (Tar, zstd)):
        try:
            provide()
            kinds.append(kind)
        except CannotProvide as error:
            print(f"without {kind.name}: {error}")
    if request.param == "directory":
        contest = Contest(root, [kind(root / kind.name) for kind in kinds])
        build_volume(contest.volume, scale=SCALE)
        yield contest
    else:
        with RcloneServer() as server:
            contest = Contest(root, [kind(root / kind.name, server) for kind in kinds if kind in (Holdfast, Restic)])
            build_volume(contest.volume, scale=SCALE)
            yield contest
    print(f"\n\n### {request.param}\n\n" + "\n".join([HEAD, *contest.lines]))
    shutil.rmtree(root)


def test_first_backup(contest: Contest) -> None:
    print(f"\n{HEAD}")
    contest.hold("first backup", contest.from_scratch)


def test_unchanged_backup(contest: Contest) -> None:
    contest.hold("unchanged backup", lambda peer: None if isinstance(peer, Tar) else peer.back_up(contest.volume))


def test_changed_backup(contest: Contest) -> None:
    before = {peer.name: peer.stored() for peer in contest.peers}
    contest.hold(
        "a day's changes",
        lambda peer: None if isinstance(peer, Tar) else peer.back_up(contest.volume),
        before=lambda number: change_some(contest.volume, seed=number),
    )
    grown = {peer.name: (peer.stored() - before[peer.name]) / ROUNDS / 2**20 for peer in contest.peers}
    print("\nstored by a day: " + ", ".join(f"{name} {size:.1f} MiB" for name, size in grown.items()), flush=True)


def test_restore(contest: Contest) -> None:
    contest.hold("restore", contest.restored)


def test_verify_all_data(contest: Contest) -> None:
    contest.hold("verify, all data", lambda peer: peer.verify())
