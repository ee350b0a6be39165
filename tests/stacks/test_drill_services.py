"""A drill starts a service as it was recorded: on restored data, beside its restored database, in a sandbox."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import docker
import pytest
import yaml

from holdfast.config.loading import load
from holdfast.engine.client import connect
from holdfast.engine.sandbox import Sandbox
from holdfast.errors import EngineRefused
from holdfast.model.proof import CheckResult
from holdfast.model.snapshot import restore_points
from holdfast.services.checks import application_checks
from tests.stacks.conftest import Project
from tests.stacks.test_rebuild import psql, start_stack
from tests.support.repositories import reopen
from tests.support.shop import sandboxes_left

pytestmark = pytest.mark.engine

ASKED = "psql -X -A -t -h db -U clerk -d shop -c 'SELECT current_user' && cat /data/file7 /app.conf /site/index"
ASKS = "psql -X -A -t -h db -U clerk -d shop -c 'SELECT current_user'"
CACHE = (  # by the name that it has in the stack
    "exec 3<>/dev/tcp/cache/8080 && printf 'GET /index HTTP/1.0\\r\\n\\r\\n' >&3 && timeout 5 cat <&3"
)
SPY = (  # what a sandbox must not have: each word before the last ones is a failure
    "test -S /var/run/docker.sock && echo socket; test -w /dev/kmsg && echo devices; mkdir /tmp/m;"
    " mount -t tmpfs x /tmp/m 2>/dev/null && echo privileged; echo changed > /data/file7;"
    " timeout 1 bash -c '(echo > /dev/tcp/10.255.255.1/80)' 2>/dev/null && echo network;"
    ' for host in $HOSTS; do timeout 1 bash -c "(echo > /dev/tcp/$host/$PORT)" 2>/dev/null && echo host; done;'
    " echo $KNOWN ended"
)


@pytest.fixture
def listening() -> Iterator[int]:
    """The port of a service of the host itself, at every address that it has."""
    with socket.create_server(("0.0.0.0", 0)) as server:  # noqa: S104  that is what is to be out of reach
        yield server.getsockname()[1]


@pytest.fixture
def stack(project: Project, postgres_image: str, listening: int) -> Project:
    """The stack of the rebuild tests, and one more service that is as dangerous as can be; backed up."""
    volume = start_stack(project, postgres_image)
    project.client.containers.create(  # not started: not every machine lets a test be as strong as this
        postgres_image,
        ["sleep", "100000"],
        name=f"{project.name}-web-1",
        labels=project.labels("web"),
        entrypoint=[],
        network_mode="host",
        privileged=True,
        cap_add=["SYS_ADMIN"],
        pid_mode="host",
        environment={"PGPASSWORD": "open sesame", "KNOWN": "yes", "HOSTS": addresses(), "PORT": str(listening)},
        volumes={
            volume: {"bind": "/data"},
            str(project.folder / "project" / "site"): {"bind": "/site"},
            str(project.folder / "project" / "app.conf"): {"bind": "/app.conf", "mode": "ro"},
            "/etc/hostname": {"bind": "/host/name", "mode": "ro"},
        },
    )
    project.run("backup", project.name)
    return project


def addresses() -> str:
    """Every address of this machine but that of its loop."""
    found = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=True).stdout.split()
    assert found
    return " ".join(address for address in found if ":" not in address)


def asked(project: Project, **checks: list[dict[str, Any]]) -> dict[str, CheckResult]:
    document = project.folder / "checks.yaml"
    document.write_text(
        yaml.safe_dump(
            {
                "version": 1,
                "repository": {
                    "url": str(project.folder / "repository"),
                    "password_file": str(project.folder / "password"),
                },
                "engine": {"url": project.url},
                "stacks": {project.name: {"discover": True, "checks": checks}},
            }
        )
    )
    with reopen(project.folder / "repository") as repository:
        (point,) = restore_points(repository.snapshots().snapshots)
        return {check.name: check for check in application_checks(load(str(document)), repository, point)}


def command(name: str, script: str, **more: Any) -> dict[str, Any]:
    run = {"service": "web", "command": ["bash", "-c", script], "without": ["/host/name"]}
    return {"name": name, **run, **more}


def test_a_service_answers_on_restored_data_and_reaches_nothing_else(stack: Project) -> None:
    # What production holds now must not matter, and must not be touched.
    psql(stack.url, f"{stack.name}-db-1", b"ALTER ROLE clerk PASSWORD 'another'")
    data = stack.mountpoint(f"{stack.name}_data")
    (data / "file7").write_text("production")
    before = {c.id: c.attrs["State"]["StartedAt"] for c in stack.client.containers.list(all=True)}
    page = {
        "name": "app-answers",
        "service": "app",
        "command": ["busybox", "httpd", "-f", "-p", "8080", "-h", "/data"],
        "port": 8080,
        "path": "/file7",
        "contains": "7777777",
    }
    found = asked(
        stack,
        commands=[
            command("web", f"{ASKED} && ({SPY})", output="clerk\n7777777setting = 1helloyes ended", timeout="20s"),
            command("socket", "true", without=[]),
            command("nobody", "true", service="nobody"),
        ],
        http=[page],
    )
    problems = {name: check.problem for name, check in found.items() if check.problem}
    assert set(problems) == {"socket", "nobody"}, problems
    assert "/etc/hostname at /host/name" in str(problems["socket"])
    assert "no such service" in str(problems["nobody"])
    assert found["web"].found == "exit code 0: clerk 7777777setting = 1helloyes ended"
    assert (data / "file7").read_text() == "production"
    assert sandboxes_left(stack.client) == []
    assert {c.id: c.attrs["State"]["StartedAt"] for c in stack.client.containers.list(all=True)} == before


def test_a_service_answers_beside_a_base_backup_and_a_cache(project: Project, postgres_image: str) -> None:
    """The database is recovered to its own end, knows the application's password, and lets in nobody without one."""
    volume = start_stack(project, postgres_image)
    db = f"{project.name}-db-1"
    project.container(
        "web",
        image=postgres_image,
        command=["sleep", "100000"],
        labels={"holdfast.postgres": "false"},
        network_mode=f"{project.name}_default",
        environment={"PGPASSWORD": "open sesame"},
        volumes={volume: {"bind": "/data"}},
    )
    kept = project.volume("cache", **{"holdfast.enable": "true"})
    (project.mountpoint(kept) / "index").write_text("kept in the cache")
    serves = ["busybox", "httpd", "-f", "-p", "8080", "-h", "/kept"]
    network = f"{project.name}_default"
    project.container("cache", command=serves, network_mode=network, volumes={kept: {"bind": "/kept"}})
    config = project.folder / "holdfast.yaml"
    stack = {
        "discover": True,
        "postgres": [{"name": "db", "container": db, "user": "boss", "method": "base"}],
        "checks": {
            "commands": [
                {"name": "password", "service": "web", "output": "clerk", "command": ["bash", "-c", ASKS]},
                {
                    "name": "cache",
                    "service": "web",
                    "beside": ["cache", "db"],
                    "output": "kept in the cache",
                    "command": ["bash", "-c", CACHE],
                },
                {"name": "alone", "service": "web", "command": ["bash", "-c", f"! ({CACHE})"]},
                {"name": "stranger", "service": "web", "command": ["bash", "-c", f"PGPASSWORD=guessed {ASKS}"]},
            ]
        },
    }
    document = {
        "version": 1,
        "repository": {"url": f"{project.folder}/repository", "password_file": f"{project.folder}/password"},
        "engine": {"url": project.url},
        "stacks": {project.name: stack},
    }
    config.write_text(yaml.safe_dump(document))
    project.run("backup", project.name, "--config", str(config))
    psql(project.url, db, b"ALTER ROLE clerk PASSWORD 'another'")
    with reopen(project.folder / "repository") as repository:
        (point,) = restore_points(repository.snapshots().snapshots)
        assert "postgres:db" in {snapshot.source for snapshot in point.snapshots}
        found = {check.name: check for check in application_checks(load(str(config)), repository, point)}
    assert [found[name].problem for name in ("password", "cache", "alone")] == [None] * 3, found
    assert "password authentication failed" in str(found["stranger"].problem), found
    assert sandboxes_left(project.client) == []


def test_a_sandbox_refuses_what_would_let_a_container_out(project: Project, engine_client: docker.DockerClient) -> None:
    with connect(project.url) as engine, Sandbox(engine) as sandbox:
        for key in ("privileged", "cap_add", "devices", "port_bindings", "pid_mode", "network_mode", "volumes_from"):
            with pytest.raises(EngineRefused, match="cannot have this"):
                sandbox.container("x", project.blank, limits={key: "anything"})
        with pytest.raises(EngineRefused, match="cannot have this"):
            sandbox.container("x", project.blank, settings={"host_config": {}})
    assert sandboxes_left(engine_client) == []
