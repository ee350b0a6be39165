"""Base backups, WAL and recovery on real servers of every major version."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from holdfast.errors import TargetOutOfRange
from holdfast.model.base import RecoveryTarget, TargetKind
from holdfast.model.snapshot import restore_points
from holdfast.model.wal import Lsn
from holdfast.services.access import init_repository_at
from holdfast.services.drill import drill
from holdfast.services.pitr_plan import plan_pitr
from holdfast.services.recoverable import recoverable_points
from holdfast.services.stacks import access_of
from holdfast.services.wal_setup import setup
from tests.support.clusters import Cluster, has_amcheck, on_path, open_folder, programs_of
from tests.support.pitr import Site, at, now, server_time

UNCHECKED = "structure not checked: the server has no amcheck extension"


@pytest.fixture(scope="module", params=[14, 15, 16, 17, 18])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """A server that is set up, with a base backup in a repository. Segments of 1 MiB on one of them."""
    programs = programs_of(request.param)
    arguments = ["--wal-segsize=1"] if request.param == 16 else []
    with open_folder() as folder, on_path(programs):
        cluster = Cluster.make(programs, folder / "server", *arguments).start()
        made = Site(cluster, folder)
        made.configure(cluster)
        init_repository_at(access_of(made.config)).store.close()
        cluster.sql(
            "CREATE TABLE t (n int PRIMARY KEY, note text);"
            "INSERT INTO t SELECT g, 'first' FROM generate_series(1, 1000) g"
        )
        cluster.sql("CREATE UNLOGGED TABLE u AS SELECT 1 AS n")
        assert not setup(made.config, made.source).ready
        assert setup(made.config, made.source, apply=True).ready
        try:
            yield made
        finally:
            made.cluster.stop()


def test_recovery_to_an_instant(site: Site, started: Callable[[Cluster], Cluster]) -> None:
    cluster = site.cluster
    with site.archiving():
        site.back_up()
        cluster.sql("INSERT INTO t VALUES (1001, 'kept')")
        time.sleep(0.05)
        instant = server_time(cluster)
        time.sleep(0.05)
        cluster.sql("INSERT INTO t VALUES (1002, 'lost')")
        lsn = Lsn.parse(cluster.sql("SELECT pg_current_wal_insert_lsn()"))
        cluster.sql("SELECT pg_create_restore_point('here')")
        cluster.sql("INSERT INTO t VALUES (1003, 'last')")
        site.caught_up()
    status = site.status()
    # What the disk of this machine has left is another matter.
    assert [finding.name for finding in status.findings if "disk" not in finding.name] == ["slot-inactive"]
    assert status.bases[-1].recoverable
    with site.open() as repository:
        assert recoverable_points(repository, restore_points(repository.snapshots().snapshots)) == {
            status.bases[-1].point: True
        }

    _, restored = site.restore("by-time", at(instant))
    started(restored)
    assert restored.sql("SELECT max(n) FROM t") == "1001"
    assert restored.sql("SELECT count(*) FROM u") == "0"
    assert restored.sql("SHOW archive_mode") == "off"
    restored.stop()
    _, restored = site.restore("by-lsn", RecoveryTarget(TargetKind.LSN, lsn=lsn))
    started(restored)
    assert restored.sql("SELECT max(n) FROM t") == "1002"
    restored.stop()
    _, restored = site.restore("by-name", RecoveryTarget(TargetKind.NAME, text="here"))
    started(restored)
    assert restored.sql("SELECT max(n) FROM t") == "1002"
    restored.stop()
    _, restored = site.restore("to-the-end", RecoveryTarget(TargetKind.LATEST))
    started(restored)
    assert restored.sql("SELECT max(n) FROM t") == "1003"
    assert not (restored.data / "holdfast_wal").exists()
    restored.stop()


def test_what_cannot_be_reached_is_refused_with_the_range(site: Site) -> None:
    with site.open() as repository:
        for moment in (datetime(2020, 1, 1, tzinfo=UTC), now()):
            with pytest.raises(TargetOutOfRange, match=r"wanted from \d{4}-.* to before \d{4}-"):
                plan_pitr(repository, "shop", "db", at(moment))


def test_a_drill_proves_it(site: Site) -> None:
    with site.open() as repository:
        proof = drill(site.config, repository, "shop", now=now)
    assert proof.passed, proof
    compared = proof.sources[0].compared
    assert "canary committed" in compared
    assert "1 database, 1 table, 1,000 rows, contents digested" in compared
    assert proof.sources[0].recoverable_until is not None
    checked = "structure checked by pg_amcheck" if has_amcheck(site.cluster.programs) else UNCHECKED
    assert checked in compared


@pytest.fixture
def started() -> Iterator[Callable[[Cluster], Cluster]]:
    """Remembers servers, and ends them after the test."""
    known: list[Cluster] = []

    def remember(cluster: Cluster) -> Cluster:
        known.append(cluster)
        return cluster

    yield remember
    for cluster in known:
        cluster.stop()
        shutil.rmtree(cluster.folder, ignore_errors=True)
