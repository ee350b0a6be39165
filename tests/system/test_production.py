"""What production uses: the worker image is built and works; the compose file and the units say what they mean."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import docker
import pytest
import yaml

from deployments.local import images, rootfs
from deployments.local.archive import ImageSettings
from deployments.local.machine import REPOSITORY_ROOT

PRODUCTION = Path(REPOSITORY_ROOT) / "deployments" / "production"


def _python_settings(_layer: str) -> ImageSettings:
    return ImageSettings(command=("python3",), environment=(("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"),))


PYTHON = images.Recipe(
    "python",
    "python:3.13-slim-bookworm",
    rootfs.Rootfs(variant="essential", packages=("python3", "python3-pip"), after="python-rootfs.sh"),
    _python_settings,
)


@pytest.mark.soak
@pytest.mark.engine
@pytest.mark.timeout(900)
def test_the_worker_image_is_built_and_holds_what_a_worker_needs(
    engine_socket: str, engine_client: docker.DockerClient, tmp_path: Path
) -> None:
    """Without a registry and without a network: on a base that was imported, from wheels in the build's context."""
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
    try:
        engine_client.images.build(
            path=str(context),
            dockerfile="deployments/production/Dockerfile",
            buildargs=arguments,
            tag="holdfast-worker:test",
            network_mode="none",
            rm=True,
        )
    except docker.errors.BuildError as error:
        lines = [str(line.get("stream", line)).rstrip() for line in error.build_log]
        pytest.fail("\n".join([str(error), *lines[-30:]]), pytrace=False)
    try:

        def run(*command: str, **more: Any) -> str:
            said = engine_client.containers.run(
                "holdfast-worker:test", entrypoint=list(command), network_mode="none", remove=True, stderr=True, **more
            )
            return bytes(said).decode()

        assert "holdfast" in run("holdfast", "--version")
        assert "restore" in run("holdfast", "--help")
        assert "3.8" in run("python3", "-c", "import flows.backup, flows.monitor, prefect; print(prefect.__version__)")
        assert "drain" in run("python3", "-m", "deployments.operate", "work", "--help")
        assert (
            run("python3", "-c", "import os; print(len([n for n in os.listdir('.') if n.endswith('.whl')]))").strip()
            == "0"
        )
    finally:
        engine_client.images.remove("holdfast-worker:test", force=True)


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
    assert socket == ["/var/run/docker.sock:/var/run/docker.sock"]


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
