"""The sample stack on a Docker Engine: a volume, a container that uses it, and a PostgreSQL container.

Rules upheld here:
- Everything carries the label of this demo and its process; a removal looks at the label once more. The volume that
  the restore made carries Holdfast's own label and this demo's random name.
- Containers have no network: the demo talks with them through the engine.
- What a killed demo left on an engine is removed by the next one.
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import time
from collections.abc import Iterator, Mapping
from typing import Any, Self

from deployments.demo import tree
from deployments.demo.sample import STACK, SUPERUSER
from deployments.local.images import blank_image, postgres_image
from deployments.local.machine import CannotProvide
from holdfast.engine.client import Engine
from holdfast.engine.discovery import find_container
from holdfast.engine.exec import ContainerRunner
from holdfast.engine.sandbox import owner_is_gone, present_owner
from holdfast.engine.volumes import MADE_BY, create_volume, find_volume, volume_names
from holdfast.errors import CommandFailed, EngineRefused, HoldfastError, SourceNotFound
from holdfast.postgres.server import Server, container_server

LABEL = "holdfast.demo"
OWNER = "holdfast.demo.owner"
READY_SECONDS = 90.0
DATA = "/data"


class DockerStack:
    """The stack of one demo; use it in a `with` block, which removes all of it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._run = secrets.token_hex(4)
        self._labels = {LABEL: self._run, OWNER: present_owner()}
        self._name = f"holdfast-demo-{self._run}"
        self._volume, self._app, self._db = f"{self._name}-uploads", f"{self._name}-app", f"{self._name}-db"
        self._image = self._blank = ""

    @property
    def description(self) -> str:
        """What it consists of."""
        return f"volume {self._volume}, containers {self._app} and {self._db} ({self._image})"

    @property
    def directory(self) -> str:
        """The volume's mountpoint."""
        return find_volume(self._engine, self._volume).mountpoint

    def configuration(self) -> dict[str, Any]:
        """The engine, and the stack's volume and database."""
        postgres = {"name": "db", "container": self._db, "user": SUPERUSER}
        return {
            "engine": {"url": self._engine.url},
            "stacks": {STACK: {"volumes": [self._volume], "postgres": [postgres]}},
        }

    def create(self, chance: random.Random) -> None:
        """Bring the images, make the volume, start both containers."""
        self._image, self._blank = postgres_image(self._engine.url), blank_image(self._engine.url)
        create_volume(self._engine, self._volume, self._labels)
        tree.fill(self.directory, chance)
        self.start_application()
        self.start_database()

    @contextlib.contextmanager
    def database(self) -> Iterator[Server]:
        """The server in the container, through its own psql."""
        runner = ContainerRunner(self._engine, self._db)
        yield container_server(runner, user=SUPERUSER, password=None, image=self._image)

    def destroy(self) -> list[str]:
        """Remove the containers, with their anonymous volumes, and the volume."""
        gone = [self._remove_container(name) for name in (self._app, self._db)]
        return [*gone, self._remove_volume(self._volume)]

    def start_database(self) -> None:
        """As `docker compose up -d db` would; returns when the server answers."""
        environment = {"POSTGRES_PASSWORD": secrets.token_hex(16), "POSTGRES_USER": SUPERUSER}
        self._start(self._db, self._image, environment=environment, shm_size="256m")
        runner = ContainerRunner(self._engine, self._db)
        deadline = time.monotonic() + READY_SECONDS
        while True:  # over TCP: the temporary server of the initialization listens on the socket only
            try:
                runner.run(["pg_isready", "--host", "127.0.0.1", "--username", SUPERUSER])
            except CommandFailed as error:
                if time.monotonic() > deadline:
                    raise CannotProvide("PostgreSQL does not start", which=self._db, found=error.found) from error
            else:
                return
            time.sleep(0.2)

    def start_application(self) -> str:
        """A container that has the volume mounted; the number of files that it sees there."""
        if self._app not in {found["Names"][0].lstrip("/") for found in self._containers(f"{LABEL}={self._run}")}:
            host: dict[str, Any] = {"binds": {self._volume: {"bind": DATA, "mode": "rw"}}}
            self._start(self._app, self._blank, command=["sleep", "86400"], **host)
        count = ContainerRunner(self._engine, self._app).run(
            ["/bin/sh", "-c", f"find {DATA} -type f -print0 | tr -cd '\\0' | wc -c"]
        )
        return f"{int(count):,} files in the volume, seen from the application's container"

    def _start(
        self,
        name: str,
        image: str,
        *,
        command: list[str] | None = None,
        environment: Mapping[str, str] | None = None,
        **host: Any,
    ) -> None:
        api = self._engine.api
        with self._engine.asking("cannot start a container of the demo", name):
            created = api.create_container(
                image,
                command=command,
                name=name,
                environment=dict(environment or {}),
                labels=self._labels,
                host_config=api.create_host_config(network_mode="none", **host),
            )
            api.start(created["Id"])

    def _containers(self, label: str) -> list[dict[str, Any]]:
        with self._engine.asking("cannot list containers"):
            return list(self._engine.api.containers(all=True, filters={"label": label}))

    def _remove_container(self, name: str) -> str:
        container = find_container(self._engine, name)
        _refuse_stranger(name, container.labels, self._run)
        with self._engine.asking("cannot remove a container of the demo", name):
            self._engine.api.remove_container(container.id, v=True, force=True)
        return f"container {name}"

    def _remove_volume(self, name: str) -> str:
        volume = find_volume(self._engine, name)
        if MADE_BY not in volume.labels or not name.startswith(self._name):
            _refuse_stranger(name, volume.labels, self._run)
        with self._engine.asking("cannot remove a volume of the demo", name):
            self._engine.api.remove_volume(name)
        return f"volume {name}"

    def __enter__(self) -> Self:
        reap(self._engine)
        return self

    def __exit__(self, *_: object) -> None:
        for found in self._containers(f"{LABEL}={self._run}"):
            with contextlib.suppress(SourceNotFound):
                self._remove_container(found["Names"][0].lstrip("/"))
        for name in volume_names(self._engine):
            if name.startswith(f"{self._name}-"):
                with contextlib.suppress(SourceNotFound):
                    self._remove_volume(name)


