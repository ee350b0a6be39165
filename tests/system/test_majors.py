"""What differs between major versions of PostgreSQL, on the oldest and a recent one: archive_command, stream, dumps."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from holdfast.config.loading import load
from holdfast.model.wal import Lsn, WalSegment
from holdfast.services.access import init_repository_at, open_repository_at
from holdfast.services.bases import bases_of
from holdfast.services.drill import drill
from holdfast.services.stacks import access_of, back_up
from holdfast.services.wal_setup import setup
from tests.support.clusters import Cluster, on_path, open_folder, programs_of
from tests.support.pitr import LATEST, Site, at, fill, now, server_time


@pytest.fixture(scope="module", params=[14, 17])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """A server that archives by archive_command, with a role, two databases and base backups over the stream."""
    programs = programs_of(request.param)
    with open_folder() as folder, on_path(programs):
        cluster = Cluster.make(programs, folder / "server", "--wal-segsize=1", settings="archive_mode = on").start()
        made = Site(cluster, folder, via="archive", more="read: stream")
        made.configure(cluster)
        init_repository_at(access_of(made.config)).store.close()
        cluster.sql("CREATE TABLE t AS SELECT g AS n, md5(g::text) AS x FROM generate_series(1, 3000) g")
        cluster.sql("CREATE ROLE clerk LOGIN PASSWORD 'scram it'")
        cluster.sql("CREATE DATABASE books OWNER clerk")
        cluster.sql("CREATE TABLE shelf (n int); INSERT INTO shelf VALUES (1), (2)", "books")
        assert setup(made.config, made.source, apply=True).ready
        try:
            yield made
        finally:
            made.cluster.stop()


def test_an_archive_command_and_the_stream_recover_to_an_instant(site: Site) -> None:
    cluster = site.cluster
    with site.archiving():
        site.back_up()
        cluster.sql("INSERT INTO t VALUES (3001, 'kept')")
        time.sleep(0.05)
        instant = server_time(cluster)
        time.sleep(0.05)
        cluster.sql("INSERT INTO t VALUES (3002, 'lost')")
        site.caught_up()
    with site.open() as repository:
        ((_, facts),) = bases_of(repository, repository.snapshots().snapshots, strict=True)
        proof = drill(site.config, repository, "shop", now=now)
    assert facts.how == "stream"
    assert proof.passed, proof
    assert "2 databases, 2 tables, 3,002 rows, contents digested" in proof.sources[0].compared
    assert "structure checked by pg_amcheck" in proof.sources[0].compared
    _, restored = site.restore("by-time", at(instant))
    try:
        assert restored.sql("SELECT max(n) FROM t") == "3001"
        assert restored.sql("SELECT sum(n) FROM shelf", "books") == "3"
    finally:
        restored.stop()


def test_a_dump_is_proven_by_a_server_of_its_version(site: Site) -> None:
    document = site.folder / "dump.yaml"
    whole = (site.folder / "holdfast.yaml").read_text()
    document.write_text(whole[: whole.index("method:")].rstrip() + "\n        compare: digest\n")
    config = load(str(document))
    with open_repository_at(access_of(config)) as repository:
        report = back_up(config, repository, "shop", now=now)
        proof = drill(config, repository, "shop", report.point, now=now)
    assert proof.passed, proof
    assert "2 databases, 2 tables" in proof.sources[0].compared
    assert "contents digested, " in proof.sources[0].compared


@pytest.mark.parametrize("major", [14, 15])
def test_a_receiver_begins_where_its_slot_is_also_on_a_new_timeline(major: int) -> None:
    """Before 15 one with an empty spool began at the server's present end: what lay before was never asked for."""
    programs = programs_of(major)
    with open_folder() as folder, on_path(programs):
        cluster = Cluster.make(programs, folder / "server", "--wal-segsize=1").start()
        site = Site(cluster, folder)
        site.configure(cluster)
        init_repository_at(access_of(site.config)).store.close()
        restored = None
        try:
            assert setup(site.config, site.source, apply=True).ready
            place = Lsn.parse(cluster.sql("SELECT restart_lsn FROM pg_replication_slots"))
            fill(cluster)
            with site.archiving(look=100):
                site.back_up()
                site.caught_up()
            assert site.status().timelines[0].stretches[0].startswith(WalSegment.holding(1, place, 1 << 20).name)
            cluster.stop("fast")
            _, restored = site.restore("promoted", LATEST)
            site.configure(restored, spool="spool-2")
            assert setup(site.config, site.source, apply=True).ready
            fill(restored)
            with site.archiving(look=100):
                site.caught_up()
            assert {finding.name for finding in site.status().findings if "disk" not in finding.name} == {
                "slot-inactive"
            }
        finally:
            cluster.stop()
            if restored is not None:
                restored.stop()
