"""The monitor on a real server whose WAL is archived, and then is not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from holdfast.services.access import init_repository_at
from holdfast.services.monitor import MonitorReport, watch
from holdfast.services.stacks import access_of
from holdfast.services.wal_setup import setup
from tests.support.clusters import Cluster, on_path, open_folder, programs_of
from tests.support.pitr import Site


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Site]:
    monkeypatch.setenv("HOLDFAST_STATE", str(tmp_path / "state"))
    programs = programs_of(16)
    with open_folder() as folder, on_path(programs):
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


def test_wal_that_is_behind_is_told_once_and_its_end_once(site: Site) -> None:
    with site.archiving():
        site.back_up()
        site.cluster.sql("CREATE TABLE t (n int)")
        site.caught_up()
        assert not {f.kind for f in look(site).findings if f.kind.startswith("wal-")}
    # Nobody receives any more, and production writes on.
    site.cluster.sql("INSERT INTO t SELECT generate_series(1, 1000)")
    time.sleep(2.5)
    started = {f.kind: f for f in look(site).started}
    assert {"wal-behind", "wal-slot-inactive"} <= set(started)
    assert started["wal-behind"].subject == "shop db"
    assert "a disaster now would cost the last" in started["wal-behind"].found
    assert not look(site).started
    with site.archiving():
        site.caught_up()
        assert {"wal-behind", "wal-slot-inactive"} <= {f.kind for f in look(site).ended}
    site.cluster.stop()
    assert "wal-server-unreachable" in {f.kind for f in look(site).started}