def reap(engine: Engine) -> None:
    """Remove what demos left whose process is gone. What cannot be removed now is left to the next."""
    with engine.asking("cannot list what earlier demos left"):
        containers = engine.api.containers(all=True, filters={"label": OWNER})
        volumes = engine.api.volumes(filters={"label": OWNER})["Volumes"] or []
    with contextlib.suppress(HoldfastError):
        for found in containers:
            if owner_is_gone(found["Labels"][OWNER]):
                with engine.asking("cannot remove what an earlier demo left", found["Id"]):
                    engine.api.remove_container(found["Id"], v=True, force=True)
        for found in volumes:
            if owner_is_gone(found["Labels"][OWNER]):
                with engine.asking("cannot remove what an earlier demo left", found["Name"]):
                    engine.api.remove_volume(found["Name"])


def why_unsuitable(engine: Engine) -> str | None:
    """None when volumes of this engine can be read and written from here, otherwise the reason why not."""
    if not engine.same_machine():
        return f"the engine at {engine.url} runs on another machine"
    root = os.path.join(str(engine.info().get("DockerRootDir") or "/"), "volumes")
    if not os.access(root, os.R_OK | os.W_OK | os.X_OK):
        return f"uid {os.getuid()} may not write {root}"
    return None


def _refuse_stranger(name: str, labels: Mapping[str, str], run: str) -> None:
    if labels.get(LABEL) != run:
        raise EngineRefused(
            "refusing to remove what this demo did not make",
            which=name,
            wanted=f"label {LABEL}={run}",
            found=labels.get(LABEL) or "no such label",
        )
