"""A PostgreSQL cluster that Holdfast and pgBackRest (2 processes, zstd) both back up, each into its own repository."""

from __future__ import annotations

import json
import os
import random
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from deployments.local import peers
from deployments.local.machine import CannotProvide
from tests.bench.measure import Run, median, run
from tests.support.clusters import Cluster, on_path, open_folder, programs_of, server_user

SCALE = float(os.environ.get("HOLDFAST_BENCH_SCALE", "1"))
ROUNDS = int(os.environ.get("HOLDFAST_BENCH_ROUNDS", "3"))
_SETTINGS = "max_wal_size = '8GB'\nshared_buffers = '256MB'\nautovacuum = off\nwal_keep_size = '4GB'"
_HOLDFAST = Path(sys.executable).with_name("holdfast")
HEAD = "| job | who | wall | CPU | peak memory | repository grew by |\n|---|---|---|---|---|---|"
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

    def speed(self, job: str, who: str, amount: float, runs: Sequence[Run]) -> None:
        """A row of MB/s. `amount` in MB."""
        done = median(runs)
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


@contextmanager
def made_contest() -> Iterator[Contest]:
    """One cluster with filled tables, and both repositories; skips where there is nobody to compare with."""
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
        set_archive_command(cluster, "'/bin/true'")  # what fills the tables is nobody's WAL
        made.pgbench("-i", "-q", "-s", str(max(1, int(100 * SCALE))))
        cluster.sql("ALTER TABLE pgbench_accounts SET (fillfactor = 90)")
        cluster.sql("UPDATE pgbench_accounts SET filler = md5(random()::text) || md5(random()::text)")
        cluster.sql("VACUUM (FULL, FREEZE, ANALYZE) pgbench_accounts")
        cluster.sql("CHECKPOINT")
        set_archive_command(cluster, "DEFAULT")
        yield made
        print("\n\n" + "\n".join([HEAD, *made.lines]))
        cluster.stop()


def set_archive_command(cluster: Cluster, command: str) -> None:
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


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
