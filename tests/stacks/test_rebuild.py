"""A stack made again: on a second engine that has nothing; in the place of itself; with a fault at every step."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

import docker
import pytest

from holdfast.engine.client import connect
from holdfast.engine.exec import ContainerRunner
from holdfast.errors import HoldfastError
from holdfast.services.rebuild import Rebuild
from tests.stacks.conftest import Project
from tests.support.repositories import reopen

pytestmark = pytest.mark.engine

SQL = b"""
CREATE ROLE clerk LOGIN PASSWORD 'open sesame';
CREATE TABLE items (t int PRIMARY KEY, note text);
INSERT INTO items SELECT n, repeat('x', n % 40) FROM generate_series(1, 2000) n;
"""


def psql(url: str, container: str, sql: bytes) -> str:
    argv = ["psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-U", "boss", "-d", "shop"]
    with connect(url) as engine:
        return ContainerRunner(engine, container).run(argv, stdin=[sql]).decode().strip()


def start_stack(project: Project, image: str) -> str:
    network = f"{project.name}_default"
    project.client.networks.create(network, labels=project.labels(), internal=True)
    volume = project.volume("data", **{"holdfast.enable": "true", "holdfast.quiesce": "pause", "kept": "yes"})
    pgdata = project.volume("pgdata")
    project.container(
        "db",
        image=image,
        network_mode=network,
        environment={"POSTGRES_PASSWORD": "very secret", "POSTGRES_USER": "boss", "POSTGRES_DB": "shop"},
        volumes={pgdata: {"bind": "/var/lib/postgresql/data"}},
    )
    (project.folder / "project" / "site").mkdir()
    (project.folder / "project" / "site" / "index").write_text("hello")
    (project.folder / "project" / "app.conf").write_text("setting = 1")
    project.container(
        "app",
        command=["sh", "-c", "touch /data/started; sleep 100000"],
        labels={"com.docker.compose.depends_on": "db:service_started:false"},
        network_mode=network,
        environment={"TOKEN": "most secret"},
        healthcheck={"test": ["CMD", "test", "-e", "/data/started"], "interval": 500_000_000, "retries": 20},
        volumes={
            volume: {"bind": "/data"},
            str(project.folder / "project" / "site"): {"bind": "/site", "mode": "ro"},
            str(project.folder / "project" / "app.conf"): {"bind": "/app.conf", "mode": "ro"},
        },
    )
    wait_for_server(project.url, f"{project.name}-db-1")
    psql(project.url, f"{project.name}-db-1", SQL)
    for number in range(50):
        (project.mountpoint(volume) / f"file{number}").write_bytes(b"%d" % number * number)
    return volume


def wait_for_server(url: str, container: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            with connect(url) as engine:
                ContainerRunner(engine, container).run(["pg_isready", "-h", "127.0.0.1", "-U", "boss"])
        except HoldfastError:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        else:
            return


def names_of(client: docker.DockerClient, project: Project) -> list[str]:
    found = [*(c.name or "" for c in client.containers.list(all=True)), *(v.name for v in client.volumes.list())]
    return sorted(name for name in [*found, *(n.name or "" for n in client.networks.list())] if project.name in name)


def test_from_nothing_but_docker(project: Project, postgres_image: str, second_engine: str) -> None:
    volume = start_stack(project, postgres_image)
    config = project.folder / "holdfast.yaml"
    config.write_text(
        f"""version: 1
