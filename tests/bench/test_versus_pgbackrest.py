"""Base backups and WAL against pgBackRest (2 processes, zstd) and `pg_basebackup | zstd`, same cluster, same run.

`make bench` runs it; HOLDFAST_BENCH_SCALE=0.1 makes it small, HOLDFAST_BENCH_ROUNDS sets the number of rounds (3).
It asserts nothing about time: it prints the tables that docs/benchmarks.md holds.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from deployments.local import peers
from deployments.local.machine import CannotProvide
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
    peer: peers.Peer
    lines: list[str] = field(default_factory=list)

    def holdfast(self, *arguments: str, output: Path = Path(os.devnull)) -> Run:
        return run([_HOLDFAST, *arguments], {"HOLDFAST_CONFIG": str(self.folder / "holdfast.yaml")}, output=output)

    def pgbackrest(self, *arguments: str) -> Run:
        """Run it as the server's user, as it wants."""
        return run(self.command(*arguments), {})

    def command(self, *arguments: str) -> list[str]:
        """The command line for that."""
        owner = server_user()
        as_user = ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"] if owner else []
        quiet = ("--log-level-console=off", "--log-level-stderr=error")
        return [
            *as_user,
            self.peer.path,
            f"--config={self.folder / 'pgbackrest.conf'}",
            "--stanza=bench",
            *quiet,
            *arguments,
        ]

    def pgbackrest_each(self, commands: list[list[str]]) -> Run:
        """Run it many times, with the processes that it leaves at work in the background: their time counts, too."""
        return run([sys.executable, "-c", _EACH, json.dumps([self.command(*command) for command in commands])], {})

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

    def speed(self, job: str, who: str, amount: float, done: Run) -> None:
        """A row of MB/s. `amount` in MB."""
        peak = f"{done.peak:.0f} MiB" if done.peak else ""
        self.lines.append(f"| {job} | {who} | {amount / done.wall:.0f} MB/s | {done.cpu:.1f} s | {peak} | |")
        print(f"\n{self.lines[-1]}", flush=True)

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
    try:
        peers.zstd()
        peer = peers.pgbackrest()
    except CannotProvide as error:
        pytest.skip(f"there is nobody to compare with: {error}")
    programs = programs_of(15)
    with open_folder() as folder, on_path(programs):
        for name in ("pgbackrest", "spool", "pgbackrest-spool"):
            (folder / name).mkdir(mode=0o777)
            (folder / name).chmod(0o777)
        command = f"{peer.path} --config={folder}/pgbackrest.conf --stanza=bench archive-push %p"
        cluster = Cluster.make(
            programs,
            folder / "server",
            "--data-checksums",
            settings=f"archive_mode = on\narchive_command = '{command}'\n{_SETTINGS}",
        ).start()
        made = Contest(cluster, folder, peer)
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
archive-get-queue-max=1GiB
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


def test_wal(contest: Contest) -> None:
    """Segments of real load: shipped from a spool, pushed by pgBackRest in its asynchronous way, and fetched again."""
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
    ours, inside = _ship(contest)
    contest.speed(f"{len(names)} WAL segments shipped", "holdfast wal ship, its start with it", amount, ours)
    contest.speed(f"{len(names)} WAL segments shipped", "the same, as wal run does it: already started", amount, inside)
    contest.speed(
        f"{len(names)} WAL segments shipped", "pgBackRest, asynchronous", amount, _push(contest, source, names)
    )
    contest.speed(f"{len(names)} WAL segments fetched", "holdfast", amount, _fetch(contest, names))
    contest.speed(f"{len(names)} WAL segments fetched", "pgBackRest, asynchronous", amount, _get(contest, names))


def _ship(contest: Contest) -> tuple[Run, Run]:
    """The whole process, and the shipping in it by its own report."""
    done = contest.holdfast("wal", "ship", "--stack", "bench", "--json", output=contest.folder / "shipped.json")
    report = json.loads((contest.folder / "shipped.json").read_text())[0]
    assert not report["left"], report
    started = contest.holdfast("wal", "ship", "--stack", "bench")  # nothing is left: only the start
    return done, Run(report["seconds"], done.cpu - started.cpu, 0.0)


def _fetch(contest: Contest, names: list[str]) -> Run:
    """As a recovery does it before it writes anything: all at once."""
    target = contest.folder / "fetched"
    done = run([sys.executable, "-c", _PREFETCH, str(contest.folder / "holdfast.yaml"), str(target), *names], {})
    assert len(list(target.iterdir())) == len(names)
    shutil.rmtree(target)
    return done


_PREFETCH = """
import os, sys
from holdfast.config.loading import load
from holdfast.model.wal import parse_wal_name
from holdfast.repository.wal_archive import WalArchive, systems
from holdfast.services.access import open_repository_at
from holdfast.services.stacks import access_of
from holdfast.services.wal_restore import bring_all
with open_repository_at(access_of(load(sys.argv[1]))) as repository:
    archive = WalArchive(repository.store, repository.key, next(systems(repository.store)))
    os.mkdir(sys.argv[2])
    bring_all(archive, [(parse_wal_name(name), name) for name in sys.argv[3:]], sys.argv[2])
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


_EACH = """
import ctypes, json, os, subprocess, sys
ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: what is left at work becomes our child
for command in json.loads(sys.argv[1]):
    subprocess.run(command, check=True)
try:
    while True:
        os.wait()
except ChildProcessError:
    pass
"""


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


def _beta(contest: Contest) -> list[str]:
    """Block incremental was a beta feature in 2.45."""
    return ["--beta"] if contest.peer.version == "2.45" else []


def _basebackup(contest: Contest) -> Run:
    tool = Path(contest.cluster.programs) / "pg_basebackup"
    options = f"-h 127.0.0.1 -p {contest.cluster.port} -U postgres -D - -Ft -X none -c fast --no-manifest"
    line = f"{tool} {options} 2>/dev/null | zstd -q -1 -T2 -f -o {contest.folder / 'plain.zst'}"
    return run(["bash", "-o", "pipefail", "-c", line], {})


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
