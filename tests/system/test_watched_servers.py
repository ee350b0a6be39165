"""Servers that are only watched at the freeze: one that fails there keeps nobody from being backed up."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from holdfast.model.ids import new_point_id
from holdfast.services.instant import Databases
from tests.support.clusters import Cluster, on_path, open_folder, programs_of
from tests.support.pitr import Site, now

_OURS = "FROM pg_stat_activity WHERE application_name = 'holdfast'"


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A server that is in no backup."""
    programs = programs_of(15)
    with open_folder() as folder, on_path(programs):
        cluster = Cluster.make(programs, folder / "server").start()
        made = Site(cluster, folder)
        made.configure(cluster)
        yield made
        cluster.stop()


def test_a_watched_server_that_fails_at_the_freeze_fails_nothing(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    first = site.source.spec
    second = first.model_copy(update={"name": "second"})
    with Databases(site.config, [first, second], [], new_point_id(now())) as databases:
        databases.open()
        site.cluster.sql(f"SELECT pg_terminate_backend(pid) {_OURS} ORDER BY backend_start LIMIT 1")
        with caplog.at_level(logging.WARNING):
            found = databases.take()
            databases.archive_points()
    assert set(found["wal_positions"]) == {second.label}  # type: ignore[call-overload]  # a plain mapping
    assert set(found["restore_points"]) == {second.label}  # type: ignore[call-overload]  # the same
    assert any(f"{first.label}: its place at the freeze is not known" in record.message for record in caplog.records)


def test_what_a_watched_server_is_asked_is_bounded_in_time(site: Site) -> None:
    with Databases(site.config, [site.source.spec], [], new_point_id(now())) as databases:
        databases.open()
        assert site.cluster.sql(f"SELECT query {_OURS}") == "SET statement_timeout = 5000"
