"""Tablespaces that come and go around a base backup: nothing of a copy ever leads into the original's files."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from holdfast.errors import BaseBackupFailed, RestoreError
from holdfast.model.base import RecoveryTarget, TargetKind
from holdfast.model.wal import Lsn
from holdfast.services import direct_base
from holdfast.services.pitr import restore_pitr
from holdfast.services.pitr_plan import plan_pitr
from holdfast.services.wal_restore import fetch
from tests.support.clusters import Cluster, open_up
from tests.support.pitr import LATEST, MakeSite, Site

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="reads another user's files: needs root")


def make_space(site: Site, name: str) -> Path:
    folder = site.folder / name
    folder.mkdir()
    open_up(folder)
    site.cluster.sql(f"CREATE TABLESPACE {name} LOCATION '{folder}'")
    site.cluster.sql(f"CREATE TABLE in_{name} TABLESPACE {name} AS SELECT generate_series(1, 1000) AS n")
    return folder


def test_wal_that_leads_into_the_originals_tablespace_is_not_replayed_here(
    make_site: MakeSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site()
    with site.archiving():
        site.back_up()
        site.cluster.sql("INSERT INTO t VALUES (101)")
        place = make_space(site, "later")
        site.cluster.sql("UPDATE in_later SET n = n + 5000")
        site.caught_up()
    with site.open() as repository:
        planned = plan_pitr(repository, "shop", "db", LATEST)
        with pytest.raises(RestoreError, match=f"tablespace .* at {place}") as caught:
            restore_pitr(repository, planned, str(tmp_path / "data"))
        assert not os.listdir(tmp_path)
        # A server that fetches its WAL itself does not get it either, but for one that made the tablespace itself.
        monkeypatch.chdir(tmp_path)
        refused = 0
        for segment, _ in planned.plan.possible.pieces:
            try:
                fetch(repository, planned.facts.system, segment.name, str(tmp_path / "fetched"))
            except RestoreError:
                refused += 1
        assert refused == 1
    before = re.search(r"--lsn (\S+)\)", caught.value.hint or "")
    assert before is not None
    _, restored = site.restore("before", RecoveryTarget(TargetKind.LSN, lsn=Lsn.parse(before[1])))
    assert restored.sql("SELECT max(n) FROM t") == "101"
    assert restored.sql("SELECT count(*) FROM pg_tablespace") == "2"
    restored.stop()
    # Where that place is empty the copy may have it.
    site.cluster.stop("fast")
    place.rename(site.folder / "away")
    place.mkdir()
    open_up(place)
    report, restored = site.restore("after", LATEST)
    assert any(str(place) in note for note in report.notes), report.notes
    assert restored.sql("SELECT min(n) FROM in_later") == "5001"


def test_a_tablespace_that_is_dropped_during_a_base_backup(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site()
    make_space(site, "going")
    make_space(site, "staying")
    real = direct_base._start

    def start(*arguments: object) -> Lsn:
        found = real(*arguments)  # type: ignore[arg-type]  # passed on as they are
        site.cluster.sql("DROP TABLE in_going")
        site.cluster.sql("DROP TABLESPACE going")
        return found

    monkeypatch.setattr(direct_base, "_start", start)
    with site.archiving():
        site.back_up()
        site.caught_up()
    report, restored = site.restore("restored", LATEST)
    assert any("was dropped while the backup was taken" in note for note in report.notes), report.notes
    assert restored.sql("SELECT count(*) FROM in_staying") == "1000"
    assert restored.sql("SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'staying'").startswith(
        "../holdfast_tablespaces/"
    )


def test_a_tablespace_that_is_made_just_before_or_during_a_base_backup(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    site = make_site()
    real = direct_base._start

    def before(*arguments: object) -> Lsn:
        make_space(site, "before")
        return real(*arguments)  # type: ignore[arg-type]  # passed on as they are

    def during(*arguments: object) -> Lsn:
        found = real(*arguments)  # type: ignore[arg-type]  # passed on as they are
        make_space(site, "during")
        return found

    with site.archiving():
        monkeypatch.setattr(direct_base, "_start", before)
        with pytest.raises(BaseBackupFailed, match="a tablespace was made just before the backup began"):
            site.back_up()
        monkeypatch.setattr(direct_base, "_start", during)
        report = site.back_up().sources[0]
        site.caught_up()
    subprocess.run(["rm", "-rf", site.folder / "during"], check=True)  # nobody replays into it
    with site.open() as repository:
        snapshot = next(s for s in repository.snapshots().snapshots if s.id == report.snapshot)
        planned = plan_pitr(repository, "shop", "db", LATEST)
        assert planned.snapshot.id == snapshot.id
        restore_pitr(repository, planned, str(tmp_path / "data"))
    inside = {name: os.readlink(tmp_path / "data/pg_tblspc" / name) for name in os.listdir(tmp_path / "data/pg_tblspc")}
    assert all(target.startswith("../holdfast_tablespaces/") for target in inside.values()), inside
    assert len(inside) == 1


def test_tablespaces_in_place_and_a_data_directory_behind_a_link(make_site: MakeSite) -> None:
    site = make_site(settings="allow_in_place_tablespaces = on")
    site.cluster.sql("CREATE TABLESPACE inside LOCATION ''")
    site.cluster.sql("CREATE TABLE in_it TABLESPACE inside AS SELECT generate_series(1, 1000) AS n")
    site.cluster.stop("fast")
    real = site.folder / "server" / "real"
    site.cluster.data.rename(real)
    site.cluster.data.symlink_to(real)
    site.cluster.start()
    site.configure(site.cluster)
    with site.archiving():
        site.back_up()
        site.caught_up()
    _, restored = site.restore("restored", LATEST)
    assert restored.sql("SELECT count(*) FROM in_it") == "1000"
    assert oct(os.stat(restored.data).st_mode & 0o777) == "0o700"
    assert not Cluster.log(restored).count("FATAL:  data directory")
