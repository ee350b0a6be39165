"""A Compose project on the private engine, made as Compose would make it: labels, network, volumes, containers."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.models.containers import Container

from deployments.local import images
from deployments.local.engine import PrivateEngine, private_engine_is_possible
from holdfast.engine.client import Engine, connect
from tests.support.command import run_here
from tests.support.repositories import new_repository

HOLDFAST = os.path.join(os.path.dirname(sys.executable), "holdfast")
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("HOLDFAST_", "AWS_", "DOCKER_"))}


@dataclass
class Project:
    """A project of a random name; `run` is the holdfast command with a repository and an engine, and nothing else."""

    client: docker.DockerClient
    url: str
    blank: str
    folder: Path
    name: str = field(default_factory=lambda: f"shop{secrets.token_hex(3)}")

    @property
    def env(self) -> dict[str, str]:
        return {
            **CLEAN,
            "DOCKER_HOST": self.url,
            "HOLDFAST_REPOSITORY": str(self.folder / "repository"),
            "HOLDFAST_PASSWORD_FILE": str(self.folder / "password"),
            "HOLDFAST_STATE": str(self.folder / "state"),
        }

    def run(self, *arguments: str, code: int | None = 0, **env: str) -> str:
        """What the command said. In a process of its own only where that matters: TMPDIR is looked at once."""
        if "TMPDIR" in env:
            done = subprocess.run(
                [HOLDFAST, *arguments], env={**self.env, **env}, capture_output=True, text=True, check=False
            )
            ended, said = done.returncode, done.stdout + done.stderr
        else:
            ended, said = run_here(arguments, {**self.env, **env})
        assert code in (None, ended), f"{arguments} {ended}\n{said}"
        return said

    def labels(self, service: str = "", **more: str) -> dict[str, str]:
        own = {"com.docker.compose.project": self.name}
        if service:
            own |= {
                "com.docker.compose.service": service,
                "com.docker.compose.project.working_dir": str(self.folder / "project"),
                "com.docker.compose.project.config_files": "compose.yaml",
            }
        return own | more

    def volume(self, title: str, **labels: str) -> str:
        name = f"{self.name}_{title}"
        self.client.volumes.create(name, labels=self.labels() | labels)
        return name

    def container(
        self, service: str, *, image: str | None = None, labels: dict[str, str] | None = None, **more: Any
    ) -> Container:
        made: Container = self.client.containers.run(
            image or self.blank,
            name=f"{self.name}-{service}-1",
            detach=True,
            labels=self.labels(service) | (labels or {}),
            stop_signal="SIGKILL",
            **{"network_mode": "none", **more},
        )
        return made

    def writer(self, service: str, volume: str, every: float = 0.01, **more: Any) -> Container:
        """A container that appends a number to one file of a hundred, over and over; `log` has every write in order."""
        script = (
            "n=0; while :; do n=$((n+1)); echo $n > /data/f$((n % 100)); echo $n >> /data/log;"
            f" usleep {int(every * 1e6)}; done"
        )
        return self.container(service, command=["sh", "-c", script], volumes={volume: {"bind": "/data"}}, **more)

    def status(self, service: str) -> str:
        found: Container = self.client.containers.get(f"{self.name}-{service}-1")
        return str(found.status)

    def mountpoint(self, volume: str) -> Path:
        return Path(self.client.volumes.get(volume).attrs["Mountpoint"])

    def destroy(self) -> None:
        for found in self.client.containers.list(all=True):
            if found.name and found.name.startswith(self.name):
                with contextlib.suppress(docker.errors.APIError):
                    found.unpause()
                found.remove(force=True, v=True)
        for volume in self.client.volumes.list():
            if self.name in volume.name:
                volume.remove(force=True)
        for network in self.client.networks.list():
            if network.name and network.name.startswith(self.name):
                network.remove()


@pytest.fixture
def project(
    engine_socket: str, engine_client: docker.DockerClient, blank_image: str, tmp_path: Path
) -> Iterator[Project]:
    (tmp_path / "password").write_text("correct horse")
    (tmp_path / "password").chmod(0o600)
    (tmp_path / "state").mkdir()
    (tmp_path / "project").mkdir()
    made = Project(engine_client, engine_socket, blank_image, tmp_path)
    (tmp_path / "project" / "compose.yaml").write_text(f"name: {made.name}\n")
    new_repository(tmp_path / "repository").store.close()
    try:
        yield made
    finally:
        made.destroy()


@pytest.fixture(scope="session")
def second_engine() -> Iterator[str]:
    """The URL of another host's engine: nothing is there but the blank image."""
    if reason := private_engine_is_possible():
        pytest.skip(reason)
    with PrivateEngine() as made:
        images.blank_image(made.url)
        yield made.url


@pytest.fixture
def engine(engine_socket: str) -> Iterator[Engine]:
    with connect(engine_socket) as made:
        yield made


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> float:
    """Wait until something is so; how long that took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, "it did not become so in time"
        time.sleep(0.01)
    return time.monotonic() - started
