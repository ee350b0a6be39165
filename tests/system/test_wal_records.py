"""Looking into WAL that a real server wrote: every transaction and restore point is found where it is."""

from __future__ import annotations

from pathlib import Path

from holdfast.model.wal import Lsn, WalKind, parse_wal_name
from holdfast.postgres.walpages import Content
from holdfast.postgres.walrecords import last_record, restore_point, transaction_end
from holdfast.postgres.walreplay import may_matter, settings_changed
from tests.support.pitr import MakeSite

MIB = 1 << 20


def test_records_are_found_across_pages_and_segments(make_site: MakeSite) -> None:
    site = make_site(settings="wal_keep_size = '100MB'\nmax_prepared_transactions = 2", ready=False)
    cluster = site.cluster
    cluster.sql("CREATE TABLE q (n int, x text)")
    ends: dict[int, Lsn] = {}
    for number in range(30):  # of every length, so that some lie across pages, and some across segments
        one = f"BEGIN INSERT INTO t VALUES (i * -1000 - {number}); EXCEPTION WHEN others THEN NULL; END"  # noqa: S608  a number of ours
        many = f"FOR i IN 1..{number * 20} LOOP {one}; END LOOP"
        cluster.sql(f"INSERT INTO q SELECT g, md5(g::text) FROM generate_series(1, {700 + number * 31}) g")  # noqa: S608  a number of ours
        xid = cluster.sql(f"BEGIN; DO $$ BEGIN {many}; END $$; SELECT pg_current_xact_id(); COMMIT")
        ends[int(xid)] = Lsn.parse(cluster.sql("SELECT pg_current_wal_insert_lsn()"))
    prepared = int(
        cluster.sql("BEGIN; INSERT INTO t VALUES (-1); SELECT pg_current_xact_id(); PREPARE TRANSACTION 'p'")
    )
    cluster.sql("ROLLBACK PREPARED 'p'")
    ends[prepared] = Lsn.parse(cluster.sql("SELECT pg_current_wal_insert_lsn()"))
    named = Lsn.parse(cluster.sql("SELECT pg_create_restore_point('here')"))
    cluster.sql("ALTER SYSTEM SET max_connections = 123")
    cluster.sql("SELECT pg_switch_wal()")
    cluster.stop("fast")
    cluster.start()
    cluster.stop("fast")
    contents = _contents(site.cluster.data / "pg_wal")
    assert len(contents) > 3
    for number, end in ends.items():
        found = transaction_end(contents, number)
        assert found is not None, number
        assert 0 <= end - found.end < 64, (number, end, found)
        assert transaction_end(contents, number, since=found.begin + 1) is None
    point = restore_point(contents, "here")
    assert point is not None
    assert 0 <= named - point.end < 8
    assert restore_point(contents, "her") is None
    assert transaction_end(contents, 4_000_000) is None
    (changed,) = [change for change in settings_changed(contents) if change.values["max_connections"] == 123]
    assert not changed.minimal
    assert any(may_matter(memoryview(content)) for begin, content in contents if begin <= changed.record.begin)
    last = last_record(contents)
    checkpoint = cluster.run("pg_controldata", "-D", str(cluster.data)).partition("REDO location:")[2].split()[0]
    assert last is not None
    assert str(last.begin) == checkpoint, "the one of the shutdown"


def _contents(folder: Path) -> list[Content]:
    found = []
    for path in sorted(folder.iterdir()):
        name = parse_wal_name(path.name)
        if name is not None and name.kind is WalKind.SEGMENT:
            content, begin = path.read_bytes(), name.segment(MIB).begin
            if int.from_bytes(content[8:16], "little") == begin:  # not one that waits to be used again
                found.append((int(begin), content))
    return found
