"""Base backups against pgBackRest (2 processes, zstd) and `pg_basebackup | zstd`, same cluster, same run.

`make bench` runs it; HOLDFAST_BENCH_SCALE=0.1 makes it small, HOLDFAST_BENCH_ROUNDS sets the number of rounds (3).
It asserts nothing about time: it prints the tables that docs/benchmarks.md holds.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.bench.contest import ROUNDS, Contest
from tests.bench.measure import Run, run

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]


def test_full_backup(contest: Contest) -> None:
    ours, theirs, plain = [], [], []
    for _ in range(ROUNDS):
        shutil.rmtree(contest.folder / "holdfast")
        contest.holdfast("init")
        ours.append(contest.grown("holdfast", lambda: contest.holdfast("backup", "--stack", "bench")))
        theirs.append(contest.grown("pgbackrest", lambda: contest.pgbackrest(*_beta(contest), "backup", "--type=full")))
        plain.append((_basebackup(contest), (contest.folder / "plain.zst").stat().st_size / (1 << 20)))
    contest.record("full backup", "holdfast", ours)
    contest.record("full backup", "pgBackRest", theirs)
    contest.record("full backup", "pg_basebackup, zstd -1", plain)


def test_second_backup(contest: Contest) -> None:
    ours, theirs = [], []
    for number in range(ROUNDS):
        contest.change_pages(number)
        ours.append(contest.grown("holdfast", lambda: contest.holdfast("backup", "--stack", "bench")))
        theirs.append(contest.grown("pgbackrest", lambda: contest.pgbackrest(*_beta(contest), "backup", "--type=incr")))
    contest.record("second, 1.5 % of pages changed", "holdfast", ours)
    contest.record("second, 1.5 % of pages changed", "pgBackRest, block incremental", theirs)


def test_restore(contest: Contest) -> None:
    ours, theirs = [], []
    for _ in range(ROUNDS):
        target = contest.folder / "restored"
        ours.append((contest.holdfast("restore", "latest", "--source", "postgres:db", "--to", str(target)), 0.0))
        shutil.rmtree(target)
        other = contest.cluster.folder / "restored"
        theirs.append(
            (contest.pgbackrest(*_beta(contest), "restore", f"--pg1-path={other}", "--archive-mode=off"), 0.0)
        )
        shutil.rmtree(other)
    contest.record("restore", "holdfast", ours)
    contest.record("restore", "pgBackRest", theirs)


def _beta(contest: Contest) -> list[str]:
    """Block incremental was a beta feature in 2.45."""
    return ["--beta"] if contest.peer.version == "2.45" else []


def _basebackup(contest: Contest) -> Run:
    tool = Path(contest.cluster.programs) / "pg_basebackup"
    options = f"-h 127.0.0.1 -p {contest.cluster.port} -U postgres -D - -Ft -X none -c fast --no-manifest"
    line = f"{tool} {options} 2>/dev/null | zstd -q -1 -T2 -f -o {contest.folder / 'plain.zst'}"
    return run(["bash", "-o", "pipefail", "-c", line], {})
