"""Where a recovery can go: across a promotion, on an idle server, to a transaction, file by file."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from holdfast.errors import HoldfastError, TargetOutOfRange
from holdfast.model.base import RecoveryTarget, TargetKind
from holdfast.model.wal import Lsn
from holdfast.services.pitr import restore_pitr
from holdfast.services.pitr_plan import plan_pitr
from holdfast.services.wal_setup import setup
from tests.conftest import ROOT
from tests.support.pitr import LATEST, MakeSite, at, fill, server_time


def test_promotion_goes_on_archiving_and_is_recovered_across(make_site: MakeSite) -> None:
    site = make_site()
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


def test_an_idle_server_can_be_recovered_to_any_time(make_site: MakeSite) -> None:
    site = make_site()
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


HOLDFAST = str(Path(sys.executable).with_name("holdfast"))


@pytest.fixture
def program(open_folders: Path) -> str:
    """`holdfast` as the server's user can run it, who cannot come to every folder of ours."""
    packages = os.path.dirname(os.path.dirname(click.__file__))
    python = f"/usr/bin/python3.{sys.version_info.minor}"
    if not os.path.exists(python):
        pytest.skip(f"the server's user needs {python}")
    path = open_folders / "holdfast"
    path.write_text(
        f'#!/bin/sh\necho "$*" >>"$PWD/../asked"\nPYTHONPATH={ROOT}/src:{packages} '
        f"exec {python} -c 'from holdfast.cli.main import main; main()' \"$@\"\n"
    )
    path.chmod(0o755)
    return str(path)


