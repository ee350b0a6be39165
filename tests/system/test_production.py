"""What production uses: the worker image is built and works; the compose file and the units say what they mean."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import docker
import pytest
import yaml

from deployments.local import images, rootfs
from deployments.local.archive import ImageSettings
from deployments.local.machine import REPOSITORY_ROOT
from tests.support.compose import NAME, Compose, compose

OF_PROJECT = f"com.docker.compose.project={NAME}"
PRODUCTION = Path(REPOSITORY_ROOT) / "deployments" / "production"


def _python_settings(_layer: str) -> ImageSettings:
    return ImageSettings(command=("python3",), environment=(("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"),))


PYTHON = images.Recipe(
    "python",
    "python:3.13-slim-bookworm",
    rootfs.Rootfs(variant="essential", packages=("python3", "python3-pip", "libstdc++6"), after="python-rootfs.sh"),
    _python_settings,
)


@pytest.fixture(scope="module")
def worker_image(engine_socket: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Built without a registry and without a network: on a base that was imported, from wheels in the context."""
    tmp_path = tmp_path_factory.mktemp("image")
    base = images.provide(engine_socket, PYTHON).reference
    context = tmp_path / "context"
    context.mkdir()
    for name in ("src", "flows", "tasks", "deployments"):
        shutil.copytree(Path(REPOSITORY_ROOT) / name, context / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("requirements.lock", "pyproject.toml", "README.md"):
        shutil.copy(Path(REPOSITORY_ROOT) / name, context / name)
    # The base's Python may be an older patch release than ours, for which a few packages more are needed.
    lock = tmp_path / "every-patch-release.lock"
    lock.write_text(re.sub(r" ; python_full_version < '3\.11\.\d+'", "", (context / "requirements.lock").read_text()))
    download = ["download", "-q", "--require-hashes", "--no-deps", "-r", str(lock), "-d", str(context / "wheels")]
    subprocess.run([sys.executable, "-m", "pip", *download], check=True)
    arguments = {"BASE": base, "PACKAGES": "", "PIP_ARGUMENTS": "--no-index --find-links ."}
    with closing(docker.DockerClient(base_url=engine_socket, timeout=600)) as client:
        try:
            client.images.build(
                path=str(context),
                dockerfile="deployments/production/Dockerfile",
                buildargs=arguments,
                tag="holdfast-worker",
                network_mode="none",
                rm=True,
            )
        except docker.errors.BuildError as error:
            lines = [str(line.get("stream", line)).rstrip() for line in error.build_log]
            pytest.fail("\n".join([str(error), *lines[-30:]]), pytrace=False)
        yield "holdfast-worker"
        client.images.remove("holdfast-worker", force=True)


@pytest.mark.soak
@pytest.mark.engine
@pytest.mark.timeout(1200)
def test_the_worker_image_holds_what_a_worker_needs(worker_image: str, engine_client: docker.DockerClient) -> None:
    """Run it with `pytest -m soak tests/system/test_production.py`; the image takes some minutes."""

    def run(*command: str, **more: Any) -> str:
        said = engine_client.containers.run(
            worker_image, entrypoint=list(command), network_mode="none", remove=True, stderr=True, **more
        )
        return bytes(said).decode()

    assert "holdfast" in run("holdfast", "--version")
    assert "restore" in run("holdfast", "--help")
    assert "3.8" in run("python3", "-c", "import flows.backup, flows.monitor, prefect; print(prefect.__version__)")
    assert "drain" in run("python3", "-m", "deployments.operate", "work", "--help")
    count = "import os; print(len([n for n in os.listdir('.') if n.endswith('.whl')]))"
    assert run("python3", "-c", count).strip() == "0"


@pytest.mark.soak
@pytest.mark.engine
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("version", [1, 2])
def test_what_the_compose_file_says_backs_up(
    version: int,
    worker_image: str,
    postgres_image: str,
    engine_socket: str,
    engine_client: docker.DockerClient,
    tmp_path: Path,
) -> None:
    """Compose brings up database, server and worker: a stack of this engine is scheduled, backed up, and drained.

    Run it with `pytest -m soak tests/system/test_production.py`.
    """
    assert worker_image == "holdfast-worker"
    volume = engine_client.volumes.create("shop-data")
    (Path(volume.attrs["Mountpoint"]) / "name").write_text("of production")
    listen = f"127.{os.getpid() % 250 + 1}.{os.getpid() // 250 % 250 + 1}.9"
    folder = str(Path(volume.attrs["Mountpoint"]).parents[1])
    run = production(
        version, tmp_path, engine_socket, POSTGRES_IMAGE=postgres_image, LISTEN=listen, DOCKER_VOLUMES=folder
    )
    try:
        run("up", "-d", "--no-build")
        run("run", "--rm", "--no-deps", "--entrypoint", "holdfast", "worker", "init")
        worker = container_of(engine_client, "worker")
        from prefect.client.orchestration import SyncPrefectClient

        with SyncPrefectClient(f"http://{listen}:4200/api") as client:
            deployment = until(lambda: found(client, "backup/shop@host-a"), 120)
            until(lambda: client.read_flow_runs(limit=1), 60)  # the scheduler made one
            started = client.create_flow_run_from_deployment(deployment.id)
            ends = ("Completed", "Failed", "Crashed")
            state: str = until(lambda: (name := state_of(client, started.id)) in ends and name, 120)
            assert state == "Completed", worker.logs().decode()[-3000:]
        said = run("exec", "-T", "worker", "holdfast", "cat", "latest", "name", "--source", "volume:shop-data")
        assert said == "of production"
        # Its own monitor does not tell of the socket that it has to have; a second host takes the worker alone.
        assert "container-has-engine" not in json.dumps(seen_by(run))
        run("stop", "worker")
        worker.reload()
        assert worker.attrs["State"]["ExitCode"] == 0
        assert "the worker has stopped; no run was going" in worker.logs().decode()
        run("rm", "-f", "-s")
        run("up", "-d", "--no-build", "--no-deps", "worker")
        assert len(engine_client.containers.list(all=True, filters={"label": OF_PROJECT})) == 1
    finally:
        run("down", "-v", "-t", "5")
        volume.remove()


def production(version: int, folder: Path, engine_socket: str, **variables: str) -> Compose:
    """Compose on the production file, with one stack, secrets and an engine of the test's own."""
    (folder / "secrets").mkdir()
    for name in ("prefect-database", "holdfast-password"):
        (folder / "secrets" / name).write_text("correct-horse")
    (folder / "holdfast.yaml").write_text(
        "version: 1\nhostname: host-a\nengine: {url: unix:///var/run/docker.sock}\n"
        "repository: {url: /var/lib/holdfast/repository, password_file: /run/secrets/holdfast-password}\n"
        "stacks: {shop: {volumes: [shop-data], schedule: '0 3 * * *'}}\n"
    )
    own = {
        "DOCKER_HOST": engine_socket,
        "DOCKER_SOCKET": engine_socket.removeprefix("unix://"),
        "HOLDFAST_CONFIG_DIR": str(folder),
        "SECRETS": str(folder / "secrets"),
    }
    return compose(version, PRODUCTION / "compose.yaml", folder, {**own, **variables})


def container_of(client: docker.DockerClient, service: str) -> Any:
    """The container that Compose made for a service."""
    service_label = f"com.docker.compose.service={service}"
    chosen: dict[str, str | list[str] | bool] = {
        "label": [OF_PROJECT, service_label, "com.docker.compose.oneoff=False"]
    }
    (found,) = client.containers.list(all=True, filters=chosen)
    return found


def seen_by(run: Compose) -> Any:
    """What the worker's monitor finds; that it finds something is its exit code."""
    look = "holdfast monitor --json 2>/dev/null || test $? -eq 3 -o $? -eq 53"
    return json.loads(run("exec", "-T", "worker", "sh", "-c", look))


def found(client: Any, name: str) -> Any:
    """A deployment, or None while there is none."""
    from prefect.exceptions import ObjectNotFound

    try:
        return client.read_deployment_by_name(name)
    except ObjectNotFound:
        return None


def state_of(client: Any, run: Any) -> str:
    return str(client.read_flow_run(run).state.name)


def until(condition: Callable[[], Any], seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(1)
    return answer


@pytest.mark.parametrize("version", [1, 2])
def test_compose_reads_the_file(version: int, tmp_path: Path) -> None:
    secrets = {"SECRETS": str(tmp_path), "LISTEN": "127.0.0.7", "DOCKER_VOLUMES": "/srv/docker/volumes"}
    understood = yaml.safe_load(compose(version, PRODUCTION / "compose.yaml", tmp_path, secrets)("config"))
    services = understood["services"]
    assert services["server"]["depends_on"]["database"]["condition"] == "service_healthy"
    assert services["worker"]["labels"] == {"holdfast.accept": "container-has-engine"}
    mounts = json.dumps(services["worker"]["volumes"])
    assert mounts.count("/srv/docker/volumes") == 2
    assert "127.0.0.7" in json.dumps(services["server"]["ports"])
    assert understood["secrets"]["holdfast-password"]["file"] == f"{tmp_path}/holdfast-password"


def test_the_compose_file_says_what_it_means() -> None:
    document = yaml.safe_load((PRODUCTION / "compose.yaml").read_text())
    services = document["services"]
    assert set(services) == {"database", "server", "worker"}
    assert "postgresql+asyncpg" in services["server"]["entrypoint"][-1]
    # No secret in the environment of a container, and no port open to the world by default.
    secrets = set(document["secrets"])
    assert all(set(service.get("secrets", ())) <= secrets for service in services.values())
    assert all("PASSWORD" not in name or name.endswith("_FILE") for s in services.values() for name in s["environment"])
    assert services["server"]["ports"] == ["${LISTEN:-127.0.0.1}:4200:4200"]
    assert (PRODUCTION / services["worker"]["build"]["context"]).resolve() == Path(REPOSITORY_ROOT)
    assert (Path(REPOSITORY_ROOT) / services["worker"]["build"]["dockerfile"]).is_file()
    socket = [mount for mount in services["worker"]["volumes"] if "docker.sock" in mount]
    assert socket == ["${DOCKER_SOCKET:-/var/run/docker.sock}:/var/run/docker.sock"]


@pytest.mark.parametrize("name", ["holdfast-server.service", "holdfast-worker.service"])
def test_the_units_are_valid(name: str, tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not here")
    # The units name the programs and users of an installed machine: those of this one take their places.
    text = (PRODUCTION / name).read_text()
    assert "/opt/holdfast/.venv/bin/python" in text
    text = text.replace("/opt/holdfast/.venv/bin/python", sys.executable)
    text = text.replace("User=holdfast", "User=daemon").replace("Group=holdfast", "Group=daemon")
    (tmp_path / name).write_text(text)
    done = subprocess.run([program, "verify", str(tmp_path / name)], capture_output=True, text=True, check=False)
    about = [line for line in (done.stdout + done.stderr).splitlines() if name in line]
    assert (done.returncode, about) == (0, []), done.stderr
    assert os.path.isdir(PRODUCTION)
