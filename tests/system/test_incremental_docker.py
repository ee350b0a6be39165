"""Incremental base backups of a server of version 18 in a container: taken and combined by its image's own programs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from holdfast.services.access import open_repository_at
from holdfast.services.drill import drill
from holdfast.services.stacks import access_of, back_up
from tests.support.image18 import image_18
from tests.system.test_pitr_docker import Place, made_place, now

pytestmark = pytest.mark.engine


@pytest.fixture
def place(engine_socket: str, postgres_image: str, tmp_path: Path) -> Iterator[Place]:
    with (
        contextlib.closing(docker.DockerClient(base_url=engine_socket)) as client,
        image_18(client, postgres_image) as image,
        made_place(client, engine_socket, image, tmp_path, "incremental: 3") as made,
    ):
        yield made


def test_a_chain_of_a_container_without_a_wal_archive(place: Place) -> None:
    place.psql("ALTER SYSTEM SET summarize_wal = on")
    place.psql("SELECT pg_reload_conf()")
    place.psql("CREATE TABLE t AS SELECT g AS n, repeat('x', 50) AS note FROM generate_series(1, 20000) g")
    with open_repository_at(access_of(place.config)) as repository:
        first = back_up(place.config, repository, "shop", now=now).sources[0]
        place.psql("UPDATE t SET note = 'changed' WHERE n = 77")
        second = back_up(place.config, repository, "shop", now=now).sources[0]
        assert not second.notes, second.notes
        assert second.bytes_processed < first.bytes_processed
        proof = drill(place.config, repository, "shop", now=now)
    assert proof.passed, proof
    assert proof.sources[0].compared.startswith("combined of 2 base backups"), proof
