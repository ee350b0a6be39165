"""Base backups read directly from a server's files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.errors import SourceUnreadable, WalNotReady
from holdfast.model.base import RecoveryTarget, TargetKind
from holdfast.repository.archive import TreeArchiver
from holdfast.repository.pending import LateFile, PendingFile
from holdfast.services import direct_base
from holdfast.services.access import init_repository_at
from holdfast.services.bases import base_source, bases_of
from holdfast.services.direct_base import DirectBase
from holdfast.services.drill import drill
from holdfast.services.pitr import restore_pitr
from holdfast.services.pitr_plan import plan_pitr
from holdfast.services.restore import restore_directory
from holdfast.services.stacks import access_of
from holdfast.services.wal_setup import setup
from tests.support.clusters import Cluster, on_path, open_folder, open_up, programs_of
from tests.support.filesystems import unreadable
from tests.support.pitr import Site, now

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="reads another user's files: needs root")
LATEST = RecoveryTarget(TargetKind.LATEST)


@pytest.fixture(scope="module", params=[15, *(pytest.param(major, marks=pytest.mark.soak) for major in (14, 17, 18))])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """A server with checksums, a tablespace, an unlogged table, and some tables that never change."""
    programs = programs_of(request.param)
    with open_folder() as folder, on_path(programs):
        cluster = Cluster.make(programs, folder / "server", "--wal-segsize=1", "--data-checksums").start()
        made = Site(cluster, folder)
        made.configure(cluster)
        init_repository_at(access_of(made.config)).store.close()
        space = folder / "space"
        space.mkdir()
        open_up(space)
        cluster.sql(f"CREATE TABLESPACE fast LOCATION '{space}'")
        cluster.sql(
            "CREATE TABLE moving TABLESPACE fast AS SELECT g AS n, md5(g::text) AS x FROM generate_series(1, 20000) g"
        )
        cluster.sql("CREATE TABLE still AS SELECT g AS n, md5(g::text) AS x FROM generate_series(1, 100000) g")
        cluster.sql("CREATE UNLOGGED TABLE fleeting AS SELECT g AS n FROM generate_series(1, 1000) g")
        cluster.sql("VACUUM FREEZE")  # what is read for the first time is written once more: its hint bits
        cluster.sql("CHECKPOINT")
        assert setup(made.config, made.source, apply=True).ready
        yield made
        cluster.stop()


def test_unchanged_files_are_not_read_and_changed_pages_cost_little(site: Site) -> None:
    with site.archiving():
        first = site.back_up().sources[0]
        site.cluster.sql("UPDATE moving SET x = 'new' WHERE n % 4000 = 0")
        site.cluster.sql("CHECKPOINT")
        second = site.back_up().sources[0]
        site.caught_up()
    assert first.files_unmodified == 0
    assert second.files_unmodified > 800
    assert second.files_changed < 100
    assert second.bytes_added < first.bytes_added * 0.1
    assert not first.notes
    assert not second.notes
    with site.open() as repository:
        found = bases_of(repository, repository.snapshots().snapshots, strict=True)
    assert [facts.how for _, facts in found] == ["direct", "direct"]
    assert [space.location for space in found[0][1].tablespaces] == [str(site.folder / "space")]


def test_all_is_read_before_the_server_is_told_that_it_ended(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is read after pg_backup_stop may hold what a recovery to the backup's end must not see."""
    unread: list[int] = []
    archivers: list[TreeArchiver] = []

    class Watched(TreeArchiver):
        def __init__(self, *arguments: Any, **more: Any) -> None:
            super().__init__(*arguments, **more)
            archivers.append(self)

    def stop(*arguments: Any) -> Any:
        nodes = [node for each in (*archivers[-1]._closing, *archivers[-1]._stack) for node in each.nodes]
        waiting = [node for node in nodes if isinstance(node, PendingFile) and not isinstance(node, LateFile)]
        unread.append(sum(not node.done() for node in waiting))
        return real(*arguments)

    real = direct_base._stop
    monkeypatch.setattr(direct_base, "_stop", stop)
    monkeypatch.setattr("holdfast.services.backup.TreeArchiver", Watched)
    with site.archiving():
        site.back_up()
        site.caught_up()
    assert unread == [0]


