"""Base backups, WAL and recovery of a server in a container: sidecar, sandbox, new volume."""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import docker
import pytest
from click.testing import CliRunner

from holdfast.cli.main import cli
from holdfast.config.loading import load
from holdfast.config.models import Config
from holdfast.engine.client import connect
from holdfast.engine.exec import ContainerRunner
from holdfast.engine.inventory import take_inventory
from holdfast.engine.sandbox import LABEL
from holdfast.engine.sidecar import LABEL as SIDECAR
from holdfast.errors import CommandFailed, HoldfastError
from holdfast.model.wal import Lsn
from holdfast.services.access import init_repository_at, open_repository_at
from holdfast.services.databases import server_of
from holdfast.services.doctor_sources import examine_sources
from holdfast.services.drill import drill
from holdfast.services.stacks import access_of, back_up
from holdfast.services.wal import wal_sources
from holdfast.services.wal_run import WalRunner
from holdfast.services.wal_status import wal_status

pytestmark = pytest.mark.engine


def now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Place:
    client: docker.DockerClient
    url: str
    config: Config
    path: str
    container: str
    volume: str
    image: str

    def psql(self, sql: str, container: str | None = None) -> str:
        argv = ["psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", "postgres"]
        with connect(self.url) as engine:
            return ContainerRunner(engine, container or self.container).run(argv, stdin=[sql.encode()]).decode().strip()

    def start(self, name: str, volume: str) -> None:
        """A server in a container, made and answering."""
        self.client.containers.run(
            self.image,
            name=name,
            detach=True,
            network_mode="none",
            environment={"POSTGRES_PASSWORD": "pw"},
            volumes={volume: {"bind": "/var/lib/postgresql/data", "mode": "rw"}},
        )
        self.wait(name)

    def wait(self, name: str) -> None:
        """Until a server answers."""
        deadline = time.monotonic() + 60
        while True:
            try:
                with connect(self.url) as engine:
                    ContainerRunner(engine, name).run(["pg_isready", "-h", "127.0.0.1", "-U", "postgres"])
                if self.psql("SELECT pg_is_in_recovery()", name) == "f":
                    return
            except HoldfastError:
                pass
            assert time.monotonic() < deadline, self.client.containers.get(name).logs()
            time.sleep(0.2)

    def holdfast(self, *arguments: str) -> str:
        done = CliRunner().invoke(cli, [*arguments], env={"HOLDFAST_CONFIG": self.path}, catch_exceptions=False)
        return done.output


@contextlib.contextmanager
def made_place(client: docker.DockerClient, url: str, image: str, folder: Path, source: str) -> Iterator[Place]:
    """A container with a server and a configuration; `source` is what it says of the server. Gone afterwards."""
    mark = secrets.token_hex(4)
    password = folder / "password"
    password.write_text("correct horse\n")
    password.chmod(0o600)
    document = folder / "holdfast.yaml"
    document.write_text(
        f"""
version: 1
repository: {{url: {folder / "repository"}, password_file: {password}}}
engine: {{url: {url}}}
stacks:
  shop:
    postgres:
      - {{name: db, container: db-{mark}, method: base, {source}}}
"""
    )
    config = load(str(document))
    made = Place(client, url, config, str(document), f"db-{mark}", f"data-{mark}", image)
    client.volumes.create(made.volume)
    try:
        made.start(made.container, made.volume)
        init_repository_at(access_of(config)).store.close()
        yield made
    finally:
        for container in client.containers.list(all=True):
            if mark in (container.name or ""):
                container.remove(force=True, v=True)
        for volume in client.volumes.list():
            if mark in volume.name:
                volume.remove(force=True)


