"""Bad days of physical backups, each on a real server."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from holdfast.errors import (
    BaseBackupFailed,
    CorruptObject,
    DatabaseUnavailable,
    HoldfastError,
    WalConflict,
    WalMissing,
    WalNotReady,
)
from holdfast.model.base import RecoveryTarget, TargetKind
from holdfast.model.wal import parse_wal_name
from holdfast.policy.wal_findings import Name
from holdfast.policy.wal_setup import archive_command
from holdfast.services.access import init_repository_at
from holdfast.services.backup import take_backup
from holdfast.services.bases import base_source
from holdfast.services.drill import drill
from holdfast.services.pitr import plan_pitr, restore_pitr
from holdfast.services.shipping import Shipper
from holdfast.services.stacks import access_of
from holdfast.services.wal import archive_of
from holdfast.services.wal_setup import setup
from tests.support.clusters import Cluster, on_path, open_folder, programs_of
from tests.support.pitr import Site, at, now, server_time

LATEST = RecoveryTarget(TargetKind.LATEST)
MAJOR = 15
Make = Callable[..., Site]


@pytest.fixture
def open_folders() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder


@pytest.fixture
def make(open_folders: Path) -> Iterator[Make]:
    """Makes sites: a server with small segments, set up, with a repository of its own; they end with the test."""
    programs = programs_of(MAJOR)
    clusters: list[Cluster] = []

    def build(*arguments: str, settings: str = "", via: str = "stream", ready: bool = True) -> Site:
        folder = open_folders / f"site{len(clusters)}"
        folder.mkdir()
        cluster = Cluster.make(programs, folder / "server", "--wal-segsize=1", *arguments, settings=settings).start()
        clusters.append(cluster)
        site = Site(cluster, folder, via)
        site.configure(cluster)
        init_repository_at(access_of(site.config)).store.close()
        cluster.sql("CREATE TABLE t (n int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 100)")
        if ready:
            assert setup(site.config, site.source, apply=True).ready
        return site

    with on_path(programs):
        yield build
    for cluster in clusters:
        cluster.stop()
    for folder in {cluster.folder.parent for cluster in clusters}:
        for data in folder.glob("*/data"):
            Cluster(programs, data.parent, data).stop()


def fill(cluster: Cluster, rows: int = 20_000) -> None:
    """Several segments of WAL."""
    cluster.sql("CREATE TABLE IF NOT EXISTS filler (n int, x text)")
    cluster.sql(f"INSERT INTO filler SELECT g, md5(g::text) FROM generate_series(1, {rows}) g")  # noqa: S608  a number of ours


def test_promotion_goes_on_archiving_and_is_recovered_across(make: Make) -> None:
    site = make()
    with site.archiving():
        site.back_up()
        site.cluster.sql("INSERT INTO t VALUES (101)")
        fork = server_time(site.cluster)
        time.sleep(0.05)
        site.cluster.sql("INSERT INTO t VALUES (102)")
        abandoned = server_time(site.cluster)
        site.cluster.sql("INSERT INTO t VALUES (103)")
        site.caught_up()
    site.cluster.stop("fast")
    _, second = site.restore("second", at(fork))
    site.configure(second, spool="spool-2")
    assert setup(site.config, site.source, apply=True).ready
    with site.archiving():
        second.sql("INSERT INTO t VALUES (201)")
        moment = server_time(second)
        time.sleep(0.05)
        second.sql("INSERT INTO t VALUES (202)")
        fill(second)
        site.caught_up()
    status = site.status()
    assert status.server_timeline == 2
    assert [timeline.timeline for timeline in status.timelines] == [1, 2]
    second.stop("fast")

    report, third = site.restore("third", at(moment))
    assert report.timeline == 2
    assert third.sql("SELECT string_agg(n::text, ' ' ORDER BY n) FROM t WHERE n > 100") == "101 201"
    assert third.sql("SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 8, 1)") == "3", "a timeline of its own"
    third.stop()
    report, old = site.restore("old", at(abandoned, timeline=1))
    assert report.timeline == 1
    assert old.sql("SELECT string_agg(n::text, ' ' ORDER BY n) FROM t WHERE n > 100") == "101 102"
    old.stop()


def test_archive_command_is_durable_idempotent_and_refuses_other_content(make: Make) -> None:
    site = make(settings="archive_mode = on", via="archive", ready=False)
    report = setup(site.config, site.source, apply=True)
    assert report.ready, report
    assert site.cluster.sql("SHOW archive_command") == archive_command(site.source.wal.spool)
    spool = Path(site.source.wal.spool)
    site.cluster.sql("SELECT pg_switch_wal()")
    deadline = time.monotonic() + 20
    while not (names := [name for name in sorted(os.listdir(spool)) if parse_wal_name(name)]):
        assert time.monotonic() < deadline, site.cluster.log()
        time.sleep(0.1)
    line = archive_command(str(spool)).replace("%f", names[0]).replace("%p", "{source}")
    same, other = spool / "copy-same", spool / "copy-other"
    same.write_bytes((spool / names[0]).read_bytes())
    other.write_bytes(b"x" * 100)
    statuses = [
        subprocess.run(["sh", "-c", line.format(source=path)], check=False).returncode for path in (same, other)
    ]
    assert statuses == [0, 1]
    assert not list(spool.glob(".*")), "nothing unfinished is left"
    with site.archiving():
        site.back_up()
        site.cluster.sql("INSERT INTO t VALUES (101)")
        site.caught_up()
    assert not [name for name in os.listdir(spool) if parse_wal_name(name)], "shipped, then removed"
    with site.open() as repository:
        kinds = {name.kind for name in archive_of(repository, report.system).names()}
    assert kinds == {"segment", "backup"}
    _, restored = site.restore("restored", LATEST)
    assert restored.sql("SELECT max(n) FROM t") == "101"


def test_a_stalled_archiver_is_named(make: Make) -> None:
    site = make(settings="archive_mode = on", via="archive", ready=False)
    setup(site.config, site.source, apply=True)
    os.chmod(site.source.wal.spool, 0o500)
    os.chown(site.source.wal.spool, 0, 0)
    site.cluster.sql("SELECT pg_switch_wal()")
    deadline = time.monotonic() + 30
    while "archiver-stalled" not in {finding.name for finding in site.status().findings}:
        assert time.monotonic() < deadline, site.status()
        time.sleep(0.3)


def test_a_server_that_is_killed_during_a_base_backup(make: Make) -> None:
    site = make()
    fill(site.cluster)
    with site.open() as repository, base_source(site.config, site.source.spec) as source:

        class Killing:
            label, notes = source.label, ()

            def entries(self) -> Iterator[object]:
                for count, entry in enumerate(source.entries()):
                    if count == 300:
                        site.cluster.kill()
                    yield entry

            def facts(self) -> dict[str, object]:
                raise AssertionError("a backup that failed has no facts")

        with pytest.raises((BaseBackupFailed, DatabaseUnavailable)):
            take_backup(repository, "shop", [Killing()])  # type: ignore[list-item]  # as much of a source as is asked for
        assert not repository.snapshots().snapshots
        site.cluster.start()
        site.configure(site.cluster)
    with site.archiving():
        site.back_up()
        site.caught_up()
    assert site.status().bases[-1].recoverable


def test_a_store_that_is_away_under_load_loses_nothing(make: Make) -> None:
    site = make()
    with site.archiving() as runner:
        site.back_up()
        site.caught_up()
        repository = site.folder / "repository"
        repository.rename(site.folder / "away")
        for _ in range(3):
            fill(site.cluster, 15_000)
        time.sleep(1.0)
        assert not repository.exists(), "a missing disk is never made anew"
        waiting = [file for file in site.source.spool.waiting() if file.name.kind == "segment"]
        assert len(waiting) > 3
        assert "shipping" in runner._troubles
        (site.folder / "away").rename(repository)
        site.caught_up()
        deadline = time.monotonic() + 10
        while runner._troubles:
            assert time.monotonic() < deadline, runner._troubles
            time.sleep(0.1)
    assert not [gap for timeline in site.status().timelines for gap in timeline.gaps]
    _, restored = site.restore("restored", LATEST)
    assert restored.sql("SELECT count(*) FROM filler") == "45000"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to mount a small filesystem")
def test_a_full_spool_is_named_and_catches_up(make: Make) -> None:
    site = make()
    spool = site.source.wal.spool
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", spool], check=False).returncode:
        pytest.skip("no filesystem can be mounted here")
    try:
        with site.archiving() as runner:
            site.back_up()
            site.caught_up()
            repository = site.folder / "repository"
            repository.rename(site.folder / "away")
            fill(site.cluster, 60_000)
            deadline = time.monotonic() + 30
            while "spool-full" not in {finding.name for finding in runner.findings}:
                assert time.monotonic() < deadline, runner.findings
                time.sleep(0.2)
            time.sleep(1.0)
            (site.folder / "away").rename(repository)
            site.caught_up()
        _, restored = site.restore("restored", LATEST)
        assert restored.sql("SELECT count(*) FROM filler") == "60000"
    finally:
        subprocess.run(["umount", "-l", spool], check=True)


def test_damaged_and_missing_segments_are_named_before_anything_is_written(make: Make, tmp_path: Path) -> None:
    site = make()
    with site.archiving():
        site.back_up()
        fill(site.cluster)
        middle = server_time(site.cluster)
        fill(site.cluster)
        site.cluster.sql("SELECT pg_switch_wal()")
        site.caught_up()
    with site.open() as repository:
        planned = plan_pitr(repository, "shop", "db", LATEST)
        victim = planned.plan.segments[3]
        name = parse_wal_name(victim.name)
        assert name is not None
        path = site.folder / "repository" / archive_of(repository, planned.facts.system).key_of(name)
        whole = path.read_bytes()
        path.write_bytes(whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:])
        with pytest.raises(CorruptObject, match=victim.name):
            restore_pitr(repository, planned, str(tmp_path / "target"))
        assert not os.listdir(tmp_path), "nothing was written, and nothing is left"
        path.unlink()
        with pytest.raises(WalMissing, match=f"{victim.name}.*last reachable commit"):
            plan_pitr(repository, "shop", "db", at(middle + timedelta(milliseconds=1)))
    found = {finding.name: finding.text for finding in site.status().findings}
    assert victim.name in found[Name.GAP]
    with site.archiving():
        deadline = time.monotonic() + 20
        while "gap" not in site.gaps:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        site.back_up()
        site.caught_up()
    assert "gap" not in {finding.name for finding in site.status().findings}


def test_two_clusters_of_one_name_do_not_mix(make: Make) -> None:
    first, second = make(), make()
    with first.archiving():
        first.back_up()
        fill(first.cluster)
        first.caught_up()
    first.configure(second.cluster)  # the container was made anew, the configuration is the old one
    with pytest.raises(WalNotReady, match="another cluster"):
        setup(first.config, first.source, apply=True)
    foreign = next(file for file in first.source.spool.waiting() if file.name.kind == "segment")
    with second.open() as repository:
        system = second.status().system
        assert system is not None
        Path(second.source.wal.spool, foreign.name.text).write_bytes(Path(foreign.path).read_bytes())
        report = Shipper(archive_of(repository, system), second.source.spool).ship()
        assert isinstance(report.error, WalConflict)
        assert "another cluster" in str(report.error)


def test_a_base_backup_from_a_standby_that_is_promoted(make: Make) -> None:
    site = make()
    primary = site.cluster
    folder = site.folder / "standby"
    folder.mkdir()
    with contextlib.suppress(FileNotFoundError):
        os.chown(folder, os.stat(primary.data).st_uid, os.stat(primary.data).st_gid)
    argv = [
        "-h",
        "127.0.0.1",
        "-p",
        str(primary.port),
        "-U",
        "postgres",
        "-D",
        str(folder / "data"),
        "-R",
        "-X",
        "stream",
    ]
    primary.run("pg_basebackup", *argv, "--checkpoint=fast")
    standby = Cluster(primary.programs, folder, folder / "data").start()
    with site.archiving():
        site.configure(standby)
        report = site.back_up()
        assert any("from a standby" in note for note in report.sources[0].notes)
        site.configure(primary)
        primary.sql("INSERT INTO t VALUES (101)")
        primary.sql("SELECT pg_switch_wal()")
        site.caught_up()
    with site.open() as repository:
        proof = drill(site.config, repository, "shop", now=now)
    assert proof.passed, proof
    _, restored = site.restore("restored", LATEST)
    assert restored.sql("SELECT max(n) FROM t") == "101"
    standby.stop()


def test_databases_come_and_go_during_a_base_backup(make: Make) -> None:
    site = make()
    stop = threading.Event()

    def churn() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            site.cluster.sql(f"CREATE DATABASE d{number}")
            site.cluster.sql("INSERT INTO t SELECT max(n) + 1 FROM t")
            if number > 1:
                site.cluster.sql(f"DROP DATABASE d{number - 1}")

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        with site.archiving():
            site.back_up()
            stop.set()
            thread.join()
            site.caught_up()
    finally:
        stop.set()
        thread.join()
    with site.open() as repository:
        proof = drill(site.config, repository, "shop", now=now)
    assert proof.passed, proof


def test_an_idle_server_can_be_recovered_to_any_time(make: Make) -> None:
    site = make()
    with site.archiving(look=0.3):
        site.back_up()
        idle = server_time(site.cluster)
        deadline = time.monotonic() + 20
        while True:
            try:
                with site.open() as repository:
                    plan_pitr(repository, "shop", "db", at(idle))
                break
            except HoldfastError:
                assert time.monotonic() < deadline
                time.sleep(0.2)
    _, restored = site.restore("restored", at(idle))
    assert restored.sql("SELECT max(n) FROM t") == "100"


def test_pg_wal_on_a_volume_of_its_own_and_checksums(make: Make, open_folders: Path) -> None:
    elsewhere = open_folders / "wal-volume"
    elsewhere.mkdir()
    elsewhere.chmod(0o777)
    site = make(f"--waldir={elsewhere}/pg_wal", "--data-checksums")
    with site.archiving():
        site.back_up()
        site.caught_up()
    _, restored = site.restore("restored", LATEST)
    assert restored.sql("SHOW data_checksums") == "on"
    assert not (restored.data / "pg_wal").is_symlink(), "the copy must not write into the original's WAL"


def test_wal_level_minimal_is_refused_with_what_to_change(make: Make) -> None:
    site = make(settings="wal_level = minimal\nmax_wal_senders = 0", ready=False)
    report = setup(site.config, site.source)
    missing = {need.name for need in report.requirements if not need.met and need.restart}
    assert missing == {"wal_level", "max_wal_senders"}
    with pytest.raises(WalNotReady, match=r"wal_level = minimal") as caught:
        site.back_up()
    assert "ALTER SYSTEM SET wal_level" in (caught.value.hint or "")


def test_a_password_that_changed_is_told(make: Make) -> None:
    site = make()
    site.cluster.sql("CREATE ROLE backup SUPERUSER REPLICATION LOGIN PASSWORD 'old'")
    hba = site.cluster.data / "pg_hba.conf"
    lines = (
        "local all all trust",
        "host all postgres 127.0.0.1/32 trust",
        "host all,replication backup 127.0.0.1/32 scram-sha-256",
    )
    hba.write_text("\n".join((*lines, "")))
    site.cluster.sql("SELECT pg_reload_conf()")
    secret = site.folder / "db-password"
    secret.write_text("old")
    secret.chmod(0o600)
    document = site.folder / "holdfast.yaml"
    more = f"method: base\n        user: backup\n        password_file: {secret}"
    document.write_text(document.read_text().replace("method: base", more))
    site.reload()
    with site.archiving() as runner:
        site.back_up()
        site.caught_up()
        site.cluster.sql("ALTER ROLE backup PASSWORD 'new'")
        with pytest.raises(HoldfastError, match="password authentication failed"):
            site.back_up()
        site.cluster.sql("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active")
        deadline = time.monotonic() + 20
        while "receiving" not in runner._troubles:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        fill(site.cluster)
        secret.write_text("new")
        deadline = time.monotonic() + 40
        while runner._troubles:
            assert time.monotonic() < deadline, runner._troubles
            time.sleep(0.1)
        site.caught_up()
    assert not [gap for timeline in site.status().timelines for gap in timeline.gaps]
