"""The main job on a real engine and a real PostgreSQL: back up, drill, destroy, restore, compare."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import docker
import pytest

from holdfast.config.loading import load
from holdfast.config.models import Config
from holdfast.engine.archive import ArchiveTree
from holdfast.engine.client import Engine, connect
from holdfast.engine.discovery import find_running
from holdfast.engine.exec import ContainerRunner
from holdfast.engine.sandbox import LABEL, OWNER, Sandbox, reap, refuse_stranger
from holdfast.engine.volumes import create_volume, find_volume, remove_volume
from holdfast.errors import (
    DatabaseDenied,
    DumpFailed,
    EngineRefused,
    HoldfastError,
    RestoreError,
    SourceNotFound,
    TargetInUse,
    TargetNotEmpty,
)
from holdfast.model.entry import Entry
from holdfast.model.snapshot import Snapshot
from holdfast.postgres.server import container_server
from holdfast.repository.repository import Repository
from holdfast.services.access import init_repository_at, open_repository_at
from holdfast.services.backup import BackupReport
from holdfast.services.drill import drill
from holdfast.services.recovery import plan_restore, restore_step
from holdfast.services.restore import RestoreReport, restore_directory
from holdfast.services.stacks import access_of, back_up
from holdfast.services.status import status
from holdfast.sources.tree import TreeSource

pytestmark = pytest.mark.engine

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


@pytest.fixture
def stack(
    engine_socket: str, engine_client: docker.DockerClient, postgres_image: str, tmp_path: Path
) -> Iterator[Stack]:
    with made_stack(engine_socket, engine_client, postgres_image, tmp_path) as made:
        yield made


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


@pytest.fixture
def repository(stack: Stack) -> Iterator[Repository]:
    with init_repository_at(access_of(stack.config)) as made:
        yield made


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


def test_backed_up_drilled_destroyed_and_restored(stack: Stack, repository: Repository) -> None:
    stack.back_up(repository)
    second = stack.back_up(repository)
    volume = next(source for source in second.sources if source.source.startswith("volume:"))
    assert volume.files_unmodified == volume.files_unmodified + volume.files_new + volume.files_changed
    proof = drill(stack.config, repository, "shop", now=now)
    assert proof.passed, proof
    assert "5,002 rows" in next(s.compared for s in proof.sources if s.source == "postgres:db")
    assert sandboxes_left(stack.client) == []

    before = record(stack.mountpoint)
    roles = "SELECT string_agg(rolname || coalesce(rolpassword, ''), ',' ORDER BY rolname) FROM pg_authid"
    passwords = stack.psql(roles)
    items = stack.psql("SELECT md5(string_agg(t::text || price || note, ',' ORDER BY t)) FROM items")
    stack.stop_database()
    remove_volume(stack.engine, stack.volume)
    stack.start_database()
    plan = plan_restore(stack.config, repository, "shop")
    for step in plan.steps:
        restore_step(stack.config, repository, plan, step)
    assert record(stack.mountpoint) == before
    assert stack.psql("SELECT md5(string_agg(t::text || price || note, ',' ORDER BY t)) FROM items") == items
    assert stack.psql(roles) == passwords
    assert stack.psql("SELECT datname FROM pg_database WHERE datname LIKE 'odd%'") == 'odd "name/1'
    assert stack.psql("SELECT has_table_privilege('shopkeeper', 'items', 'SELECT')") == "t"
    assert status(repository, now=now()).stacks[0].last_proven == plan.point


def test_a_drill_finds_what_differs(stack: Stack, repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    stack.back_up(repository)
    # A restore that goes wrong after the bytes were checked: one byte of one file is turned on the disk.
    real = restore_directory

    def restore_and_spoil(repository: Repository, snapshot: Snapshot, directory: str) -> RestoreReport:
        report = real(repository, snapshot, directory)
        if snapshot.source.startswith("stack:"):
            return report
        with open(os.path.join(directory, "big"), "r+b") as file:
            byte = file.read(1)
            file.seek(0)
            file.write(bytes([byte[0] ^ 1]))
        return report

    monkeypatch.setattr("holdfast.services.drill.restore_directory", restore_and_spoil)
    proof = drill(stack.config, repository, "shop", now=now)
    assert not proof.passed
    assert any("big" in problem for source in proof.sources for problem in source.problems)
    assert sandboxes_left(stack.client) == []


def test_what_holds_data_is_not_written_into(stack: Stack, repository: Repository) -> None:
    stack.back_up(repository)
    (stack.mountpoint / "new since").write_text("precious")
    plan = plan_restore(stack.config, repository, "shop")
    by_source = {step.source.partition(":")[0]: step for step in plan.steps}
    assert by_source["volume"].place != stack.volume
    restore_step(stack.config, repository, plan, by_source["volume"])
    assert (stack.mountpoint / "new since").read_text() == "precious"
    stack.psql("INSERT INTO items VALUES (-1, 0, 'precious')")
    with pytest.raises(TargetNotEmpty, match="postgres in container"):
        restore_step(stack.config, repository, plan, by_source["postgres"])
    assert stack.psql("SELECT note FROM items WHERE t = -1") == "precious"


def test_replacing_is_explicit_and_never_under_a_running_container(stack: Stack, repository: Repository) -> None:
    stack.back_up(repository)
    before = record(stack.mountpoint)
    (stack.mountpoint / "big").write_bytes(b"ruined")
    stack.psql("DELETE FROM items WHERE t > 10")
    user = stack.client.containers.create(stack.image, ["sleep", "60"], volumes={stack.volume: {"bind": "/x"}})
    try:
        user.start()
        with pytest.raises(TargetInUse):
            plan_restore(stack.config, repository, "shop", replace=True)
    finally:
        user.remove(force=True)
    plan = plan_restore(stack.config, repository, "shop", replace=True)
    for step in plan.steps:
        restore_step(stack.config, repository, plan, step)
    assert record(stack.mountpoint) == before
    assert stack.psql("SELECT count(*) FROM items") == "5000"
    assert stack.psql("SELECT count(*) FROM pg_database WHERE datname LIKE '%holdfast-old%'") == "0"


def test_a_failed_load_brings_the_old_database_back(stack: Stack, repository: Repository) -> None:
    stack.back_up(repository)
    stack.psql("UPDATE items SET note = 'newer' WHERE t = 1")
    restore = "pg_restore"
    script = 'p=$(command -v "$1"); mv "$p" "$p.real"; printf "%s\\n" "#!/bin/sh" "$2" > "$p"; chmod 755 "$p"'
    half = 'head -c 3000 | pg_restore.real "$@"; cat > /dev/null; exit 1'
    stack.runner().run(["sh", "-c", script, "sh", restore, half])
    plan = plan_restore(stack.config, repository, "shop", replace=True)
    step = next(step for step in plan.steps if step.source == "postgres:db")
    with pytest.raises(RestoreError, match="cannot restore the database"):
        restore_step(stack.config, repository, plan, step)
    assert stack.psql("SELECT note FROM items WHERE t = 1") == "newer"


def demand_passwords(stack: Stack) -> None:
    pgdata = stack.runner().run(["sh", "-c", 'printf %s "$PGDATA"']).decode()
    stack.runner().run(["sh", "-c", f"echo 'local all all scram-sha-256' > {pgdata}/pg_hba.conf"])
    reload = 'kill -HUP "$(head -1 "$PGDATA/postmaster.pid")"'
    stack.runner().run(["sh", "-c", reload])
    time.sleep(0.5)


def rename_pg_dump(stack: Stack, script: str) -> None:
    put = 'p=$(command -v pg_dump); mv "$p" "$p.real"; printf "%s\\n" "#!/bin/sh" "$1" > "$p"; chmod 755 "$p"'
    stack.runner().run(["sh", "-c", put, "sh", script])


@pytest.mark.parametrize(
    ("break_it", "error"),
    [
        (demand_passwords, DatabaseDenied),
        (lambda stack: rename_pg_dump(stack, "exit 0"), DumpFailed),
        (lambda stack: rename_pg_dump(stack, "echo no dump at all"), DumpFailed),
        (lambda stack: rename_pg_dump(stack, 'pg_dump.real "$@"; exit 1'), DumpFailed),
        (lambda stack: rename_pg_dump(stack, 'echo "No space left on device" >&2; exit 1'), DumpFailed),
        (lambda stack: rename_pg_dump(stack, 'kill -9 "$(head -1 "$PGDATA/postmaster.pid")"; sleep 30'), HoldfastError),
    ],
    ids=["password", "zero bytes", "no dump", "late failure", "full disk", "killed server"],
)
def test_a_failed_dump_leaves_no_snapshot(
    stack: Stack, repository: Repository, break_it: Callable[[Stack], None], error: type[HoldfastError]
) -> None:
    break_it(stack)
    with pytest.raises(error):
        stack.back_up(repository)
    assert repository.snapshots().snapshots == ()


def test_mistyped_names_are_errors_that_name_the_nearest(stack: Stack, repository: Repository) -> None:
    with pytest.raises(SourceNotFound) as caught:
        find_volume(stack.engine, stack.volume[:-1])
    assert stack.volume in (caught.value.hint or "")
    with pytest.raises(SourceNotFound) as caught:
        find_running(stack.engine, stack.container + "x")
    assert stack.container in (caught.value.hint or "")
    stack.stop_database()
    with pytest.raises(SourceNotFound):
        stack.back_up(repository)
    assert repository.snapshots().snapshots == ()


def described(entry: Entry, data: bytes) -> tuple[object, ...]:
    return (entry.path, entry.kind, entry.mode, entry.uid, entry.gid, entry.link_target, entry.links > 1, data)


def contents(entries: Iterator[Entry], *, whole: bool) -> list[tuple[object, ...]]:
    seen: set[tuple[int, int]] = set()
    found = []
    for entry in entries:
        data = b""
        link = (entry.device, entry.inode)
        if entry.content is not None and not (entry.kind == "file" and entry.links > 1 and link in seen):
            stream = entry.content.open()
            while piece := stream.read(1 << 16):
                data += piece
            stream.close()
        if entry.kind == "file" and entry.links > 1:
            seen.add(link)
        if entry.kind == "dir" and not whole:
            entry.links = 1
        found.append(described(entry, data) if entry.kind != "dir" else described(entry, data)[:6])
    return found


def test_the_archive_api_gives_the_same_tree(stack: Stack) -> None:
    volume = find_volume(stack.engine, stack.volume)
    over_api = ArchiveTree(stack.engine, volume)
    direct = TreeSource(volume.mountpoint, label=f"volume:{stack.volume}")
    assert contents(over_api.entries(), whole=True) == contents(direct.entries(), whole=True)
    assert over_api.notes
    assert sandboxes_left(stack.client) == []


def test_a_sandbox_removes_nothing_but_its_own(stack: Stack) -> None:
    with Sandbox(stack.engine) as first, Sandbox(stack.engine) as second:
        mine, other = first.volume("a"), second.volume("b")
        first.destroy()
        names = [volume.name for volume in stack.client.volumes.list()]
        assert mine.name not in names
        assert other.name in names
        assert stack.volume in names
        with pytest.raises(EngineRefused, match="refusing"):
            refuse_stranger(stack.volume, {}, first.run)


def test_what_a_killed_drill_left_is_reaped_and_what_a_living_one_has_is_not(stack: Stack) -> None:
    with Sandbox(stack.engine) as alive:
        kept = alive.volume("kept")
        host = os.uname().nodename
        dead = stack.client.volumes.create("dead", labels={LABEL: "gone", OWNER: f"{host}/{os.getpid()}/1"})
        assert reap(stack.engine) == ["gone"]
        names = [volume.name for volume in stack.client.volumes.list()]
        assert dead.name not in names
        assert kept.name in names


def test_facts_and_dump_are_of_one_instant(stack: Stack) -> None:
    server = container_server(stack.runner(), user="postgres", password=None, image=None)
    with server.session("postgres") as session:
        session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        assert session.query("SELECT count(*) AS n FROM items")[0]["n"] == 5000
        stack.psql("DELETE FROM items")
        assert session.query("SELECT count(*) AS n FROM items")[0]["n"] == 5000
    assert stack.psql("SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in%'") == "0"


def test_a_restore_needs_only_the_repository(stack: Stack, repository: Repository, tmp_path: Path) -> None:
    stack.back_up(repository)
    before = record(stack.mountpoint)
    with open_repository_at(access_of(stack.config)) as opened:
        snapshot = next(s for s in opened.snapshots().snapshots if s.source == f"volume:{stack.volume}")
        restore_directory(opened, snapshot, tmp_path / "out")
    assert record(tmp_path / "out") == before
    shutil.rmtree(tmp_path / "out")
