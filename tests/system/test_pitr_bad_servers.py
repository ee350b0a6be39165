"""Bad days of a server whose base backups are taken: killed, promoted, busy, set up otherwise."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.errors import (
    BaseBackupFailed,
    DatabaseUnavailable,
    HoldfastError,
    RestoreError,
    WalNotReady,
)
from holdfast.model.base import RecoveryTarget, TargetKind
from holdfast.model.wal import Lsn
from holdfast.postgres import canary
from holdfast.postgres.facts import databases
from holdfast.services.backup import take_backup
from holdfast.services.bases import base_source
from holdfast.services.databases import server_of
from holdfast.services.drill import drill
from holdfast.services.pitr import restore_pitr
from holdfast.services.pitr_plan import plan_pitr
from holdfast.services.wal_setup import setup
from tests.support.pitr import LATEST, MakeSite, Site, fill, now


def test_a_server_that_is_killed_during_a_base_backup(make_site: MakeSite) -> None:
    site = make_site()
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


def test_a_base_backup_from_a_standby_that_is_promoted(make_site: MakeSite) -> None:
    site = make_site()
    primary = site.cluster
    standby = primary.standby(site.folder / "standby")
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
    assert proof.passed, "\n".join(proof.problems)
    _, restored = site.restore("restored", LATEST)
    assert restored.sql("SELECT max(n) FROM t") == "101"
    standby.stop()


def test_a_database_whose_removal_begins_while_rows_are_recorded(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL marks it before it begins a transaction: nothing but a second look at the list shows it."""
    site = make_site()
    site.cluster.sql("CREATE DATABASE going")
    looks = iter((lambda found: found, lambda found: [name for name in found if name != "going"]))
    monkeypatch.setattr(canary, "databases", lambda session: next(looks)(databases(session)))
    with server_of(site.config, site.source.spec) as server:
        recorded = canary.record_canary(server, "here")
    assert recorded.canary.quiet
    assert "going" in {database.name for database in recorded.databases}
    assert recorded.changing == ("going",)


