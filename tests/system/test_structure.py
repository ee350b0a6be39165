"""What a drill says of a recovered server's structure: sound, damaged, or not checked and why."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from holdfast.model.base import BaseFacts, TargetKind
from holdfast.postgres.recovered import prove_base
from holdfast.postgres.server import host_server
from tests.support.clusters import Cluster, on_path, open_folder, programs_of

NOW = datetime(2026, 11, 25, tzinfo=UTC)
FACTS = BaseFacts(
    version=150000,
    system="1",
    timeline=1,
    start="0/1",
    stop="0/2",
    started=NOW,
    stopped=NOW,
    segment_size=1 << 20,
    checksums=False,
    directory="/data",
    how="direct",
    size=1,
    files=1,
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with open_folder() as folder:
        made = Cluster.make(programs_of(15), folder / "server").start()
        made.sql("CREATE TABLE t AS SELECT g AS n FROM generate_series(1, 1000) g; CREATE INDEX i ON t (n); CHECKPOINT")
        yield made
        made.stop()


def said(cluster: Cluster, programs: str) -> tuple[str, list[str]]:
    with on_path(programs):
        server = host_server("127.0.0.1", cluster.port, user="postgres", password=None)
        return prove_base(FACTS, server, TargetKind.CONSISTENT)


def test_without_the_program_nothing_is_claimed(cluster: Cluster, tmp_path: Path) -> None:
    for name in os.listdir(cluster.programs):
        if name != "pg_amcheck":
            (tmp_path / name).symlink_to(os.path.join(cluster.programs, name))
    assert said(cluster, str(tmp_path)) == ("structure not checked: there is no program pg_amcheck", [])


def test_a_damaged_index_is_a_problem(cluster: Cluster) -> None:
    assert said(cluster, cluster.programs) == ("structure checked by pg_amcheck", [])
    path = cluster.data / cluster.sql("SELECT pg_relation_filepath('i')")
    cluster.stop("fast")
    with open(path, "r+b") as file:  # two keys of the first leaf change places: page header 24, line pointers of 4
        file.seek(8192 + 24 + 40)
        pointers = file.read(8)
        file.seek(8192 + 24 + 40)
        file.write(pointers[4:] + pointers[:4])
    cluster.start()
    words, problems = said(cluster, cluster.programs)
    assert words == "structure checked"
    assert len(problems) == 1
    assert "item order invariant violated" in problems[0]
