"""What real servers tell of their WAL: the disk that it lies on, standbys that fall behind."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from holdfast.cli.main import cli
from holdfast.model.wal_state import Name
from holdfast.services.wal_status import WalStatus
from tests.support.clusters import open_up
from tests.support.filesystems import mounted
from tests.support.pitr import MakeSite, Site, fill


def until(site: Site, fulfilled: Callable[[WalStatus], bool]) -> WalStatus:
    deadline = time.monotonic() + 20
    while not fulfilled(status := site.status()):
        assert time.monotonic() < deadline, status
        time.sleep(0.2)
    return status


def thresholds(site: Site, words: str) -> None:
    document = site.folder / "holdfast.yaml"
    document.write_text(document.read_text().replace("  shop:\n", f"  shop:\n    monitor: {{{words}}}\n"))
    site.reload()


def test_the_disk_of_pg_wal_is_told_and_when_it_will_be_full(make_site: MakeSite, open_folders: Path) -> None:
    with mounted(open_folders, "ext4", mib=160) as disk:
        open_up(disk)
        site = make_site(f"--waldir={disk}/pg_wal", settings="max_wal_size = '32MB'")
        try:
            fill(site.cluster, 100_000)
            status = site.status()
            room = os.statvfs(disk)
            assert status.disk.total == room.f_blocks * room.f_frsize
            assert status.disk.free == pytest.approx(room.f_bavail * room.f_frsize, abs=4 << 20)
            assert status.disk.held_by == "replication slot holdfast_db"
            assert status.disk.rate
            assert status.disk.free is not None
            assert status.disk.full_in == pytest.approx(status.disk.free / status.disk.rate)
            names = {finding.name for finding in status.findings}
            assert {Name.SLOT_INACTIVE, Name.DISK_RUNS_OUT} <= names
            assert Name.DISK_SHORT not in names
            with (disk / "something-else").open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, int(status.disk.free * 0.95))
            short = next(finding for finding in site.status().findings if finding.name is Name.DISK_SHORT)
            assert short.critical
            said = CliRunner().invoke(cli, ["wal", "status", "--config", str(site.folder / "holdfast.yaml")])
            assert "replication slot holdfast_db holds" in said.output
            assert "FINDING        disk-short: the disk of the server's pg_wal has" in said.output
        finally:
            site.cluster.stop()  # before its disk goes


def test_what_cannot_be_known_of_a_server_is_said(make_site: MakeSite) -> None:
    site = make_site()
    site.cluster.sql("CREATE ROLE reader LOGIN REPLICATION; GRANT pg_read_all_settings TO reader")
    document = site.folder / "holdfast.yaml"
    document.write_text(document.read_text().replace("method: base", "method: base\n        user: reader"))
    site.reload()
    disk = site.status().disk
    assert (disk.pg_wal, disk.rate) == (None, None), "this role may not look into pg_wal"
    assert disk.free
    pid = site.cluster.data / "postmaster.pid"
    text = pid.read_text()
    lines = text.splitlines()
    lines[2] = str(int(lines[2]) - 3600)
    pid.write_text("\n".join(lines))
    try:  # a directory of the same path, on a machine where the server is not
        status = site.status()
        said = CliRunner().invoke(cli, ["wal", "status", "--config", str(document)])
    finally:
        pid.write_text(text)
    assert status.disk.free is None
    assert status.disk.unknown == f"{site.cluster.data} is another server's"
    assert not [finding for finding in status.findings if "disk" in finding.name]
    assert f"server's disk  unknown: {site.cluster.data} is another server's" in said.output


def test_a_standby_that_replays_no_more_is_told_on_both_sides(make_site: MakeSite) -> None:
    site = make_site()
    primary, standby = site.cluster, site.cluster.standby(site.folder / "standby")
    try:
        thresholds(site, "replica_behind_bytes: 100000")
        primary.sql("INSERT INTO t VALUES (101)")  # a commit whose time the standby knows
        status = until(site, lambda status: bool(status.replicas) and status.replicas[0].replay_bytes == 0)
        assert [(r.name, r.client, r.state) for r in status.replicas] == [("walreceiver", "127.0.0.1", "streaming")]
        assert not {Name.REPLICA_BEHIND} & {finding.name for finding in status.findings}

        standby.sql("SELECT pg_wal_replay_pause()")
        fill(primary)
        status = until(site, lambda status: status.replicas[0].sent_bytes == 0)
        behind = status.replicas[0].replay_bytes
        assert behind is not None
        assert behind > 1_000_000
        finding = next(finding for finding in status.findings if finding.name is Name.REPLICA_BEHIND)
        assert finding.text.startswith("behind the server: walreceiver (127.0.0.1) by ")
        said = CliRunner().invoke(cli, ["wal", "status", "--json", "--config", str(site.folder / "holdfast.yaml")])
        assert json.loads(said.output)[0]["replicas"][0]["replay_bytes"] > 1_000_000

        site.configure(standby)
        thresholds(site, "replica_behind_bytes: 100000")
        own = site.status()
        assert own.standby is not None
        assert own.standby.streaming
        assert own.standby.bytes == pytest.approx(behind, abs=200_000)
        assert (own.standby.seconds or 0) > 0
        assert Name.STANDBY_BEHIND in {finding.name for finding in own.findings}
        standby.sql("SELECT pg_wal_replay_resume()")
        caught_up = until(site, lambda status: status.standby is not None and status.standby.bytes == 0)
        assert Name.STANDBY_BEHIND not in {finding.name for finding in caught_up.findings}

        primary.stop()
        cut = until(site, lambda status: status.standby is not None and not status.standby.streaming)
        assert cut.standby is not None
        assert cut.standby.seconds
    finally:
        standby.stop()