repository: {{url: {project.folder}/repository, password_file: {project.folder}/password}}
stacks: {{{project.name}: {{discover: true, images: save}}}}
"""
    )
    said = project.run("backup", "--config", str(config))
    assert f"stack:{project.name}" in said
    assert "held: " in said
    said = project.run("plan", project.name)
    assert "everything that was found is protected" in said
    assert "dumped in container" in said
    before = names_of(project.client, project)
    psql(project.url, f"{project.name}-db-1", b"CREATE TABLE newer ()")  # not in the backup
    project.destroy()
    for path in ("site/index", "site", "app.conf", "compose.yaml"):
        target = project.folder / "project" / path
        target.rmdir() if target.is_dir() else target.unlink()
    (project.folder / "project").rmdir()
    with contextlib.closing(docker.DockerClient(base_url=second_engine)) as blank:
        assert names_of(blank, project) == []
        plan = project.run("restore", project.name, "--dry-run", DOCKER_HOST=second_engine)
        assert f"make     container {project.name}-app-1" in plan
        assert "load     image" in plan
        try:
            said = project.run("restore", project.name, DOCKER_HOST=second_engine)
            assert "secret" not in said + plan
            assert "2,000 rows" in said
            assert f"started {project.name}-app-1: healthy" in said
            assert names_of(blank, project) == before
            mountpoint = Path(blank.volumes.get(volume).attrs["Mountpoint"])
            assert (mountpoint / "file49").read_bytes() == b"49" * 49
            assert blank.volumes.get(volume).attrs["Labels"]["kept"] == "yes"
            app = blank.containers.get(f"{project.name}-app-1")
            assert app.exec_run("cat /site/index").output == b"hello"
            assert app.exec_run("cat /app.conf").output == b"setting = 1"
            assert app.exec_run(["sh", "-c", "echo $TOKEN"]).output == b"most secret\n"
            assert psql(second_engine, f"{project.name}-db-1", b"SELECT count(*) FROM items") == "2000"
            assert psql(second_engine, f"{project.name}-db-1", b"SELECT to_regclass('newer') IS NULL") == "t"
            assert (project.folder / "project" / "compose.yaml").read_text() == f"name: {project.name}\n"
            # What is there is not taken: the same again is refused, and touches nothing.
            again = project.run("restore", project.name, code=41, DOCKER_HOST=second_engine)
            assert "holds data" in again
            assert "nothing was touched" in again
        finally:
            other = Project(blank, second_engine, project.blank, project.folder, project.name)
            other.destroy()


class Boom(HoldfastError):
    """A fault on purpose."""


@pytest.mark.parametrize("steps", [("swap", "compare", "health"), pytest.param((), marks=pytest.mark.soak)])
def test_a_fault_at_any_step_leaves_what_was_there(
    project: Project, postgres_image: str, monkeypatch: pytest.MonkeyPatch, steps: tuple[str, ...]
) -> None:
    """At some steps; at each of them: `pytest -m "soak or engine" tests/stacks/test_rebuild.py`."""
    volume = start_stack(project, postgres_image)
    project.run("backup", project.name)
    database = f"{project.name}-db-1"
    (project.mountpoint(volume) / "file1").write_text("newer")
    psql(project.url, database, b"UPDATE items SET note = 'newer' WHERE t = 1")
    names = names_of(project.client, project)
    ids = {c.name: c.id for c in project.client.containers.list(all=True)}

    def untouched() -> None:
        assert (project.mountpoint(volume) / "file1").read_text() == "newer"
        assert project.status("app") == project.status("db") == "running"
        wait_for_server(project.url, database)
        assert psql(project.url, database, b"SELECT note FROM items WHERE t = 1") == "newer"
        assert psql(project.url, database, b"SELECT count(*) FROM pg_database WHERE datname LIKE '%holdfast%'") == "0"
        assert names_of(project.client, project) == names
        assert {c.name: c.id for c in project.client.containers.list(all=True)} == ids
        assert list(project.mountpoint(volume).parent.glob("*holdfast*")) == []

    faults = {
        "data": "holdfast.services.placement.compare_directory",
        "stop": "holdfast.engine.rebuild.stop_container",
        "swap": "holdfast.services.placement.Placement.swap",
        "containers": "holdfast.services.rebuild.Rebuild._make_containers",
        "load": "holdfast.services.databases.load_globals",
        "compare": "holdfast.services.rebuild_databases.prove_dump",
        "health": "holdfast.engine.rebuild.await_health",
    }
    for step in steps or faults:
        place = faults[step]
        with monkeypatch.context() as patch, reopen(project.folder / "repository") as repository:

            def boom(*_: object, **__: object) -> None:
                patch.undo()
                raise Boom(f"fault at {step}")  # noqa: B023  called before the loop goes on

            with connect(project.url) as engine:
                rebuild = Rebuild(repository, engine, project.name, replace=True)
                patch.setattr(place, boom)
                with pytest.raises(Boom, match=step):
                    rebuild.run()
        untouched()
    # Without a fault the old data is replaced, and nothing of it stays behind.
    said = json.loads(project.run("restore", project.name, "--replace", "--json"))
    assert said["health"][f"{project.name}-app-1"] == "healthy"
    assert (project.mountpoint(volume) / "file1").read_bytes() == b"1"
    assert psql(project.url, database, b"SELECT note FROM items WHERE t = 1") == "x"
    assert list(project.mountpoint(volume).parent.glob("*holdfast*")) == []
    assert psql(project.url, database, b"SELECT count(*) FROM pg_database WHERE datname LIKE '%holdfast%'") == "0"
