"""Incremental base backups on a real server of versions 17 and 18: chained, combined, drilled, kept together."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest

from holdfast.errors import RestoreError
from holdfast.model.base import RecoveryTarget, TargetKind
from holdfast.policy.retention import Rules
from holdfast.repository.snapshot import delete_snapshot
from holdfast.services.access import init_repository_at
from holdfast.services.bases import bases_of, size_of_chain
from holdfast.services.drill import drill
from holdfast.services.pitr_plan import plan_pitr
from holdfast.services.restore import open_snapshot
from holdfast.services.retention import plan_retention
from holdfast.services.stacks import access_of
from holdfast.services.wal_setup import setup
from tests.support.clusters import Cluster, on_path, open_folder, programs_of
from tests.support.pitr import Site, now

LATEST = RecoveryTarget(TargetKind.LATEST)


@pytest.fixture(scope="module", params=[18, pytest.param(17, marks=pytest.mark.soak)])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """A server that summarizes its WAL; two incremental backups may follow a full one."""
    programs = programs_of(request.param)
    with open_folder() as folder, on_path(programs):
        cluster = Cluster.make(programs, folder / "server", "--wal-segsize=1").start()
        made = Site(cluster, folder, more="incremental: 2")
        made.configure(cluster)
        init_repository_at(access_of(made.config)).store.close()
        cluster.sql("CREATE TABLE t AS SELECT g AS n, md5(g::text) AS x FROM generate_series(1, 50000) g")
        assert "summarize_wal" in {need.name for need in setup(made.config, made.source).requirements if not need.met}
        assert setup(made.config, made.source, apply=True).ready
        try:
            yield made
        finally:
            made.cluster.stop()


def test_a_chain_is_taken_combined_and_proven(site: Site) -> None:
    cluster = site.cluster
    with site.archiving():
        reports = [site.back_up().sources[0]]
        for number in range(3):
            cluster.sql(f"UPDATE t SET x = 'changed' WHERE n % 5000 = {number}")  # noqa: S608  a number of ours
            reports.append(site.back_up().sources[0])
        cluster.sql("INSERT INTO t VALUES (50001, 'after the last')")
        site.caught_up()
    with site.open() as repository:
        found = bases_of(repository, repository.snapshots().snapshots, strict=True)
    assert [len(base.below) for base, _ in found] == [0, 1, 2, 0], "the fourth is a full one again"
    assert "a full base backup: 2 incremental ones follow the last full one already" in reports[3].notes
    assert reports[1].bytes_processed < reports[0].bytes_processed / 2
    assert [base.builds_on for base in site.status().bases] == [0, 1, 2, 0]

    with site.open() as repository:
        second = repository.snapshots().snapshots[2]
        assert second.point is not None
        manifest = open_snapshot(repository, second).manifest
        assert manifest is not None
        assert size_of_chain(repository, second, manifest) == sum(one.bytes_processed for one in reports[:3])
        proof = drill(site.config, repository, "shop", second.point, now=now)
    assert proof.passed, proof
    assert proof.sources[0].compared.startswith("combined of 3 base backups, recovered over ")
    assert "50,000 rows, contents digested" in proof.sources[0].compared


def test_recovery_from_an_incremental_one(site: Site) -> None:
    with site.archiving():
        site.cluster.sql("UPDATE t SET x = 'once more' WHERE n = 7")
        report = site.back_up().sources[0]
        assert not report.notes, "it is incremental again"
        site.cluster.sql("INSERT INTO t VALUES (50002, 'later')")
        site.caught_up()
    with site.open() as repository:
        lines = plan_pitr(repository, "shop", "db", LATEST).lines
    assert sum("combined with" in line for line in lines) == 1, lines
    report_of_restore, restored = site.restore("restored", LATEST)
    try:
        assert restored.sql("SELECT count(*) FROM t WHERE x = 'changed' OR x = 'once more'") == "31"
        assert restored.sql("SELECT max(n) FROM t") == "50002"
        assert any("combined of 2 base backups" in note for note in report_of_restore.restore.notes)
        assert not list(restored.folder.glob("data.holdfast-*")), "nothing is left beside it"
    finally:
        restored.stop()
        shutil.rmtree(restored.folder)


def test_retention_keeps_what_an_incremental_one_builds_on(site: Site) -> None:
    with site.open() as repository:
        plan = plan_retention(repository, "shop", Rules(keep_last=1), now=now)
        later = plan_retention(repository, "shop", Rules(keep_last=1), now=lambda: now() + timedelta(days=400))
    reasons = [decision.reasons for decision in plan.decisions]
    assert [decision.keep for decision in plan.decisions] == [True, True, True, True, True]
    assert any("builds on it" in reason for reason in reasons[1])
    proven = [any("proven" in reason for reason in why) for why in reasons]
    assert proven == [False, False, True, False, False], "a drill proved the third, and what is below it stays"
    assert plan.keep == later.keep


def test_it_falls_back_to_a_full_one_and_says_why(site: Site) -> None:
    cluster = site.cluster
    cluster.sql("ALTER SYSTEM SET summarize_wal = off")
    cluster.sql("SELECT pg_reload_conf()")
    with site.archiving():
        assert "a full base backup: summarize_wal is off: ALTER SYSTEM SET summarize_wal = on" in (
            site.back_up().sources[0].notes
        )
        cluster.sql("ALTER SYSTEM SET summarize_wal = on")
        cluster.sql("SELECT pg_reload_conf()")
        site.back_up()
        cluster.sql("UPDATE t SET x = 'more' WHERE n = 9; CHECKPOINT")
        make_hole(cluster)
        notes = site.back_up().sources[0].notes
        site.caught_up()
    assert len(notes) == 1, notes
    assert notes[0].startswith("a full base backup: an incremental one was refused: ")
    assert "summaries are required" in notes[0]


def make_hole(cluster: Cluster) -> None:
    """Take away the WAL summaries since the last base backup, but not those before it: only the server finds out."""
    checkpoint = int(cluster.sql("SELECT redo_lsn - '0/0' FROM pg_control_checkpoint()"))
    deadline = time.monotonic() + 20
    while int(cluster.sql("SELECT max(end_lsn) - '0/0' FROM pg_available_wal_summaries()")) < checkpoint:
        assert time.monotonic() < deadline, "the server is slow to summarize"
        time.sleep(0.1)
    files = sorted((cluster.data / "pg_wal" / "summaries").iterdir())
    assert len(files) > 1
    for path in files[1:]:
        path.unlink()


def test_a_chain_that_lost_its_first_is_told_and_not_used(site: Site) -> None:
    with site.archiving():
        site.cluster.sql("UPDATE t SET x = 'the last' WHERE n = 8")
        report = site.back_up().sources[0]
        assert not report.notes, report.notes
        site.caught_up()
    with site.open() as repository:
        snapshots = repository.snapshots().snapshots
        for snapshot in snapshots:
            if snapshot.id != report.snapshot:
                delete_snapshot(repository.store, snapshot.id)
    status = site.status()
    assert status.bases[-1].lost
    assert "base-lost" in {finding.name for finding in status.findings}
    with site.open() as repository, pytest.raises(RestoreError, match="builds on one that is gone"):
        plan_pitr(repository, "shop", "db", LATEST)
    with site.archiving(look=0.3):
        assert any("builds on one that is gone" in note for note in site.back_up().sources[0].notes)
