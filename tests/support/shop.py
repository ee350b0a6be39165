"""A stack on a real engine for tests: a volume with files, a PostgreSQL container with rows, their configuration."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import docker

from holdfast.config.loading import load
from holdfast.config.models import Config
from holdfast.engine.client import Engine, connect
from holdfast.engine.exec import ContainerRunner
from holdfast.engine.sandbox import LABEL
from holdfast.engine.volumes import create_volume, find_volume
from holdfast.errors import (
    HoldfastError,
)
from holdfast.repository.repository import Repository
from holdfast.services.backup import BackupReport
from holdfast.services.stacks import back_up

SQL = """
CREATE ROLE shopkeeper LOGIN PASSWORD 'open sesame';
CREATE DATABASE "odd ""name/1" OWNER shopkeeper;
CREATE TABLE items (t int PRIMARY KEY, price numeric, note text);
INSERT INTO items SELECT n, n * 1.25, repeat('x', n % 40) FROM generate_series(1, 5000) n;
CREATE TABLE "Weird table" (a text[], b jsonb, c timestamptz DEFAULT now());
INSERT INTO "Weird table" VALUES (ARRAY['a','"b'], '{"k": [1, null]}'), (NULL, NULL);
GRANT SELECT ON items TO shopkeeper;
"""


def now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Stack:
    engine: Engine
    client: docker.DockerClient
    config: Config
    container: str
    volume: str
    image: str

    @property
    def mountpoint(self) -> Path:
        return Path(find_volume(self.engine, self.volume).mountpoint)

    def runner(self) -> ContainerRunner:
        return ContainerRunner(self.engine, self.container)

    def psql(self, sql: str, database: str = "postgres") -> str:
        argv = ["psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database]
        return self.runner().run(argv, stdin=[sql.encode()]).decode().strip()

    def start_database(self) -> None:
        self.client.containers.run(
            self.image, name=self.container, detach=True, network_mode="none", environment={"POSTGRES_PASSWORD": "pw"}
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                self.runner().run(["pg_isready", "-h", "127.0.0.1", "-U", "postgres"])
            except HoldfastError:
                assert time.monotonic() < deadline, self.client.containers.get(self.container).logs()
                time.sleep(0.2)
            else:
                return

    def stop_database(self) -> None:
        self.client.containers.get(self.container).remove(force=True, v=True)

    def back_up(self, repository: Repository) -> BackupReport:
        return back_up(self.config, repository, "shop", now=now)


@contextlib.contextmanager
def made_stack(
    engine_socket: str, engine_client: docker.DockerClient, postgres_image: str, tmp_path: Path
) -> Iterator[Stack]:
    """A stack with files and rows, and its configuration; gone afterwards."""
    mark = secrets.token_hex(4)
    password = tmp_path / "password"
    password.write_text("correct horse\n")
    password.chmod(0o600)
    document = tmp_path / "holdfast.yaml"
    document.write_text(
        f"""
version: 1
repository:
  url: {tmp_path / "repository"}
  password_file: {password}
engine:
  url: {engine_socket}
stacks:
  shop:
    volumes: [files-{mark}]
    postgres:
      - name: db
        container: db-{mark}
""",
    )
    with connect(engine_socket) as engine:
        made = Stack(engine, engine_client, load(str(document)), f"db-{mark}", f"files-{mark}", postgres_image)
        create_volume(engine, made.volume)
        made.start_database()
        fill(made.mountpoint)
        made.psql(SQL)
        try:
            yield made
        finally:
            with contextlib.suppress(docker.errors.NotFound):
                made.stop_database()
            for volume in engine_client.volumes.list():
                if mark in volume.name:
                    volume.remove(force=True)


def fill(directory: Path) -> None:
    for number in range(200):
        file = directory / f"{number % 7}" / f"file {number}"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(secrets.token_bytes(number * 17))
    (directory / "big").write_bytes(secrets.token_bytes(3 << 20))
    os.link(directory / "big", directory / "z-link")
    (directory / "symbolic").symlink_to("nowhere")
    os.chown(directory / "big", 999, 998)
    (directory / "a.b").mkdir(mode=0o750)
    (directory / "a").mkdir()
    (directory / "a" / "empty").touch()


def record(directory: Path) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() and not path.is_symlink() else ""
        found[str(path.relative_to(directory))] = (
            status.st_mode,
            status.st_uid,
            status.st_gid,
            status.st_mtime_ns,
            status.st_nlink if path.is_file() else 0,
            content,
        )
    return found


def sandboxes_left(client: docker.DockerClient) -> list[object]:
    filters: dict[str, str | list[str] | bool] = {"label": LABEL}
    return [
        *client.containers.list(all=True, filters=filters),
        *client.volumes.list(filters=filters),
        *client.networks.list(filters=filters),
    ]
