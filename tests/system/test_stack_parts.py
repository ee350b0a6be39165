"""Parts that the main job rests on, on a real engine: the archive API, sandboxes, a dump and its facts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.engine.archive import ArchiveTree
from holdfast.engine.sandbox import LABEL, OWNER, Sandbox, reap, refuse_stranger
from holdfast.engine.volumes import find_volume
from holdfast.errors import (
    EngineRefused,
)
from holdfast.model.entry import Entry
from holdfast.postgres.server import container_server
from holdfast.repository.repository import Repository
from holdfast.services.access import open_repository_at
from holdfast.services.restore import restore_directory
from holdfast.services.stacks import access_of
from holdfast.sources.tree import TreeSource
from tests.support.shop import Stack, record, sandboxes_left

pytestmark = pytest.mark.engine


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