def test_a_transaction_is_the_target_and_the_server_fetches_its_wal_itself(make_site: MakeSite, program: str) -> None:
    site = make_site()
    if site.cluster.sql("SHOW data_checksums") == "on":  # as is usual from 18 on
        site.cluster.stop("fast")
        site.cluster.run("pg_checksums", "--disable", "-D", str(site.cluster.data))
        site.cluster.start()
        site.configure(site.cluster)
    with site.archiving():
        site.back_up()
        site.cluster.sql("INSERT INTO t VALUES (101)")
        xid = site.cluster.sql("INSERT INTO t VALUES (102) RETURNING pg_current_xact_id()")
        fill(site.cluster)
        site.cluster.sql("INSERT INTO t VALUES (103)")
        site.caught_up()
    assert site.cluster.sql("SHOW data_checksums") == "off"
    folder = site.folder / "restored"
    folder.mkdir()
    subprocess.run(["chown", "-R", "--reference", site.cluster.data, site.folder / "password"], check=True)
    subprocess.run(["chmod", "-R", "go+rX", site.folder / "repository"], check=True)
    arguments = ["restore", "shop", "--source", "db", "--xid", xid, "--on-demand", "--to", str(folder / "data")]
    done = subprocess.run(
        [HOLDFAST, *arguments, "--config", str(site.folder / "holdfast.yaml")],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert f"target        xid {xid}" in done.stdout
    assert "0 WAL files" in done.stdout
    assert not (folder / "data" / "holdfast_wal").exists()
    conf = folder / "data" / "postgresql.auto.conf"
    configured, changes = re.subn(r"\|\| \S+ wal get", f"|| {program} wal get", conf.read_text())
    assert changes == 1
    conf.write_text(configured)
    restored = site.start(folder)
    assert restored.sql("SELECT string_agg(n::text, ' ' ORDER BY n) FROM t WHERE n > 100") == "101 102"
    log = restored.log()
    assert not (folder / "data" / "holdfast_wal").exists()
    restored.stop()
    # The server's log names each segment that it got; the program was asked for the first, which brought the others.
    came = re.findall(r'restored log file "([0-9A-F]{24})"', log)
    asked = re.findall(r"--ahead holdfast_wal ([0-9A-F]{24}) ", (folder / "asked").read_text())
    assert len(came) >= 2
    assert came[0] in asked
    assert not set(came[1:]) & set(asked)


def test_what_the_archive_does_not_hold_is_the_end_and_what_cannot_be_asked_is_an_error(
    make_site: MakeSite, tmp_path: Path
) -> None:
    site = make_site(ready=False)
    environment = {**os.environ, "HOLDFAST_CONFIG": str(site.folder / "holdfast.yaml")}

    def get(name: str) -> int:
        arguments = [HOLDFAST, "wal", "get", "--system", "42", name, str(tmp_path / "target")]
        return subprocess.run(arguments, check=False, env=environment, stderr=subprocess.DEVNULL).returncode

    assert [get(name) for name in ("000000090000000000000001", "00000007.history")] == [1, 1]
    (site.folder / "repository").rename(site.folder / "away")
    assert get("000000090000000000000001") == 126
    assert not (tmp_path / "target").exists()


def test_what_lies_before_the_newest_base_is_reached_from_an_older_one(make_site: MakeSite) -> None:
    site = make_site(settings="max_prepared_transactions = 2")
    with site.archiving():
        site.back_up()
        xid = site.cluster.sql("INSERT INTO t VALUES (101) RETURNING pg_current_xact_id()")
        site.cluster.sql("SELECT pg_create_restore_point('early')")
        prepared = site.cluster.sql(
            "BEGIN; INSERT INTO t VALUES (102); SELECT pg_current_xact_id(); PREPARE TRANSACTION 'p'"
        )
        site.cluster.sql("INSERT INTO t VALUES (103)")
        site.cluster.sql("COMMIT PREPARED 'p'")
        site.cluster.sql("INSERT INTO t VALUES (104)")
        site.back_up()
        site.cluster.sql("INSERT INTO t VALUES (105)")
        site.caught_up()
    wanted = {
        "xid": (RecoveryTarget(TargetKind.XID, text=xid), "101"),
        "before": (RecoveryTarget(TargetKind.XID, text=xid, inclusive=False), "100"),
        "prepared": (RecoveryTarget(TargetKind.XID, text=prepared), "103"),
        "name": (RecoveryTarget(TargetKind.NAME, text="early"), "101"),
    }
    for name, (target, expected) in wanted.items():
        _, restored = site.restore(name, target)
        assert restored.sql("SELECT max(n) FROM t") == expected, name
        restored.stop()
    with site.open() as repository:
        for target in (RecoveryTarget(TargetKind.XID, text="4000000"), RecoveryTarget(TargetKind.NAME, text="never")):
            with pytest.raises(TargetOutOfRange, match="not in the archived WAL"):
                plan_pitr(repository, "shop", "db", target)


def test_an_address_is_reached_up_to_the_last_record_and_not_behind_it(make_site: MakeSite) -> None:
    site = make_site()
    with site.archiving():
        site.back_up()
        site.cluster.sql("INSERT INTO t VALUES (101); SELECT pg_switch_wal()")
        border = Lsn(-(-Lsn.parse(site.cluster.sql("SELECT pg_current_wal_insert_lsn()")) // (1 << 20)) << 20)
        site.cluster.sql("INSERT INTO t VALUES (102)")
        site.caught_up()
    end = Lsn.parse(site.cluster.sql("SELECT pg_current_wal_insert_lsn()"))
    with site.open() as repository, pytest.raises(TargetOutOfRange, match="the last record that is archived begins at"):
        plan_pitr(repository, "shop", "db", RecoveryTarget(TargetKind.LSN, lsn=end))
    # The first record behind the border of two segments lies in the second one.
    _, restored = site.restore("border", RecoveryTarget(TargetKind.LSN, lsn=Lsn(border - (1 << 20))))
    assert restored.sql("SELECT max(n) FROM t") == "101"


def test_a_primary_that_was_left_behind_and_its_successor_do_not_mix(make_site: MakeSite) -> None:
    site = make_site()
    primary, standby = site.cluster, site.cluster.standby(site.folder / "standby")
    with site.archiving():
        site.back_up()
        primary.sql("INSERT INTO t VALUES (101)")
        site.caught_up()
        standby.sql("SELECT pg_promote()")
        standby.wait_recovered()
        fill(standby)
        standby.sql("CHECKPOINT")  # nobody archives what it wrote so far: a slot begins here
        primary.sql("INSERT INTO t VALUES (901)")
        fill(primary, 60_000)
        primary.sql("INSERT INTO t VALUES (902)")
        moment = server_time(primary)
        primary.sql("INSERT INTO t VALUES (903)")
        site.caught_up()
    site.configure(standby, spool="spool-2")
    assert setup(site.config, site.source, apply=True).ready
    site.gaps.clear()
    with site.archiving():
        standby.sql("INSERT INTO t VALUES (201)")
        fill(standby)
        deadline = time.monotonic() + 20
        while "gap" not in site.gaps:  # between the fork and the slot
            assert time.monotonic() < deadline, site.status()
            time.sleep(0.1)
        with site.open() as repository:
            with pytest.raises(HoldfastError) as caught:
                plan_pitr(repository, "shop", "db", at(moment))
            assert caught.value.hint == "timeline 1 has it, which is another branch: --timeline 1"
            lines = plan_pitr(repository, "shop", "db", LATEST).lines
        assert any("is missing: what was archived behind it cannot be reached" in line for line in lines), lines
        assert any("timeline 1 goes on elsewhere" in line for line in lines), lines
        site.back_up()
        standby.sql("INSERT INTO t VALUES (202)")
        site.caught_up()
    _, restored = site.restore("latest", LATEST)
    assert restored.sql("SELECT string_agg(n::text, ' ' ORDER BY n) FROM t WHERE n > 100") == "101 201 202"
    restored.stop()
    _, restored = site.restore("left", at(moment, timeline=1))
    assert restored.sql("SELECT string_agg(n::text, ' ' ORDER BY n) FROM t WHERE n > 100") == "101 901 902"
    restored.stop()


def test_an_earlier_cluster_of_the_same_name_can_still_be_recovered(make_site: MakeSite) -> None:
    """A volume was lost, the image made an empty cluster, and the night's backup took it."""
    first, second = make_site(), make_site()
    with first.archiving():
        first.back_up()
        first.cluster.sql("INSERT INTO t VALUES (101)")
        moment = server_time(first.cluster)
        first.cluster.sql("INSERT INTO t VALUES (102)")
        first.caught_up()
    system = first.status().system
    first.configure(second.cluster, spool="spool-2")
    assert setup(first.config, first.source, apply=True).ready
    with first.archiving():
        first.back_up()
        first.caught_up()
    with first.open() as repository:
        assert any(f"--system {system}" in line for line in plan_pitr(repository, "shop", "db", LATEST).lines)
        with pytest.raises(TargetOutOfRange) as caught:
            plan_pitr(repository, "shop", "db", at(moment))
        assert caught.value.hint == f"an earlier cluster of this name may have it: --system {system}"
        planned = plan_pitr(repository, "shop", "db", at(moment), system=system)
        folder = first.folder / "earlier"
        folder.mkdir()
        restore_pitr(repository, planned, str(folder / "data"))
    assert first.start(folder).sql("SELECT max(n) FROM t") == "101"
