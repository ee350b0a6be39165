"""Images, their cache, the S3 server, restic and PostgreSQL programs: each is what its users take it for."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from typing import Any

import boto3
import botocore.exceptions
import docker
import psycopg
import pytest
from docker.models.containers import Container

from deployments.local import cache, checks, images, postgres, postgres_majors, s3
from deployments.local.archive import ImageSettings, write_archive
from deployments.local.machine import REPOSITORY_ROOT, CannotProvide, is_root
from tests.support.clusters import has_amcheck

PASSWORD = 'it\'s a "pass word" $HOME'
OPEN = {"POSTGRES_HOST_AUTH_METHOD": "trust"}


def wait_for_server(container: Container, user: str) -> None:
    """Until the last start: while databases are made, the server listens on its socket only."""
    deadline = time.monotonic() + 60
    while container.exec_run(["pg_isready", "-h", "127.0.0.1", "-U", user]).exit_code != 0:
        container.reload()
        assert container.status == "running", container.logs().decode()
        assert time.monotonic() < deadline, container.logs().decode()
        time.sleep(0.1)


def put_files(container: Container, folder: str, files: dict[str, str]) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content.encode()), 0o644
            archive.addfile(member, io.BytesIO(content.encode()))
    assert container.put_archive(folder, stream.getvalue())


@pytest.fixture(scope="module")
def server(engine_socket: str, postgres_image: str) -> Iterator[tuple[Container, dict[str, Any]]]:
    """A server with everything that the environment can say, and how to reach it from this machine."""
    environment = {
        "POSTGRES_PASSWORD_FILE": "/run/password",
        "POSTGRES_USER": "app",
        "POSTGRES_DB": "my shop",
        "POSTGRES_INITDB_ARGS": "--data-checksums --locale='C' --encoding=UTF8",
    }
    with contextlib.closing(docker.DockerClient(base_url=engine_socket)) as client:
        network = client.networks.create("conventions")
        container = client.containers.create(
            postgres_image, ["-c", "work_mem=7MB"], environment=environment, network="conventions"
        )
        try:
            put_files(container, "/run", {"password": PASSWORD})
            scripts = {
                "1.sql": "CREATE TABLE one (id int);",
                "2.sh": 'psql -U app -d "my shop" -c "ALTER TABLE one RENAME TO two"',
            }
            put_files(container, "/docker-entrypoint-initdb.d", scripts)
            container.start()
            wait_for_server(container, "app")
            container.reload()
            address = container.attrs["NetworkSettings"]["Networks"]["conventions"]["IPAddress"]
            yield container, {"host": address, "user": "app", "dbname": "my shop", "connect_timeout": 5}
        finally:
            container.remove(force=True, v=True)
            network.remove()


@pytest.mark.engine
def test_postgres_image_reads_what_the_official_one_reads(server: tuple[Container, dict[str, Any]]) -> None:
    container, address = server
    with psycopg.connect(**address, password=PASSWORD) as connection:
        shown = {
            name: connection.execute(f"SHOW {name}").fetchone()
            for name in ("data_checksums", "work_mem", "data_directory", "listen_addresses", "unix_socket_directories")
        }
        assert connection.execute("SELECT to_regclass('two')::text").fetchone() == ("two",)
    assert shown == {
        "data_checksums": ("on",),
        "work_mem": ("7MB",),
        "data_directory": ("/var/lib/postgresql/data",),
        "listen_addresses": ("*",),
        "unix_socket_directories": ("/var/run/postgresql",),
    }
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(**address, password="wrong")
    with_trust = ["psql", "-U", "app", "-d", "my shop", "-Atc", "SELECT 1"]
    assert container.exec_run(with_trust).output == b"1\n"  # local connections need no password
    assert PASSWORD.encode() not in container.logs()


@pytest.mark.engine
def test_postgres_image_has_the_tools_and_the_form_of_the_official_one(
    server: tuple[Container, dict[str, Any]], engine_client: docker.DockerClient, postgres_image: str
) -> None:
    container, _ = server
    for tool in ("pg_dump", "pg_dumpall", "pg_restore", "psql", "createdb", "pg_basebackup", "pg_isready"):
        assert container.exec_run([tool, "--version"]).exit_code == 0
    assert container.exec_run(["stat", "-c", "%U %a", "/var/lib/postgresql/data"]).output == b"postgres 700\n"
    assert container.exec_run(["sh", "-c", "tr '\\0' ' ' </proc/1/cmdline"]).output == b"postgres -c work_mem=7MB "
    config = engine_client.images.get(postgres_image).attrs["Config"]
    assert config["StopSignal"] == "SIGINT"
    assert list(config["Volumes"]) == ["/var/lib/postgresql/data"]
    assert list(config["ExposedPorts"]) == ["5432/tcp"]
    assert "PGDATA=/var/lib/postgresql/data" in config["Env"]
    assert engine_client.images.get(postgres_image).attrs["Size"] < 350_000_000


@pytest.mark.engine
def test_postgres_image_keeps_its_data_and_refuses_to_start_without_password(
    engine_client: docker.DockerClient, postgres_image: str
) -> None:
    container = engine_client.containers.run(postgres_image, detach=True)
    try:
        assert container.wait(timeout=30)["StatusCode"] == 1
        assert b"POSTGRES_PASSWORD" in container.logs()
    finally:
        container.remove(force=True, v=True)
    container = engine_client.containers.run(postgres_image, environment=OPEN, detach=True)
    try:
        wait_for_server(container, "postgres")
        assert container.exec_run(["createdb", "-U", "postgres", "kept"]).exit_code == 0
        container.restart(timeout=10)
        wait_for_server(container, "postgres")
        listed = ["psql", "-U", "postgres", "-Atc", "SELECT datname FROM pg_database WHERE datname = 'kept'"]
        assert container.exec_run(listed).output == b"kept\n"
        started = time.monotonic()
        container.stop(timeout=10)
        assert time.monotonic() - started < 9, "it did not understand its stop signal"
    finally:
        container.remove(force=True, v=True)


@pytest.mark.engine
def test_a_truncated_image_in_the_cache_is_made_anew(
    engine_socket: str, engine_client: docker.DockerClient, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    recipe = images.Recipe("test", "registry.invalid/none:1", images.BLANK_ROOTFS, images.BLANK.settings)
    try:
        assert images.provide(engine_socket, recipe).origin == "built"
        assert images.provide(engine_socket, recipe).origin == "engine"
        engine_client.images.remove(recipe.local, force=True)
        assert images.provide(engine_socket, recipe).origin == "cache"
        engine_client.images.remove(recipe.local, force=True)
        [archive] = [name for name in os.listdir(f"{tmp_path}/holdfast") if name.endswith(".tar")]
        os.truncate(f"{tmp_path}/holdfast/{archive}", 1_000_000)
        assert images.provide(engine_socket, recipe).origin == "built"
        assert engine_client.containers.run(recipe.local, ["echo", "whole"], remove=True) == b"whole\n"
    finally:
        with contextlib.suppress(docker.errors.ImageNotFound):
            engine_client.images.remove(recipe.local, force=True)


def test_cache_keeps_whole_files_only(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def write(path: str) -> None:
        with open(path, "wb") as file:
            file.write(b"content" * 1000)

    def fail(path: str) -> None:
        write(path)
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        cache.store("thing", "key", fail)
    assert cache.cached("thing", "key") is None
    os.makedirs(f"{tmp_path}/holdfast/.thing.left-by-a-kill")
    path = cache.store("thing", "key", write)
    assert cache.cached("thing", "key") == path
    assert cache.cached("thing", "other") is None
    os.truncate(path, 6999)
    assert cache.cached("thing", "key") is None
    cache.store("thing", "key", write)
    newer = cache.store("thing", "newer", write)
    assert os.listdir(f"{tmp_path}/holdfast") == [os.path.basename(newer)]


def test_image_archives_of_the_same_content_are_the_same(tmp_path: object) -> None:
    layer = f"{tmp_path}/layer.tar"
    with tarfile.open(layer, "w"):
        pass
    for name in ("a", "b"):
        write_archive(layer, ImageSettings(command=("sleep",)), "x:1", f"{tmp_path}/{name}.tar")
    with open(f"{tmp_path}/a.tar", "rb") as first, open(f"{tmp_path}/b.tar", "rb") as second:
        assert first.read() == second.read()
    with tarfile.open(f"{tmp_path}/a.tar") as archive:
        manifest = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]  # it is a regular member
    assert manifest[0]["RepoTags"] == ["x:1"]


def test_rclone_is_an_s3_server_with_keys_of_its_own(rclone_s3: s3.S3Endpoint) -> None:
    def client(secret: str) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=rclone_s3.endpoint,
            region_name="us-east-1",
            aws_access_key_id=rclone_s3.access_key,
            aws_secret_access_key=secret,
        )

    good = client(rclone_s3.secret_key)
    good.create_bucket(Bucket="provisioned")
    good.put_object(Bucket="provisioned", Key="folder/key", Body=b"bytes")
    with open(f"{rclone_s3.directory}/provisioned/folder/key", "rb") as file:
        assert file.read() == b"bytes"
    with pytest.raises(botocore.exceptions.ClientError, match="SignatureDoesNotMatch"):
        client("wrong-secret").list_buckets()
    assert rclone_s3.secret_key not in repr(rclone_s3)


def test_rclone_ends_with_its_owner_and_keeps_a_named_directory(tmp_path: object) -> None:
    owner = (
        "import time\nfrom deployments.local.s3 import RcloneServer\n"
        f"with RcloneServer({str(tmp_path)!r}) as server:\n    print(server.endpoint, flush=True)\n    time.sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", owner],
        cwd=REPOSITORY_ROOT,
        env={**os.environ, "PYTHONPATH": "."},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    endpoint = process.stdout.readline().strip()
    host, port = endpoint.removeprefix("http://").split(":")
    assert _listens(host, int(port))
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 10
    while _listens(host, int(port)):
        assert time.monotonic() < deadline, "rclone outlived its owner"
        time.sleep(0.1)
    assert os.path.isdir(str(tmp_path))


def _listens(host: str, port: int) -> bool:
    import socket

    with socket.socket() as handle:
        return handle.connect_ex((host, port)) == 0


def test_postgresql_programs_of_the_wheel_run_for_another_user() -> None:
    programs = postgres.wheel_programs()
    assert programs.version.startswith("16.")
    user = 65534 if is_root() else None
    done = subprocess.run(
        [f"{programs.folder}/initdb", "--version"], user=user, capture_output=True, text=True, check=True
    )
    assert programs.version in done.stdout
    assert postgres.wheel_programs() == programs


@pytest.mark.parametrize("major", postgres_majors.MAJORS)
def test_a_whole_postgresql_of_each_further_version_runs_for_another_user(major: int) -> None:
    try:
        programs = postgres_majors.major_programs(major)
    except CannotProvide as error:
        pytest.skip(str(error))
    assert programs.version.startswith(f"{major}.")
    user = 65534 if is_root() else None
    for program in ("initdb", "pg_basebackup", "pg_receivewal", "pg_dump", "pg_verifybackup", "pg_amcheck"):
        argv = [f"{programs.folder}/{program}", "--version"]
        assert programs.version in subprocess.run(argv, user=user, capture_output=True, text=True, check=True).stdout
    assert has_amcheck(programs.folder)


def test_a_failed_check_is_remembered_and_fails_the_whole(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(checks, "CHECKS", (("good", ("ruff", "--version")), ("bad", ("ruff", "no-such-command"))))
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    nothing = ["-q", "-p", "no:cacheprovider", "tests/system/test_provisioned_parts.py", "-k", "archives_of_the_same"]
    assert checks.main(nothing) == 1
    said = capfd.readouterr().out
    assert "good: passed" in said
    assert "unrecognized subcommand" in said
    assert "FAILED before the tests: bad" in said
    assert said.rstrip().splitlines()[-1].startswith("1 passed")