@pytest.fixture(scope="module")
def place(engine_socket: str, postgres_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("docker-pitr")
    wal = f"wal: {{spool: {folder / 'spool'}, partial_seconds: 1}}"
    with (
        contextlib.closing(docker.DockerClient(base_url=engine_socket)) as client,
        made_place(client, engine_socket, postgres_image, folder, wal) as made,
    ):
        yield made


@contextlib.contextmanager
def archiving(place: Place) -> Iterator[WalRunner]:
    stop = threading.Event()
    with open_repository_at(access_of(place.config)) as repository:
        runner = WalRunner(place.config, repository, wal_sources(place.config, ["shop"])[0], pause=0.2, look=1.0)
        thread = threading.Thread(target=runner.run, args=(stop,))
        thread.start()
        try:
            yield runner
        finally:
            stop.set()
            thread.join()


def wait_archived(place: Place) -> None:
    lsn = Lsn.parse(place.psql("SELECT pg_current_wal_insert_lsn()"))
    deadline = time.monotonic() + 40
    with open_repository_at(access_of(place.config)) as repository:
        source = wal_sources(place.config, ["shop"])[0]
        while time.monotonic() < deadline:
            status = wal_status(place.config, repository, source, now=now())
            if status.exposure.archived_to and Lsn.parse(status.exposure.archived_to) >= lsn:
                return
            time.sleep(0.3)
    raise AssertionError(status)


@pytest.mark.skipif(shutil.which("docker") is None, reason="what doctor says to run is a line for the docker program")
def test_the_line_that_switches_checksums_on_in_a_container(place: Place) -> None:
    found = next(each for each in examine_sources(place.config) if each.check.endswith(", data checksums"))
    assert found.verdict == "warn"
    done = subprocess.run(
        ["/bin/sh", "-c", found.hint or "false"],
        env={**os.environ, "DOCKER_HOST": place.url},
        check=True,
        capture_output=True,
        text=True,
    )
    assert "Checksums enabled" in done.stdout
    place.wait(place.container)
    assert place.psql("SHOW data_checksums") == "on"


def test_from_setup_to_recovery(place: Place) -> None:
    """One story: set up, archive by a sidecar, back up, survive a restart of the server, prove, recover to a volume."""
    place.psql("CREATE TABLE t AS SELECT g AS n, repeat('x', 50) AS note FROM generate_series(1, 5000) g")
    assert "changed  replication slot holdfast_db" in place.holdfast("wal", "setup", "--apply")
    with archiving(place):
        with open_repository_at(access_of(place.config)) as repository:
            report = back_up(place.config, repository, "shop", now=now)
        assert report.sources[0].files_new > 900
        place.psql("INSERT INTO t SELECT 5001, 'before the restart'")
        place.client.containers.get(place.container).restart(timeout=5)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(HoldfastError):
                place.psql("INSERT INTO t SELECT 5002, 'after the restart'")
                break
            time.sleep(0.3)
        wait_archived(place)
        moment = now()
        time.sleep(0.1)
        place.psql("INSERT INTO t SELECT 5003, 'too late'")
        wait_archived(place)
        time.sleep(1.2)
    assert not place.client.containers.list(all=True, filters={"label": SIDECAR}), "the sidecar is gone"

    with open_repository_at(access_of(place.config)) as repository:
        proof = drill(place.config, repository, "shop", now=now)
    assert proof.passed, proof
    assert "canary committed" in proof.sources[0].compared
    assert "structure checked by pg_amcheck" in proof.sources[0].compared
    assert not place.client.containers.list(all=True, filters={"label": LABEL})

    volume = f"{place.volume}-recovered"
    said = place.holdfast(
        "restore", "shop", "--source", "db", "--at", moment.isoformat(), "--volume", volume
    )  # fmt: skip
    assert f"restored to volume {volume}" in said, said
    place.start(f"{place.container}-recovered", volume)
    assert place.psql("SELECT max(n) FROM t", f"{place.container}-recovered") == "5002"
    mountpoint = Path(place.client.volumes.get(volume).attrs["Mountpoint"])
    assert not (mountpoint / "holdfast_wal").exists()
    assert os.stat(mountpoint / "PG_VERSION").st_uid == os.stat(mountpoint / "base").st_uid != 0


def test_a_run_that_is_told_to_end_takes_its_receiver_along(place: Place) -> None:
    volumes = {volume.name for volume in place.client.volumes.list()}
    command = [str(Path(sys.executable).with_name("holdfast")), "wal", "run", "--config", place.path]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    receivers = functools.partial(place.client.containers.list, all=True, filters={"label": SIDECAR})
    deadline = time.monotonic() + 60
    while not any(receiver.status == "running" for receiver in receivers()):
        assert running.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    with connect(place.url) as engine:
        assert not [found.name for found in take_inventory(engine).containers if "holdfast" in found.name]
    assert {volume.name for volume in place.client.volumes.list()} == volumes, "a receiver has no volume"
    running.send_signal(signal.SIGTERM)
    _, said = running.communicate(timeout=60)
    assert (running.returncode, "stopping" in said) == (0, True), said
    assert not receivers()


def test_a_stack_with_a_base_backup_is_restored_beside_itself(place: Place) -> None:
    plan = place.holdfast("restore", "latest", "--stack", "shop", "--dry-run")
    assert "recover the base backup into the new volume shop-db-restored-" in plan
    said = place.holdfast("restore", "latest", "--stack", "shop")
    volume = said.partition("to volume ")[2].partition(":")[0]
    name = f"{place.container}-stack"
    place.start(name, volume)
    try:
        assert place.psql("SELECT max(n) FROM t", name) == "5000"
    finally:
        place.client.containers.get(name).remove(force=True, v=True)
        place.client.volumes.get(volume).remove(force=True)


def test_a_volume_that_exists_is_never_written_into(place: Place) -> None:
    with pytest.raises(HoldfastError, match="there is a volume of this name already"):
        place.holdfast("restore", "shop", "--source", "db", "--latest", "--volume", place.volume)


def test_the_disk_of_a_containers_pg_wal_is_seen(place: Place) -> None:
    with open_repository_at(access_of(place.config)) as repository:
        disk = wal_status(place.config, repository, wal_sources(place.config, ["shop"])[0], now=now()).disk
    room = os.statvfs(place.client.volumes.get(place.volume).attrs["Mountpoint"])
    assert disk.total == room.f_blocks * room.f_frsize
    assert disk.pg_wal


def test_a_file_lies_beside_the_programs_of_a_container_for_a_while(place: Place) -> None:
    """As pg_basebackup reads the list of files that an incremental backup builds on."""
    listed = os.urandom(300_000)
    with connect(place.url) as engine, server_of(place.config, wal_sources(place.config, ["shop"])[0].spec) as server:
        runner = ContainerRunner(engine, place.container)
        with server.beside(listed) as path:
            assert runner.run(["cat", path]) == listed
            assert runner.run(["stat", "-c", "%a", path]).strip() == b"600"
        with pytest.raises(CommandFailed, match="No such file"):
            runner.run(["cat", path])
