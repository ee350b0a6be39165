"""Incremental base backups of a server of version 18 in a container: taken and combined by its image's own programs."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator

import docker
import pytest

from holdfast.config.loading import load
from holdfast.services.access import init_repository_at, open_repository_at
from holdfast.services.drill import drill
from holdfast.services.stacks import access_of, back_up
from tests.support.image18 import image_18
from tests.system.test_pitr_docker import Place, now

pytestmark = pytest.mark.engine


@pytest.fixture
def place(engine_socket: str, postgres_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    mark = secrets.token_hex(4)
    folder = tmp_path_factory.mktemp("docker-incremental")
    password = folder / "password"
    password.write_text("correct horse\n")
    password.chmod(0o600)
    document = folder / "holdfast.yaml"
    document.write_text(
        f"""
version: 1
repository: {{url: {folder / "repository"}, password_file: {password}}}
engine: {{url: {engine_socket}}}
stacks:
  shop:
    postgres:
      - {{name: db, container: db-{mark}, method: base, incremental: 3}}
"""
    )
    client = docker.DockerClient(base_url=engine_socket)
    with contextlib.closing(client), image_18(client, postgres_image) as image:
        config = load(str(document))
        made = Place(client, engine_socket, config, str(document), f"db-{mark}", f"data-{mark}", image)
        client.volumes.create(made.volume)
        try:
            made.start(made.container, made.volume)
            init_repository_at(access_of(config)).store.close()
            yield made
        finally:
            for container in client.containers.list(all=True):
                if mark in (container.name or ""):
                    container.remove(force=True, v=True)
            client.volumes.get(made.volume).remove(force=True)


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