def test_what_must_not_be_copied_is_not(site: Site, tmp_path: Path) -> None:
    with site.open() as repository:
        restore_directory(repository, repository.snapshots().snapshots[-1], tmp_path / "plain")
    plain = tmp_path / "plain"
    assert not list(plain.rglob("postmaster.pid"))
    assert sorted(os.listdir(plain / "pg_wal")) == ["archive_status"]
    assert (plain / "backup_label").read_text().startswith("START WAL LOCATION: ")
    assert (plain / "tablespace_map").exists()
    path = site.cluster.sql("SELECT pg_relation_filepath('fleeting')")
    assert not (plain / path).exists()
    assert (plain / f"{path}_init").exists()
    assert (plain / site.cluster.sql("SELECT pg_relation_filepath('moving')")).exists()


def test_a_drill_proves_it(site: Site) -> None:
    with site.open() as repository:
        proof = drill(site.config, repository, "shop", now=now)
    assert proof.passed, proof
    assert "2 tables, 120,000 rows, contents digested" in proof.sources[0].compared
    assert "structure checked by pg_amcheck" in proof.sources[0].compared


def test_tablespaces_go_where_they_are_wanted_and_never_back(site: Site) -> None:
    oid = int(site.cluster.sql("SELECT oid FROM pg_tablespace WHERE spcname = 'fast'"))
    elsewhere = site.folder / "elsewhere"
    folder = site.folder / "restored"
    folder.mkdir()
    with site.open() as repository:
        planned = plan_pitr(repository, "shop", "db", LATEST)
        report = restore_pitr(repository, planned, str(folder / "data"), tablespaces={oid: str(elsewhere)})
    assert any(str(elsewhere) in note for note in report.notes)
    open_up(folder)
    restored = Cluster(site.cluster.programs, folder, folder / "data").start()
    restored.wait_recovered()
    try:
        assert restored.sql("SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'fast'") == str(
            elsewhere
        )
        assert restored.sql("SELECT count(*) FROM moving WHERE x = 'new'") == "5"
    finally:
        restored.stop()
        shutil.rmtree(folder)


def test_a_damaged_page_is_named_and_a_false_alarm_is_not(site: Site) -> None:
    site.cluster.sql("CREATE TABLE hurt AS SELECT g AS n FROM generate_series(1, 5000) g")
    site.cluster.sql("CHECKPOINT")
    path = site.cluster.data / site.cluster.sql("SELECT pg_relation_filepath('hurt')")
    with open(path, "r+b") as file:
        file.seek(3 * 8192 + 4000)
        byte = file.read(1)
        file.seek(3 * 8192 + 4000)
        file.write(bytes([byte[0] ^ 1]))
    try:
        # Counted from PostgreSQL's own cache, where the page is still whole: only the file is damaged.
        with site.archiving():
            report = site.back_up().sources[0]
    finally:
        with open(path, "r+b") as file:
            file.seek(3 * 8192 + 4000)
            file.write(byte)
    assert [note for note in report.notes if "damaged" in note] == [
        f"{path.relative_to(site.cluster.data)}: page 3 is damaged on the server: its checksum is wrong"
    ]


def test_a_file_that_cannot_be_read_fails_it_and_nothing_is_kept(site: Site) -> None:
    # In a database that nobody connects to: the server itself does not stumble over it.
    oid = site.cluster.sql("SELECT oid FROM pg_database WHERE datname = 'template0'")
    path = f"base/{oid}/2619"
    with site.open() as repository:
        before = [snapshot.id for snapshot in repository.snapshots().snapshots]
    with (
        site.archiving(),
        unreadable(site.cluster.data / path),
        pytest.raises(SourceUnreadable, match=f"{path}: cannot be read"),
    ):
        site.back_up()
    with site.open() as repository:
        assert [snapshot.id for snapshot in repository.snapshots().snapshots] == before


def test_a_directory_of_another_server_is_not_taken_for_it(site: Site) -> None:
    with base_source(site.config, site.source.spec) as source:
        assert isinstance(source, DirectBase)
    pid = site.cluster.data / "postmaster.pid"
    text = pid.read_text()
    lines = text.splitlines()
    lines[2] = str(int(lines[2]) - 3600)
    pid.write_text("\n".join(lines))
    try:
        document = site.folder / "holdfast.yaml"
        document.write_text(document.read_text().replace("method: base", "method: base\n        read: direct"))
        site.reload()
        with pytest.raises(SourceUnreadable, match="another server"), base_source(site.config, site.source.spec):
            pass
    finally:
        pid.write_text(text)


def test_the_stream_refuses_tablespaces_before_it_begins(site: Site) -> None:
    document = site.folder / "holdfast.yaml"
    document.write_text(document.read_text().replace("read: direct", "read: stream"))
    site.reload()
    with pytest.raises(WalNotReady, match="tablespaces"):
        site.back_up()
