"""Base backups and WAL against pgBackRest (2 processes, zstd) and `pg_basebackup | zstd`, same cluster, same run.

`make bench` runs it; HOLDFAST_BENCH_SCALE=0.1 makes it small, HOLDFAST_BENCH_ROUNDS sets the number of rounds (3).
It asserts nothing about time: it prints the tables that docs/benchmarks.md holds.
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.bench.measure import Run, run
from tests.support.clusters import Cluster, on_path, open_folder, programs_of, server_user

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]

SCALE = float(os.environ.get("HOLDFAST_BENCH_SCALE", "1"))
ROUNDS = int(os.environ.get("HOLDFAST_BENCH_ROUNDS", "3"))
SEGMENTS = max(8, int(64 * SCALE))
_SETTINGS = "max_wal_size = '8GB'\nshared_buffers = '256MB'\nautovacuum = off\nwal_keep_size = '4GB'"
_HOLDFAST = Path(sys.executable).with_name("holdfast")
HEAD = "| job | who | wall | CPU | peak memory | repository grew by |\n|---|---|---|---|---|---|"


@dataclass
class Contest:
    """One cluster; two repositories beside each other."""

    cluster: Cluster
    folder: Path
    lines: list[str] = field(default_factory=list)

    def holdfast(self, *arguments: str) -> Run:
        return run([_HOLDFAST, *arguments], {"HOLDFAST_CONFIG": str(self.folder / "holdfast.yaml")})

    def pgbackrest(self, *arguments: str) -> Run:
        """Run it as the server's user, as it wants."""
        owner = server_user()
        as_user = ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"] if owner else []
        config = f"--config={self.folder / 'pgbackrest.conf'}"
        return run(
            [
                *as_user,
                "pgbackrest",
                config,
                "--stanza=bench",
                "--log-level-console=off",
                "--log-level-stderr=error",
                *arguments,
            ],
            {},
        )

    def pgbench(self, *arguments: str) -> None:
        """Fill, or load."""
        where = ["-h", "127.0.0.1", "-p", str(self.cluster.port), "-U", "postgres"]
        self.cluster.run("pgbench", *arguments, *where, "postgres")

    def grown(self, repository: str, work: Callable[[], Run]) -> tuple[Run, float]:
        """A run, and by how many MiB a repository grew."""
        before = _size(self.folder / repository)
        done = work()
        return done, (_size(self.folder / repository) - before) / (1 << 20)

    def record(self, job: str, who: str, results: list[tuple[Run, float]]) -> None:
        walls = statistics.median(result.wall for result, _ in results)
        cpu = statistics.median(result.cpu for result, _ in results)
        peak = max(result.peak for result, _ in results)
        grew = statistics.median(grew for _, grew in results)
        self.lines.append(f"| {job} | {who} | {walls:.2f} s | {cpu:.1f} s | {peak:.0f} MiB | {grew:.1f} MiB |")
        print(f"\n{HEAD}\n{self.lines[-1]}", flush=True)

    def change_pages(self, seed: int) -> None:
        """Rewrite 1.5 % of the table's pages at random."""
        chance = random.Random(seed)
        pages = int(self.cluster.sql("SELECT relpages FROM pg_class WHERE relname = 'pgbench_accounts'"))
        chosen = ",".join(str(page) for page in chance.sample(range(pages), max(1, pages * 15 // 1000)))
        self.cluster.sql(
            f"UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE ctid IN "  # noqa: S608  numbers
            f"(SELECT format('(%s,1)', p)::tid FROM unnest(ARRAY[{chosen}]) p)"
        )
        self.cluster.sql("CHECKPOINT")


@pytest.fixture(scope="module")
def contest() -> Iterator[Contest]:
    if shutil.which("pgbackrest") is None:
        pytest.skip("pgbackrest is not installed: there is nobody to compare with")
    programs = programs_of(15)
    with open_folder() as folder, on_path(programs):
        for name in ("pgbackrest", "spool", "pgbackrest-spool"):
            (folder / name).mkdir(mode=0o777)
            (folder / name).chmod(0o777)
        command = f"pgbackrest --config={folder}/pgbackrest.conf --stanza=bench archive-push %p"
        cluster = Cluster.make(
            programs,
            folder / "server",
            "--data-checksums",
            settings=f"archive_mode = on\narchive_command = '{command}'\n{_SETTINGS}",
        ).start()
        made = Contest(cluster, folder)
        configure(made)
        made.pgbackrest("stanza-create")
        made.holdfast("init")
        archive(cluster, "'/bin/true'")  # what fills the tables is nobody's WAL
        made.pgbench("-i", "-q", "-s", str(max(1, int(100 * SCALE))))
        cluster.sql("ALTER TABLE pgbench_accounts SET (fillfactor = 90)")
        cluster.sql("UPDATE pgbench_accounts SET filler = md5(random()::text) || md5(random()::text)")
        cluster.sql("VACUUM (FULL, FREEZE, ANALYZE) pgbench_accounts")
        cluster.sql("CHECKPOINT")
        archive(cluster, "DEFAULT")
        yield made
        print("\n\n" + "\n".join([HEAD, *made.lines]))
        cluster.stop()


def archive(cluster: Cluster, command: str) -> None:
    """Set archive_command."""
    cluster.sql(f"ALTER SYSTEM SET archive_command = {command}")
    cluster.sql("SELECT pg_reload_conf()")


def configure(contest: Contest) -> None:
    folder, cluster = contest.folder, contest.cluster
    (folder / "password").write_text("bench")
    (folder / "password").chmod(0o600)
    (folder / "holdfast.yaml").write_text(
        f"""
version: 1
repository: {{url: {folder / "holdfast"}, password_file: {folder / "password"}, compression: 1}}
stacks:
  bench:
    postgres:
      - name: db
        host: 127.0.0.1
        port: {cluster.port}
        method: base
        compare: none
        wal: {{spool: {folder / "spool"}, via: archive}}
"""
    )
    (folder / "pgbackrest.conf").write_text(
        f"""
[global]
repo1-path={folder}/pgbackrest
repo1-block=y
repo1-bundle=y
repo1-cipher-type=aes-256-cbc
repo1-cipher-pass=bench
compress-type=zst
compress-level=1
process-max=2
start-fast=y
log-path={folder}/pgbackrest-spool
log-level-file=off
spool-path={folder}/pgbackrest-spool
lock-path={folder}/pgbackrest-spool
archive-check=n
[bench]
pg1-path={cluster.data}
pg1-port={cluster.port}
pg1-socket-path={cluster.folder}
pg1-user=postgres
"""
    )


def test_full_backup(contest: Contest) -> None:
    ours, theirs, plain = [], [], []
    for _ in range(ROUNDS):
        shutil.rmtree(contest.folder / "holdfast")
        contest.holdfast("init")
        ours.append(contest.grown("holdfast", lambda: contest.holdfast("backup", "--stack", "bench")))
        theirs.append(contest.grown("pgbackrest", lambda: contest.pgbackrest(*_beta(), "backup", "--type=full")))
        plain.append((_basebackup(contest), (contest.folder / "plain.zst").stat().st_size / (1 << 20)))
    contest.record("full backup", "holdfast", ours)
    contest.record("full backup", "pgBackRest", theirs)
    contest.record("full backup", "pg_basebackup, zstd -1", plain)


def test_second_backup(contest: Contest) -> None:
    ours, theirs = [], []
    for number in range(ROUNDS):
        contest.change_pages(number)
        ours.append(contest.grown("holdfast", lambda: contest.holdfast("backup", "--stack", "bench")))
        theirs.append(contest.grown("pgbackrest", lambda: contest.pgbackrest(*_beta(), "backup", "--type=incr")))
    contest.record("second, 1.5 % of pages changed", "holdfast", ours)
    contest.record("second, 1.5 % of pages changed", "pgBackRest, block incremental", theirs)


def test_restore(contest: Contest) -> None:
    ours, theirs = [], []
    for _ in range(ROUNDS):
        target = contest.folder / "restored"
        ours.append((contest.holdfast("restore", "latest", "--source", "postgres:db", "--to", str(target)), 0.0))
        shutil.rmtree(target)
        other = contest.cluster.folder / "restored"
        theirs.append((contest.pgbackrest(*_beta(), "restore", f"--pg1-path={other}", "--archive-mode=off"), 0.0))
        shutil.rmtree(other)
    contest.record("restore", "holdfast", ours)
    contest.record("restore", "pgBackRest", theirs)


def test_wal(contest: Contest) -> None:
    """Segments of real load, shipped from a spool; pgBackRest pushes the same ones in its asynchronous way."""
    source = contest.folder / "segments"
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir()
    archive(contest.cluster, "'/bin/true'")
    _make_segments(contest, source)
    names = sorted(path.name for path in source.iterdir())[:SEGMENTS]
    amount = sum((source / name).stat().st_size for name in names) / 1e6
    for name in names:
        shutil.copy(source / name, contest.folder / "spool" / name)
    os.sync()
    ours = contest.holdfast("wal", "ship", "--stack", "bench")
    theirs = _push_async(contest, source, names)
    contest.lines.append(
        f"| {len(names)} WAL segments shipped | holdfast, pgBackRest asynchronous | {amount / ours.wall:.0f} and "
        f"{amount / theirs:.0f} MB/s | {ours.cpu:.1f} s | {ours.peak:.0f} MiB | |"
    )
    print(f"\n{contest.lines[-1]}", flush=True)


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


def _push_async(contest: Contest, source: Path, names: list[str]) -> float:
    """From the first push to the last object in the repository, seconds."""
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
    started = time.monotonic()
    for name in names:
        contest.pgbackrest("--archive-async", f"--pg1-path={wal.parent}", "archive-push", str(wal / name))
    return time.monotonic() - started


def _beta() -> list[str]:
    """Block incremental was a beta feature in 2.45."""
    said = subprocess.run(["pgbackrest", "version"], capture_output=True, text=True, check=True).stdout
    return ["--beta"] if said.split()[-1] == "2.45" else []


def _basebackup(contest: Contest) -> Run:
    tool = Path(contest.cluster.programs) / "pg_basebackup"
    options = f"-h 127.0.0.1 -p {contest.cluster.port} -U postgres -D - -Ft -X none -c fast --no-manifest"
    line = f"{tool} {options} 2>/dev/null | zstd -q -1 -T2 -f -o {contest.folder / 'plain.zst'}"
    return run(["bash", "-o", "pipefail", "-c", line], {})


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