def test_tables_come_and_go_and_queues_fill_and_empty_while_rows_are_recorded(make_site: MakeSite) -> None:
    """Neither is an error, and what only looks the same before and after is not compared."""
    site = make_site()
    site.cluster.sql("CREATE TABLE queue (n int)")
    site.cluster.sql(
        "DO $$ BEGIN FOR i IN 1..60 LOOP EXECUTE format('CREATE TABLE s%s AS SELECT generate_series(1, 500) n', i);"
        " END LOOP; END $$"
    )
    stop = threading.Event()

    def churn(*statements: str) -> None:
        while not stop.is_set():
            site.cluster.sql(";".join(statements))

    work = (
        ("CREATE TABLE s0 AS SELECT 1 AS n", "DROP TABLE s0"),
        ("BEGIN", "CREATE TABLE s99 (n int)", "COMMIT", "DROP TABLE s99"),
    )
    queue = ("BEGIN", "INSERT INTO queue VALUES (1)", "COMMIT", "DELETE FROM queue")
    threads = [threading.Thread(target=churn, args=statements) for statements in (*work, queue)]
    for thread in threads:
        thread.start()
    try:
        with server_of(site.config, site.source.spec) as server:
            recorded = [canary.record_canary(server, f"p{number}") for number in range(4)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert [one.canary.quiet for one in recorded] == [False] * 4
    assert all("postgres public.queue" in one.changing for one in recorded)
    assert not [name for one in recorded for name in one.changing if name == "postgres public.t"]


def test_databases_come_and_go_during_a_base_backup(make_site: MakeSite) -> None:
    site = make_site()
    stop = threading.Event()
    refused = []

    def churn() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            for statement in (
                f"CREATE DATABASE d{number}",
                "INSERT INTO t SELECT max(n) + 1 FROM t",
                f"DROP DATABASE IF EXISTS d{number - 1}",
            ):
                try:
                    site.cluster.sql(statement)
                except subprocess.CalledProcessError as error:  # somebody just looks into it, or into its template
                    refused.append(str(error.output))

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
    assert [said for said in refused if "is being accessed by other users" not in said] == []
    with site.open() as repository:
        proof = drill(site.config, repository, "shop", now=now)
    assert proof.passed, "\n".join(proof.problems)


def test_pg_wal_on_a_volume_of_its_own_and_checksums(make_site: MakeSite, open_folders: Path) -> None:
    elsewhere = open_folders / "wal-volume"
    elsewhere.mkdir()
    elsewhere.chmod(0o777)
    site = make_site(f"--waldir={elsewhere}/pg_wal", "--data-checksums")
    with site.archiving():
        site.back_up()
        site.caught_up()
    _, restored = site.restore("restored", LATEST)
    assert restored.sql("SHOW data_checksums") == "on"
    assert not (restored.data / "pg_wal").is_symlink(), "the copy must not write into the original's WAL"


def test_wal_level_minimal_is_refused_with_what_to_change(make_site: MakeSite) -> None:
    site = make_site(settings="wal_level = minimal\nmax_wal_senders = 0", ready=False)
    report = setup(site.config, site.source)
    missing = {need.name for need in report.requirements if not need.met and need.restart}
    assert missing == {"wal_level", "max_wal_senders"}
    with pytest.raises(WalNotReady, match=r"wal_level = minimal") as caught:
        site.back_up()
    assert "ALTER SYSTEM SET wal_level" in (caught.value.hint or "")


def test_a_password_that_changed_is_told(make_site: MakeSite) -> None:
    site = make_site()
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


def restart_with(site: Site, *settings: str) -> None:
    """What only a restart changes."""
    for setting in settings:
        site.cluster.sql(f"ALTER SYSTEM SET {setting}")
    site.cluster.stop("fast")
    site.cluster.start()
    site.configure(site.cluster)


def test_a_server_whose_limits_were_raised_after_the_base_backup(make_site: MakeSite) -> None:
    """PostgreSQL would pause in the middle of the recovery, for ever."""
    site = make_site()
    with site.archiving():
        site.back_up()
    restart_with(site, "max_connections = 217", "max_prepared_transactions = 3")
    with site.archiving():
        site.cluster.sql("BEGIN; INSERT INTO t VALUES (101); PREPARE TRANSACTION 'open'")
        site.cluster.sql("INSERT INTO t VALUES (102)")
        site.caught_up()
    report, restored = site.restore("restored", LATEST)
    assert any("max_connections = 217, max_prepared_transactions = 3" in note for note in report.notes), report.notes
    assert restored.sql("SELECT max(n) FROM t") == "102"
    assert restored.sql("SELECT gid FROM pg_prepared_xacts") == "open"
    restored.sql("COMMIT PREPARED 'open'")
    assert restored.sql("SELECT count(*) FROM t WHERE n > 100") == "2"


def test_what_was_written_with_wal_level_minimal_is_not_planned_across(make_site: MakeSite, tmp_path: Path) -> None:
    site = make_site(settings="wal_keep_size = '100MB'")
    with site.archiving():
        site.back_up()
        site.cluster.sql("INSERT INTO t VALUES (101)")
        site.caught_up()
    site.cluster.sql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
    restart_with(site, "wal_level = minimal", "max_wal_senders = 0")
    site.cluster.sql("BEGIN; CREATE TABLE skipped AS SELECT generate_series(1, 10000) AS n; COMMIT")
    restart_with(site, "wal_level = replica", "max_wal_senders = 5")
    assert setup(site.config, site.source, apply=True).ready
    with site.archiving():
        site.cluster.sql("INSERT INTO t VALUES (102)")
        site.caught_up()  # the archive has no gap
        with site.open() as repository:
            planned = plan_pitr(repository, "shop", "db", LATEST)
            with pytest.raises(RestoreError, match="wrote too little WAL on the way") as caught:
                restore_pitr(repository, planned, str(tmp_path / "data"))
        assert not os.listdir(tmp_path)
        site.back_up()
        site.cluster.sql("INSERT INTO t VALUES (103)")
        site.caught_up()
    _, restored = site.restore("latest", LATEST)
    assert restored.sql("SELECT count(*) FROM skipped") == "10000"
    restored.stop()
    before = re.search(r"--lsn (\S+)\)", caught.value.hint or "")
    assert before is not None
    _, restored = site.restore("before", RecoveryTarget(TargetKind.LSN, lsn=Lsn.parse(before[1])))
    assert restored.sql("SELECT max(n) FROM t") == "101"
