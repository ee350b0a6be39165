"""A table of more than one segment file (1 GiB each): base backups, pages checked, recovery.

Takes about three minutes and 8 GiB: `make test ARGS="-m soak tests/system/test_pitr_large.py"`.
"""

from __future__ import annotations

import os

import pytest

from holdfast.services.drill import drill
from holdfast.services.wal_setup import setup
from tests.support.pitr import LATEST, MakeSite, now

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]
BLOCK = 8192
BEHIND = 1_500 * BLOCK
"""Where the second segment file is damaged, bytes."""


@pytest.mark.skipif(os.geteuid() != 0, reason="reads another user's files: needs root")
def test_a_table_of_more_than_one_segment_file(make_site: MakeSite) -> None:
    site = make_site("--data-checksums", settings="max_wal_size = 4GB\nautovacuum = off", ready=False)
    cluster = site.cluster
    cluster.sql("CREATE TABLE big AS SELECT g AS n, repeat(md5(g::text), 30) AS x FROM generate_series(1, 1150000) g")
    cluster.sql("VACUUM FREEZE big")
    cluster.sql("CHECKPOINT")
    assert setup(site.config, site.source, apply=True).ready
    path = cluster.data / cluster.sql("SELECT pg_relation_filepath('big')")
    second = path.with_name(f"{path.name}.1")
    assert second.stat().st_size > BEHIND
    with site.archiving():
        assert not site.back_up().sources[0].notes
        cluster.sql("UPDATE big SET x = 'changed' WHERE n > 1149990")
        with open(second, "r+b") as file:
            file.seek(BEHIND + 4000)
            byte = file.read(1)
            file.seek(BEHIND + 4000)
            file.write(bytes([byte[0] ^ 1]))
        site.more = "compare: none"  # the server itself would stumble over the page
        site.configure(cluster)
        report = site.back_up().sources[0]
        site.more = ""
        site.configure(cluster)
        with open(second, "r+b") as file:
            file.seek(BEHIND + 4000)
            file.write(byte)
        number = (1 << 30) // BLOCK + BEHIND // BLOCK
        assert [note for note in report.notes if "damaged" in note] == [
            f"{second.relative_to(cluster.data)}: page {number} is damaged on the server: its checksum is wrong"
        ]
        third = site.back_up().sources[0]
        assert not third.notes
        assert third.files_unmodified > 900
        site.caught_up()
    with site.open() as repository:
        proof = drill(site.config, repository, "shop", now=now)
    assert proof.passed, proof
    assert "1,150,100 rows, contents digested" in proof.sources[0].compared
    _, restored = site.restore("restored", LATEST)
    assert restored.sql("SELECT count(*), sum(n) FROM big") == f"1150000|{1150000 * 1150001 // 2}"
    restored.stop()
