"""WAL against pgBackRest: shipped from a spool, pushed by it in its asynchronous way, and fetched again by both.

Fetching alternates, and a first round does not count: whoever writes a gigabyte first pays for memory that the kernel
(on a virtual machine: its host, too) has to find, and whoever comes second finds it ready.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.contest import ROUNDS, SCALE, Contest, set_archive_command
from tests.bench.measure import Run, run
from tests.support.clusters import server_user

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]

SEGMENTS = max(8, int(64 * SCALE))


def test_wal(contest: Contest) -> None:
    source = contest.folder / "segments"
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir()
    set_archive_command(contest.cluster, "'/bin/true'")
    _make_segments(contest, source)
    names = sorted(path.name for path in source.iterdir())[:SEGMENTS]
    amount = sum((source / name).stat().st_size for name in names) / 1e6
    for name in names:
        shutil.copy(source / name, contest.folder / "spool" / name)
    os.sync()
    job = f"{len(names)} WAL segments shipped"
    ours, inside = _ship(contest)
    contest.speed(job, "holdfast wal ship, its start with it", amount, [ours])
    contest.speed(job, "the same, as wal run does it: already started", amount, [inside])
    contest.speed(job, "pgBackRest, asynchronous", amount, [_push(contest, source, names)])
    fetched = [(*_fetch(contest, names), _get(contest, names)) for _ in range(ROUNDS + 1)][1:]
    job = f"{len(names)} WAL segments fetched"
    contest.speed(job, "holdfast, its start with it", amount, [whole for whole, _, _ in fetched])
    contest.speed(job, "the same, as a recovery does it: already started", amount, [inner for _, inner, _ in fetched])
    contest.speed(job, "pgBackRest, asynchronous", amount, [theirs for _, _, theirs in fetched])


def _ship(contest: Contest) -> tuple[Run, Run]:
    """The whole process, and the shipping in it by its own report."""
    done = contest.holdfast("wal", "ship", "--stack", "bench", "--json", output=contest.folder / "shipped.json")
    report = json.loads((contest.folder / "shipped.json").read_text())[0]
    assert not report["left"], report
    started = contest.holdfast("wal", "ship", "--stack", "bench")  # nothing is left: only the start
    return done, Run(report["seconds"], done.cpu - started.cpu, 0.0)


def _fetch(contest: Contest, names: list[str]) -> tuple[Run, Run]:
    """As a recovery does it before it writes anything: all at once. The whole process, and the fetching in it."""
    target, said = contest.folder / "fetched", contest.folder / "fetched.json"
    argv = [sys.executable, "-c", _PREFETCH, str(contest.folder / "holdfast.yaml"), str(target), *names]
    done = run(argv, {}, output=said)
    assert len(list(target.iterdir())) == len(names)
    shutil.rmtree(target)
    wall, cpu = json.loads(said.read_text())
    return done, Run(wall, cpu, 0.0)


_PREFETCH = """
import json, os, sys, time
from holdfast.config.loading import load
from holdfast.model.wal import parse_wal_name
from holdfast.repository.wal_archive import WalArchive, systems
from holdfast.services.access import open_repository_at
from holdfast.services.memory import settle_memory
from holdfast.services.stacks import access_of
from holdfast.services.wal_restore import bring_all
settle_memory()
with open_repository_at(access_of(load(sys.argv[1]))) as repository:
    archive = WalArchive(repository.store, repository.key, next(systems(repository.store)))
    os.mkdir(sys.argv[2])
    wall, cpu = time.monotonic(), time.process_time()
    bring_all(archive, [(parse_wal_name(name), name) for name in sys.argv[3:]], sys.argv[2])
    print(json.dumps([time.monotonic() - wall, time.process_time() - cpu]))
"""


def _get(contest: Contest, names: list[str]) -> Run:
    """One archive-get for each, as a restore_command: the first starts a process that fetches ahead into a spool."""
    wal = contest.folder / "push"
    for name in names:
        (wal / "pg_wal" / name).unlink()
    done = contest.pgbackrest_each(
        [["--archive-async", f"--pg1-path={wal}", "archive-get", name, str(wal / "pg_wal" / name)] for name in names]
    )
    assert all((wal / "pg_wal" / name).exists() for name in names)
    return done


def _make_segments(contest: Contest, target: Path) -> None:
    wal = contest.cluster.data / "pg_wal"
    seen: set[str] = set()
    while len(seen) < SEGMENTS:
        contest.pgbench("-n", "-c", "4", "-T", "3")
        contest.cluster.sql("SELECT pg_switch_wal()")
        current = contest.cluster.sql("SELECT pg_walfile_name(pg_current_wal_lsn())")
        for path in sorted(wal.iterdir()):
            fresh = len(path.name) == 24 and path.name < current and path.name not in seen
            if fresh and contest.cluster.sql(f"SELECT '{path.name}' >= '{min(seen, default='')}'") == "t":
                shutil.copy(path, target / path.name)
                seen.add(path.name)


def _push(contest: Contest, source: Path, names: list[str]) -> Run:
    """From the first push to the last object in the repository."""
    owner = server_user()
    wal = contest.folder / "push" / "pg_wal"
    shutil.rmtree(wal.parent, ignore_errors=True)
    (wal / "archive_status").mkdir(parents=True)
    for name in ("PG_VERSION", "global"):
        copied = contest.cluster.data / name
        (shutil.copytree if copied.is_dir() else shutil.copy)(copied, wal.parent / name)
    for name in names:
        shutil.copy(source / name, wal / name)
        (wal / "archive_status" / f"{name}.ready").touch()
    subprocess.run(["chown", "-R", f"{owner.pw_uid}:{owner.pw_gid}" if owner else "0", str(wal.parent)], check=True)
    os.sync()
    return contest.pgbackrest_each(
        [["--archive-async", f"--pg1-path={wal.parent}", "archive-push", str(wal / name)] for name in names]
    )
