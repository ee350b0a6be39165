"""Sites for tests of recovery (a server each, with its WAL archived into a repository), and a stack on an engine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from holdfast.repository.repository import Repository
from holdfast.services.access import init_repository_at
from holdfast.services.stacks import access_of
from holdfast.services.wal_setup import setup
from tests.support.clusters import Cluster, on_path, open_folder, programs_of
from tests.support.pitr import MakeSite, Site
from tests.support.shop import Stack, made_stack

MAJOR = int(os.environ.get("HOLDFAST_TEST_MAJOR", "15"))
"""The version that most tests use; another one by hand: HOLDFAST_TEST_MAJOR=14 pytest tests/system."""


@pytest.fixture
def open_folders() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder


@pytest.fixture
def make_site(open_folders: Path) -> Iterator[MakeSite]:
    """Makes sites: a server with small segments, set up, with a repository of its own; they end with the test."""
    programs = programs_of(MAJOR)
    clusters: list[Cluster] = []

    def build(
        *arguments: str,
        settings: str = "",
        via: str = "stream",
        ready: bool = True,
        repository: str = "",
    ) -> Site:
        folder = open_folders / f"site{len(clusters)}"
        folder.mkdir()
        cluster = Cluster.make(programs, folder / "server", "--wal-segsize=1", *arguments, settings=settings).start()
        clusters.append(cluster)
        site = Site(cluster, folder, via, repository=repository)
        site.configure(cluster)
        init_repository_at(access_of(site.config)).store.close()
        cluster.sql("CREATE TABLE t (n int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 100)")
        if ready:
            assert setup(site.config, site.source, apply=True).ready
        return site

    with on_path(programs):
        yield build
    for cluster in clusters:
        cluster.stop()
    for folder in {cluster.folder.parent for cluster in clusters}:
        for data in folder.glob("*/data"):
            Cluster(programs, data.parent, data).stop()


@pytest.fixture
def stack(
    engine_socket: str, engine_client: docker.DockerClient, postgres_image: str, tmp_path: Path
) -> Iterator[Stack]:
    with made_stack(engine_socket, engine_client, postgres_image, tmp_path) as made:
        yield made


@pytest.fixture
def repository(stack: Stack) -> Iterator[Repository]:
    with init_repository_at(access_of(stack.config)) as made:
        yield made
