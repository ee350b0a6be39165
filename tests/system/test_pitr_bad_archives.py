"""Bad days of a WAL archive: the store away, the spool full, segments damaged, missing, or of another cluster."""

from __future__ import annotations

import os
import subprocess
import time
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from holdfast.cli.main import cli
from holdfast.errors import (
    CorruptObject,
    WalConflict,
    WalMissing,
    WalNotReady,
)
from holdfast.model.wal import parse_wal_name
from holdfast.model.wal_state import Name
from holdfast.policy.wal_setup import archive_command
from holdfast.services.pitr import restore_pitr
from holdfast.services.pitr_plan import plan_pitr
from holdfast.services.shipping import Shipper
from holdfast.services.wal import archive_of
from holdfast.services.wal_setup import setup
from tests.support.pitr import LATEST, MakeSite, at, fill, server_time


def test_archive_command_is_durable_idempotent_and_refuses_other_content(make_site: MakeSite) -> None:
    site = make_site(settings="archive_mode = on", via="archive", ready=False)
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


def test_a_stalled_archiver_is_named(make_site: MakeSite) -> None:
    site = make_site(settings="archive_mode = on", via="archive", ready=False)
    setup(site.config, site.source, apply=True)
    os.chmod(site.source.wal.spool, 0o500)
    os.chown(site.source.wal.spool, 0, 0)
    site.cluster.sql("SELECT pg_switch_wal()")
    deadline = time.monotonic() + 30
    while "archiver-stalled" not in {finding.name for finding in site.status().findings}:
        assert time.monotonic() < deadline, site.status()
        time.sleep(0.3)


def test_a_store_that_is_away_under_load_loses_nothing(make_site: MakeSite) -> None:
    site = make_site()
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
def test_a_full_spool_is_named_and_catches_up(make_site: MakeSite) -> None:
    site = make_site()
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


def test_damaged_and_missing_segments_are_named_before_anything_is_written(make_site: MakeSite, tmp_path: Path) -> None:
    site = make_site()
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


def test_two_clusters_of_one_name_do_not_mix(make_site: MakeSite) -> None:
    first, second = make_site(), make_site()
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


def test_a_slot_that_fell_behind_its_limit_is_named_and_begun_again(make_site: MakeSite) -> None:
    site = make_site(settings="min_wal_size = 2MB\nmax_wal_size = 2MB")
    with site.archiving():
        site.back_up()
        site.caught_up()
    site.cluster.sql("ALTER SYSTEM SET max_slot_wal_keep_size = '2MB'")  # a slow machine would fall behind it before
    site.cluster.sql("SELECT pg_reload_conf()")
    for _ in range(3):  # nobody receives
        fill(site.cluster, 30_000)
        site.cluster.sql("CHECKPOINT")
    found = {finding.name: finding for finding in site.status().findings}
    assert "WAL is gone" in found[Name.SLOT_LOST].text
    drop = found[Name.SLOT_LOST].hint.partition(";")[0]
    site.cluster.sql(drop)
    site.cluster.sql("ALTER SYSTEM RESET max_slot_wal_keep_size")
    site.cluster.sql("SELECT pg_reload_conf()")
    assert setup(site.config, site.source, apply=True).ready
    with site.archiving():
        fill(site.cluster)
        deadline = time.monotonic() + 30
        while Name.GAP not in site.gaps:  # what was lost
            assert time.monotonic() < deadline, site.status()
            time.sleep(0.1)
        site.back_up()
        site.caught_up()
    assert site.status().bases[-1].recoverable
    _, restored = site.restore("restored", LATEST)
    assert restored.sql("SELECT count(*) FROM filler") == "110000"
    restored.stop()


def test_a_second_run_on_one_spool_is_refused(make_site: MakeSite) -> None:
    site = make_site()
    with site.archiving() as runner:
        deadline = time.monotonic() + 20
        while runner._receiver is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        done = CliRunner().invoke(cli, ["wal", "run", "--config", str(site.folder / "holdfast.yaml")])
        assert isinstance(done.exception, WalNotReady)
        assert "another process works on this spool" in str(done.exception)
        assert runner._receiver is not None
        assert runner._receiver.alive(), "the first goes on"


def test_a_server_that_was_set_back_is_named_and_spoils_nothing(make_site: MakeSite) -> None:
    """A snapshot of its machine was put back: it writes other WAL of the same names, on the same timeline."""
    site = make_site()
    site.cluster.stop("fast")
    subprocess.run(["cp", "-a", site.cluster.data, site.folder / "snapshot"], check=True)
    site.cluster.start()
    site.configure(site.cluster)
    with site.archiving():
        site.back_up()
        site.cluster.sql("INSERT INTO t VALUES (101)")
        site.cluster.sql("SELECT pg_switch_wal()")
        site.caught_up()
    site.cluster.stop("fast")
    subprocess.run(["rm", "-rf", site.cluster.data], check=True)
    (site.folder / "snapshot").rename(site.cluster.data)
    site.cluster.start()
    site.configure(site.cluster, spool="spool-2")
    assert setup(site.config, site.source, apply=True).ready
    with site.archiving() as runner:
        fill(site.cluster, 60_000)  # goes beyond what is archived
        deadline = time.monotonic() + 30
        while Name.CONFLICT not in {finding.name for finding in runner.findings}:
            assert time.monotonic() < deadline, runner.findings
            time.sleep(0.2)
    _, restored = site.restore("restored", LATEST)
    assert restored.sql("SELECT max(n) FROM t") == "101"
    assert restored.sql("SELECT to_regclass('filler') IS NULL") == "t", "nothing of the one that was set back"
