"""The main job on a real engine and a real PostgreSQL: back up, drill, destroy, restore, compare."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest

from holdfast.engine.discovery import find_running
from holdfast.engine.volumes import find_volume, remove_volume
from holdfast.errors import (
    DatabaseDenied,
    DumpFailed,
    HoldfastError,
    RestoreError,
    SourceNotFound,
    TargetInUse,
    TargetNotEmpty,
)
from holdfast.model.snapshot import Snapshot, restore_points
from holdfast.repository.repository import Repository
from holdfast.services.drill import drill
from holdfast.services.recovery import plan_restore, restore_step
from holdfast.services.restore import RestoreReport, restore_directory
from holdfast.services.status import status
from tests.support.shop import Stack, now, record, sandboxes_left

pytestmark = pytest.mark.engine


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
        (lambda stack: rename_pg_dump(stack, 'kill -9 "$(head -1 "$PGDATA/postmaster.pid")"; sleep 5'), HoldfastError),
    ],
    ids=["password", "zero bytes", "no dump", "late failure", "full disk", "killed server"],
)
def test_a_failed_dump_leaves_no_snapshot_of_it(
    stack: Stack, repository: Repository, break_it: Callable[[Stack], None], error: type[HoldfastError]
) -> None:
    break_it(stack)
    with pytest.raises(error):
        stack.back_up(repository)
    left = repository.snapshots().snapshots
    assert [snapshot.source for snapshot in left if snapshot.source.startswith("postgres:")] == []
    assert not any(point.complete for point in restore_points(left)), "the volume alone is no restore point"


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
