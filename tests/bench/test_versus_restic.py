"""Holdfast against restic on the same data in the same run: first backup, unchanged and changed ones, restore, verify.

`make bench` runs it; HOLDFAST_BENCH_SCALE=0.1 makes it small, HOLDFAST_BENCH_ROUNDS sets the number of rounds (3).
It asserts nothing about time: it prints the table that docs/benchmarks.md holds.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench.data import build_volume, change_some
from tests.bench.measure import HEAD, Run, Versus, run, versus

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]

SCALE = float(os.environ.get("HOLDFAST_BENCH_SCALE", "1"))
ROUNDS = int(os.environ.get("HOLDFAST_BENCH_ROUNDS", "3"))
_HOLDFAST = Path(sys.executable).with_name("holdfast")


class Contest:
    """Two repositories beside each other, and one job at a time for both."""

    def __init__(self, root: Path, restic: str) -> None:
        self.root, self.volume = root, root / "volume"
        self.results: list[Versus] = []
        self._restic = restic
        (root / "password").write_text("bench")
        (root / "password").chmod(0o600)
        self._ours = {
            "HOLDFAST_REPOSITORY": str(root / "ours"),
            "HOLDFAST_PASSWORD_FILE": str(root / "password"),
        }
        self._theirs = {
            "RESTIC_REPOSITORY": str(root / "theirs"),
            "RESTIC_PASSWORD_FILE": str(root / "password"),
            "RESTIC_CACHE_DIR": str(root / "cache"),
        }

    def ours(self, *arguments: str) -> Run:
        return run([_HOLDFAST, *arguments], self._ours)

    def theirs(self, *arguments: str) -> Run:
        return run([self._restic, "--quiet", *arguments], self._theirs)

    def fresh(self, side: str) -> None:
        shutil.rmtree(self.root / side, ignore_errors=True)
        if side == "ours":
            self.ours("init")
        else:
            self.theirs("init", "--repository-version", "2")

    def knows(self, command: str, option: str) -> bool:
        """Whether this restic has an option."""
        said = subprocess.run([self._restic, command, "--help"], capture_output=True, text=True, check=True)
        return option in said.stdout

    def record(self, result: Versus) -> None:
        self.results.append(result)
        print(f"\n{HEAD}\n{result}", flush=True)


@pytest.fixture(scope="module")
def contest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Contest]:
    restic = shutil.which("restic")
    if restic is None:
        pytest.skip("restic is not installed: there is nobody to compare with")
    root = tmp_path_factory.mktemp("bench")
    contest = Contest(root, restic)
    build_volume(contest.volume, scale=SCALE)
    yield contest
    print("\n\n" + "\n".join([HEAD, *map(str, contest.results)]))
    shutil.rmtree(root)


def test_first_backup(contest: Contest) -> None:
    def ours(_: int) -> Run:
        contest.fresh("ours")
        return contest.ours("backup", "--path", str(contest.volume))

    def theirs(_: int) -> Run:
        contest.fresh("theirs")
        return contest.theirs("backup", str(contest.volume))

    contest.record(versus("first backup", ours, theirs, rounds=ROUNDS))


def test_unchanged_backup(contest: Contest) -> None:
    contest.record(
        versus(
            "unchanged backup",
            lambda _: contest.ours("backup", "--path", str(contest.volume)),
            lambda _: contest.theirs("backup", str(contest.volume)),
            rounds=ROUNDS,
        )
    )


def test_changed_backup(contest: Contest) -> None:
    def ours(number: int) -> Run:
        change_some(contest.volume, seed=number)
        return contest.ours("backup", "--path", str(contest.volume))

    contest.record(
        versus("a day's changes", ours, lambda _: contest.theirs("backup", str(contest.volume)), rounds=ROUNDS)
    )


def test_restore(contest: Contest) -> None:
    target = contest.root / "restored"

    def ours(_: int) -> Run:
        shutil.rmtree(target, ignore_errors=True)
        return contest.ours("restore", "latest", "--to", str(target))

    def theirs(_: int) -> Run:
        shutil.rmtree(target, ignore_errors=True)
        return contest.theirs("restore", "latest", "--target", str(target), *sparse)

    # Older versions write the holes of sparse files as zeros; newer ones are asked not to.
    sparse = ["--sparse"] if contest.knows("restore", "--sparse") else []
    contest.record(versus("restore", ours, theirs, rounds=ROUNDS))
    shutil.rmtree(target, ignore_errors=True)


def test_verify_all_data(contest: Contest) -> None:
    contest.record(
        versus(
            "verify, all data",
            lambda _: contest.ours("verify", "--read-data"),
            lambda _: contest.theirs("check", "--read-data"),
            rounds=ROUNDS,
        )
    )
