"""Databases and volumes of one instant: a writer that writes to both in step finds both in step again.

With a base backup and its WAL, which takes a minute: `pytest -m "soak or engine" tests/stacks/test_instant.py`.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from holdfast.engine.client import connect
from holdfast.engine.exec import ContainerRunner
from holdfast.model.wal import Lsn
from tests.stacks.conftest import HOLDFAST, Project, wait_for
from tests.stacks.test_rebuild import psql, wait_for_server

pytestmark = pytest.mark.engine

WRITER = r"""
[ -e /data/log ] && sleep 100000  # what was restored is looked at as it is
n=0; while :; do n=$((n+1)); echo "INSERT INTO steps VALUES ($n);"; echo "\\! echo $n >> /data/log"; done |
psql -X -q -h %s -U boss -d shop
"""


def start_writer(project: Project, image: str) -> str:
    """A server that has the volume, too, and a container that writes a number to the database, then to the volume."""
    network = f"{project.name}_default"
    project.client.networks.create(network, labels=project.labels(), internal=True)
    volume = project.volume("data", **{"holdfast.enable": "true", "holdfast.quiesce": "pause"})
    (project.mountpoint(volume) / "much").write_bytes(bytes(range(256)) * 200_000)
    project.mountpoint(volume).chmod(0o777)
    db = f"{project.name}-db-1"
    project.container(
        "db",
        image=image,
        network_mode=network,
        environment={"POSTGRES_HOST_AUTH_METHOD": "trust", "POSTGRES_USER": "boss", "POSTGRES_DB": "shop"},
        volumes={project.volume("pgdata"): {"bind": "/var/lib/postgresql/data"}, volume: {"bind": "/exports"}},
    )
    wait_for_server(project.url, db)
    psql(project.url, db, b"CREATE TABLE steps (n int PRIMARY KEY);")
    project.container(
        "app",
        image=image,
        network_mode=network,
        entrypoint=["sh", "-c", WRITER % db],
        labels={"holdfast.postgres": "false"},  # its image is a server's, and no server runs
        volumes={volume: {"bind": "/data"}},
    )
    wait_for(lambda: (project.mountpoint(volume) / "log").exists())
    return volume


def dumped_steps(project: Project, folder: Path) -> list[int]:
    """The numbers in the dump itself, as pg_restore gives them."""
    archive = (folder / "databases" / "shop.dump").read_bytes()
    with connect(project.url) as engine:
        runner = ContainerRunner(engine, f"{project.name}-db-1")
        script = runner.run(["pg_restore", "--data-only", "--table=steps", "--file=-"], stdin=[archive])
    return sorted(int(line) for line in script.decode().splitlines() if line.isdigit())


def test_a_dump_and_a_volume_are_of_one_instant(project: Project, postgres_image: str, tmp_path: Path) -> None:
    volume = start_writer(project, postgres_image)
    (report,) = json.loads(project.run("backup", project.name, "--json"))
    held = next(source["held"] for source in report["sources"] if source["source"] == f"volume:{volume}")
    # The server's own container writes the volume, too: it is held, and was asked before.
    assert set(held) == {f"{project.name}-app-1", f"{project.name}-db-1"}
    project.run("restore", "latest", "--source", f"volume:{volume}", "--to", str(tmp_path / "volume"))
    project.run("restore", "latest", "--source", "postgres:db", "--to", str(tmp_path / "dump"))
    files = [int(line) for line in (tmp_path / "volume" / "log").read_text().split()]
    rows = dumped_steps(project, tmp_path / "dump")
    assert files == list(range(1, len(files) + 1))
    # The writer may have been held between its two steps.
    assert rows in (files, [*files, len(files) + 1])
    # What belongs together says so: the same place in the WAL in both manifests.
    freeze = manifest(project, f"volume:{volume}")["facts"]["freeze"]
    dump = manifest(project, "postgres:db")["facts"]
    assert freeze["wal_positions"] == {"postgres:db": dump["lsn"]}
    assert dump["instant"]
    assert max(int(psql(project.url, f"{project.name}-db-1", b"SELECT count(*) FROM steps")), 1) > len(rows)


def manifest(project: Project, source: str) -> Any:
    from holdfast.config.access import resolve_access
    from holdfast.services.access import open_repository_at
    from holdfast.services.restore import open_snapshot

    access = resolve_access(repo=str(project.folder / "repository"), password_file=str(project.folder / "password"))
    with open_repository_at(access) as repository:
        snapshot = [s for s in repository.snapshots().snapshots if s.source == source][-1]
        found = open_snapshot(repository, snapshot).manifest
    assert found is not None
    return {"facts": found.facts}


@pytest.mark.soak
def test_a_base_backup_is_recovered_to_the_instant_of_the_volumes(project: Project, postgres_image: str) -> None:
    volume = start_writer(project, postgres_image)
    db = f"{project.name}-db-1"
    config = project.folder / "holdfast.yaml"
    config.write_text(
        f"version: 1\nrepository: {{url: {project.folder}/repository, password_file: {project.folder}/password}}\n"
        f"stacks:\n  {project.name}:\n    project: {project.name}\n    quiesce: pause\n    volumes: [{volume}]\n"
        f"    postgres: [{{name: db, container: {db}, user: boss, method: base,"
        f" wal: {{spool: {project.folder}/spool, partial_seconds: 1}}}}]\n"
    )
    project.run("wal", "setup", "--apply", "--config", str(config))
    archiver = subprocess.Popen([HOLDFAST, "wal", "run", "--config", str(config)], env=project.env)
    try:
        project.run("backup", "--config", str(config))
        point = manifest(project, f"volume:{volume}")["facts"]["freeze"]["restore_points"]["postgres:db"]
        wait_for(lambda: Lsn.parse(point["lsn"]) < archived_to(project, config), 30)
    finally:
        archiver.terminate()
        archiver.wait()
    assert "recovers in it" in project.run("restore", project.name, "--dry-run", "--replace")
    project.destroy()
    said = project.run("restore", project.name)
    assert f"recovered to name {point['name']}" in said
    assert "canary committed" in said
    files = [int(line) for line in (project.mountpoint(volume) / "log").read_text().split()]
    rows = int(psql(project.url, db, b"SELECT count(*) FROM steps"))
    assert files == list(range(1, len(files) + 1))
    assert rows in (len(files), len(files) + 1), (rows, len(files))


def archived_to(project: Project, config: Path) -> Lsn:
    (status,) = json.loads(project.run("wal", "status", "--json", "--config", str(config), code=None))
    return Lsn.parse(status["exposure"]["archived_to"] or "0/0")
