"""docs/restore-by-hand.md is executed, block by block, with restic and PostgreSQL's own programs, without Holdfast."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from deployments.local.postgres import server_programs
from holdfast.engine.client import connect
from holdfast.engine.volumes import find_volume
from holdfast.postgres.dump import PostgresDump
from holdfast.postgres.scratch import scratch_server
from holdfast.postgres.server import Server
from holdfast.repository.repository import Repository
from holdfast.services.backup import take_backup
from holdfast.sources.tree import TreeSource
from tests.docs.blocks import blocks
from tests.repository.conftest import Restic
from tests.repository.conftest import referee as referee
from tests.support.repositories import PASSWORD, new_repository
from tests.support.trees import build_sample, describe

PAGE = "docs/restore-by-hand.md"


@pytest.fixture
def major(monkeypatch: pytest.MonkeyPatch) -> int:
    programs = server_programs()
    monkeypatch.setenv("PATH", f"{programs.folder}:{os.environ['PATH']}")
    return int(programs.version.split(".")[0])


@pytest.fixture
def server(major: int) -> Iterator[Server]:
    with scratch_server(major * 10_000, "postgres") as made:
        made.run(
            "psql", ["-X", "-q", "--dbname", "postgres"], [b"CREATE ROLE keeper; CREATE DATABASE shop OWNER keeper"]
        )
        made.run("psql", ["-X", "-q", "--dbname", "shop"], [b"CREATE TABLE t AS SELECT generate_series(1, 500) n"])
        yield made


@pytest.fixture
def repository(tmp_path: Path, server: Server) -> Repository:
    build_sample(tmp_path / "files", files=12)
    made = new_repository(tmp_path / "repository")
    files = TreeSource(tmp_path / "files", label="volume:shop_uploads")
    take_backup(made, "shop", [files, PostgresDump(server, label="postgres:shop-db")])
    return made


@pytest.mark.engine
def test_the_page(
    tmp_path: Path,
    repository: Repository,
    referee: Restic,
    major: int,
    engine_socket: str,
    engine_client: docker.DockerClient,
) -> None:
    referee(tmp_path / "repository", "snapshots")  # restic is there, or the test is skipped
    (tmp_path / "password").write_text(PASSWORD)
    setup, *steps = blocks(PAGE, "sh")
    setup = setup.replace("/srv/backup", str(tmp_path / "repository"))
    setup = setup.replace("/root/holdfast-password", str(tmp_path / "password"))
    said = ""
    with scratch_server(major * 10_000, "postgres") as blank:
        host = blank._address[1]
        env = {
            **os.environ,
            "DOCKER_HOST": engine_socket,
            "PGHOST": host,
            "RESTIC_CACHE_DIR": str(tmp_path / "cache"),
        }
        for step in steps:
            script = "set -u\n" + setup + step.replace("/tmp/", f"{tmp_path}/")
            strict = "set -e\n" if "globals.sql" not in step else ""  # psql says that `postgres` is there already
            done = subprocess.run(["bash", "-c", strict + script], env=env, capture_output=True, text=True, check=False)
            assert done.returncode == 0, (step, done.stderr + done.stdout)
            said += done.stdout
        rows = blank.run("psql", ["-X", "-A", "-t", "--dbname", "shop", "--command", "SELECT count(*) FROM t"])
    assert rows.strip() == b"500"
    assert "no errors were found" in said
    assert "damaged" not in said
    assert describe(tmp_path / "uploads" / "data") == describe(tmp_path / "files")
    with connect(engine_socket) as engine:
        mountpoint = Path(find_volume(engine, "shop_uploads").mountpoint)
        assert describe(mountpoint) == describe(tmp_path / "files")
    engine_client.volumes.get("shop_uploads").remove()
