"""The monitor and random drills on a real server whose WAL is archived, and then is not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from holdfast.services.access import init_repository_at
from holdfast.services.drill import choose_point, drill, drill_source
from holdfast.services.monitor import watch
from holdfast.services.report import MonitorReport
from holdfast.services.stacks import access_of
from holdfast.services.wal_setup import setup
from tests.support.clusters import Cluster, on_path, open_folder, programs_of
from tests.support.pitr import Site


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    programs = programs_of(16)
    with open_folder() as folder, on_path(programs), pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOLDFAST_STATE", str(folder / "state"))
        cluster = Cluster.make(programs, folder / "server", "--wal-segsize=1").start()
        made = Site(cluster, folder)
        made.configure(cluster)
        document = folder / "holdfast.yaml"
        document.write_text(document.read_text().replace("  shop:\n", "  shop:\n    monitor: {wal_behind: 2s}\n"))
        made.reload()
        init_repository_at(access_of(made.config)).store.close()
        assert setup(made.config, made.source, apply=True).ready
        try:
            yield made
        finally:
            cluster.stop()


def look(site: Site) -> MonitorReport:
    return watch(site.config, "host-a", now=lambda: datetime.now(UTC))


def test_a_drill_recovers_to_any_instant_and_tells_the_rpo_to_the_second(site: Site) -> None:
    check = "{name: beats, postgres: db, query: 'SELECT count(*) FROM beat', expect: '4'}"
    document = site.folder / "holdfast.yaml"
    document.write_text(
        document.read_text().replace("    postgres:\n", f"    checks: {{sql: [{check}]}}\n    postgres:\n")
    )
    site.reload()
    site.cluster.sql("CREATE TABLE beat (at timestamptz DEFAULT clock_timestamp())")
    with site.archiving(look=100):
        site.back_up()
        for _ in range(4):
            site.cluster.sql("INSERT INTO beat DEFAULT VALUES")
            time.sleep(0.1)
        before = datetime.now(UTC)
        site.caught_up()  # a heartbeat: it commits, and changes nothing
        last = datetime.now(UTC)
    time.sleep(1.5)
    with site.open() as repository:
        point = choose_point(repository, "shop")
        counts = {}
        for share in (0.0, 0.999):
            proof = drill_source(site.config, repository, point.snapshots[0], share=share)
            assert proof.instant is not None
            assert proof.reached is not None
            assert proof.recoverable_until is not None
            assert proof.reached <= proof.instant < proof.recoverable_until
            assert proof.problems == ()
            counts[share] = proof.checks[0].found
        assert counts == {0.0: "0", 0.999: "4"}
        proven = drill(site.config, repository, "shop", "random", now=lambda: datetime.now(UTC))
    assert proven.sources[0].instant is not None
    assert "recovered over" in proven.sources[0].compared
    until = proven.sources[0].recoverable_until
    assert until is not None
    assert before <= until <= last
    assert proven.rpo_seconds == pytest.approx((proven.started - until).total_seconds())
    assert proven.rpo_seconds >= 1.5


def test_wal_that_is_behind_is_told_once_and_its_end_once(site: Site) -> None:
    with site.archiving():
        site.back_up()
        site.cluster.sql("CREATE TABLE t (n int)")
        site.caught_up()
        # What the disk of this machine has left is another matter.
        assert not {f.kind for f in look(site).findings if f.kind.startswith("wal-")} - {"wal-disk-short"}
    # Nobody receives any more, and production writes on.
    site.cluster.sql("INSERT INTO t SELECT generate_series(1, 1000)")
    time.sleep(2.5)
    report = look(site)
    started = {f.kind: f for f in report.started}
    assert report.measures["wal-lost-bytes shop db"] > 0
    assert report.measures["wal-held-bytes shop db"] > 0
    assert report.measures["wal-disk-free-bytes shop db"] < report.measures["wal-disk-total-bytes shop db"]
    written = (site.folder / "state" / "holdfast.prom").read_text()
    assert 'holdfast_measure{name="wal-disk-free-bytes shop db"} ' in written
    assert {"wal-behind", "wal-slot-inactive"} <= set(started)
    assert started["wal-behind"].subject == "shop db"
    assert "a disaster now would cost the last" in started["wal-behind"].found
    assert not look(site).started
    with site.archiving():
        site.caught_up()
        assert {"wal-behind", "wal-slot-inactive"} <= {f.kind for f in look(site).ended}
    site.cluster.stop()
    assert "wal-server-unreachable" in {f.kind for f in look(site).started}
