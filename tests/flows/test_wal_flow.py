"""The flow that looks after a WAL archive: on a real server whose spool is filled by its archive_command."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.operate.catalog import deployments
from flows.backup import backup
from flows.wal import wal
from holdfast.model.wal import parse_wal_name
from holdfast.services.access import init_repository_at
from holdfast.services.stacks import access_of
from holdfast.services.wal_setup import setup
from tests.support.clusters import Cluster, on_path, open_folder, programs_of
from tests.support.pitr import Site


@pytest.fixture
def pitr_site() -> Iterator[Site]:
    programs = programs_of(15)
    with open_folder() as folder, on_path(programs):
        cluster = Cluster.make(programs, folder / "server", "--wal-segsize=1", settings="archive_mode = on").start()
        site = Site(cluster, folder, "archive")
        site.configure(cluster)
        init_repository_at(access_of(site.config)).store.close()
        assert setup(site.config, site.source, apply=True).ready
        yield site
        cluster.stop()


def test_it_ships_looks_and_mends_a_gap(pitr_site: Site) -> None:
    config = str(pitr_site.folder / "holdfast.yaml")
    backup("shop", config=config)
    spool = Path(pitr_site.source.wal.spool)
    deadline = time.monotonic() + 20
    while len(waiting := sorted(path for path in spool.iterdir() if parse_wal_name(path.name))) < 3:
        assert time.monotonic() < deadline
        pitr_site.cluster.sql("SELECT pg_current_xact_id()")
        pitr_site.cluster.sql("SELECT pg_switch_wal()")
        time.sleep(0.2)
    for path in waiting[:-1]:
        path.unlink()  # somebody made room
    found = wal("shop", config=config)
    assert not [finding for status in found for finding in status.findings if finding.critical]
    assert len(found[0].bases) == 2, "the base backup that has lost its WAL, and the one that was taken for it"
    assert [base.recoverable for base in found[0].bases] == [False, True]


def test_it_is_served_for_stacks_that_archive(pitr_site: Site) -> None:
    made = deployments(pitr_site.config, str(pitr_site.folder / "holdfast.yaml"))
    assert "wal/shop" in {f"{one.flow_name}/{one.name}" for one in made}
