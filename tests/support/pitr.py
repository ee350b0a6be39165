"""A cluster whose WAL is archived into a repository: what tests of recovery do with it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from holdfast.config.loading import load
from holdfast.config.models import Config
from holdfast.model.base import RecoveryTarget, TargetKind
from holdfast.model.wal import Lsn
from holdfast.repository.repository import Repository
from holdfast.services.access import open_repository_at
from holdfast.services.backup import BackupReport
from holdfast.services.pitr import PitrReport, restore_pitr
from holdfast.services.pitr_plan import plan_pitr
from holdfast.services.stacks import access_of, back_up
from holdfast.services.wal import WalSource, wal_sources
from holdfast.services.wal_run import WalRunner
from holdfast.services.wal_status import WalStatus, wal_status
from tests.support.clusters import Cluster, open_up

LATEST = RecoveryTarget(TargetKind.LATEST)


def now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Site:
    """A cluster whose WAL is archived into a repository by a loop that runs."""

    cluster: Cluster
    folder: Path
    via: str = "stream"
    more: str = ""
    repository: str = ""
    config: Config = field(init=False)
    gaps: list[str] = field(default_factory=list)

    def configure(self, cluster: Cluster, spool: str = "spool") -> None:
        """Point the configuration at a server."""
        self.cluster = cluster
        password = self.folder / "password"
        password.write_text("correct horse")
        password.chmod(0o600)
        document = self.folder / "holdfast.yaml"
        document.write_text(
            f"""
version: 1
repository: {{url: "{self.repository or self.folder / "repository"}", password_file: {password}}}
stacks:
  shop:
    postgres:
      - name: db
        host: 127.0.0.1
        port: {cluster.port}
        method: base
        {self.more}
        wal: {{spool: {self.folder / spool}, via: {self.via}, partial_seconds: 1}}
"""
        )
        self.reload()

    def reload(self) -> None:
        """Read the configuration anew."""
        self.config = load(str(self.folder / "holdfast.yaml"))

    @property
    def source(self) -> WalSource:
        return wal_sources(self.config, ["shop"])[0]

    def open(self) -> Repository:
        return open_repository_at(access_of(self.config))

    @contextlib.contextmanager
    def archiving(self, look: float = 0.5, clock: Callable[[], datetime] | None = None) -> Iterator[WalRunner]:
        """`holdfast wal run`, for the time of the block; what is left is shipped at its end."""
        stop = threading.Event()
        with self.open() as repository:
            runner = WalRunner(
                self.config,
                repository,
                self.source,
                on_gap=lambda _, found: self.gaps.extend(finding.name for finding in found),
                pause=0.1,
                look=look,
                now=clock or now,
            )
            thread = threading.Thread(target=runner.run, args=(stop,))
            thread.start()
            try:
                yield runner
            finally:
                stop.set()
                thread.join()

    def back_up(self) -> BackupReport:
        with self.open() as repository:
            return back_up(self.config, repository, "shop", now=now)

    def status(self) -> WalStatus:
        with self.open() as repository:
            return wal_status(self.config, repository, self.source, now=now())

    def caught_up(self) -> None:
        """Wait until everything that the server wrote so far is archived."""
        self.cluster.sql("SELECT pg_current_xact_id()")
        lsn = Lsn.parse(self.cluster.sql("SELECT pg_current_wal_insert_lsn()"))
        if self.via == "archive":
            self.cluster.sql("SELECT pg_switch_wal()")
        deadline = time.monotonic() + 30
        with self.open() as repository:  # once: a password must not be guessed, and takes its time
            while time.monotonic() < deadline:
                status = wal_status(self.config, repository, self.source, now=now())
                end = status.exposure.archived_to
                if end is not None and Lsn.parse(end) >= lsn:
                    return
                time.sleep(0.1)
        raise AssertionError(status)

    def start(self, folder: Path) -> Cluster:
        """Start what was restored into `data` of a folder, and wait until it is promoted."""
        open_up(folder)
        restored = Cluster(self.cluster.programs, folder, folder / "data").start()
        restored.wait_recovered()
        return restored

    def restore(self, name: str, target: RecoveryTarget) -> tuple[PitrReport, Cluster]:
        """Restore, start, and wait until it is promoted."""
        folder = self.folder / name
        folder.mkdir()
        with self.open() as repository:
            report = restore_pitr(repository, plan_pitr(repository, "shop", "db", target), str(folder / "data"))
        return report, self.start(folder)


MakeSite = Callable[..., Site]
"""Makes a site: `initdb`'s arguments, `settings`, `via`, `ready`."""


def at(moment: datetime, timeline: int | None = None) -> RecoveryTarget:
    return RecoveryTarget(TargetKind.TIME, time=moment, timeline=timeline)


def server_time(cluster: Cluster) -> datetime:
    return datetime.fromisoformat(cluster.sql("SELECT to_json(clock_timestamp())#>>'{}'")).astimezone(UTC)


def fill(cluster: Cluster, rows: int = 20_000) -> None:
    """Several segments of WAL."""
    cluster.sql("CREATE TABLE IF NOT EXISTS filler (n int, x text)")
    cluster.sql(f"INSERT INTO filler SELECT g, md5(g::text) FROM generate_series(1, {rows}) g")  # noqa: S608  a number of ours
