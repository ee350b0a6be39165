"""Placing with helper processes: the same files and the same errors with them, without them, and when they die."""

from __future__ import annotations

import os
import random
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from holdfast.errors import TargetFull
from holdfast.repository import blobs, crew, extract, processes
from holdfast.repository.blobs import blob_id
from holdfast.repository.cores import cores, workers_for
from holdfast.repository.crew import Setup
from holdfast.repository.crypto import MasterKey
from holdfast.repository.objects import Folder
from holdfast.repository.processes import Hands, Helper
from holdfast.repository.repository import Repository
from holdfast.repository.shared import SharedBuffers
from holdfast.repository.tree import Node, Xattr
from holdfast.services import placer, placing
from holdfast.services.delta import restore_delta
from holdfast.services.metadata import MetadataWriter
from holdfast.services.placing import PLACING, Block, Order, Place, Placed, Target, place, write_at
from holdfast.services.restore import restore_directory
from tests.support.repositories import backup_directory, latest, new_repository, reopen
from tests.support.trees import build_sample, describe

LARGE = 3 << 20
Ask = Callable[[Order], Placed | None]
Before = Callable[[Helper[Placed], Order, Ask], None]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Helpers from the first blob on, however many cores there are, and enough to do for each of them."""
    monkeypatch.setattr(placer, "WORTH_BLOBS", 1)
    monkeypatch.setattr(extract, "MAX_RANGE", 256 << 10)
    monkeypatch.setattr(crew, "at_once", lambda: 3)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Small files, and two of several blobs each: one with a hole at its end."""
    root = tmp_path / "source"
    build_sample(root)
    chance = random.Random(1)
    (root / "large").write_bytes(chance.randbytes(LARGE))
    with open(root / "with a hole", "wb") as file:
        file.write(chance.randbytes(LARGE))
        file.truncate(8 * LARGE)
    for number in range(300):
        (root / f"{number:03}").write_bytes(b"%d " % (number // 2) * number)
    return root


@pytest.fixture
def repository(tmp_path: Path, source: Path) -> Repository:
    backup_directory(new_repository(tmp_path / "repo"), source)
    return reopen(tmp_path / "repo")


def _spied(monkeypatch: pytest.MonkeyPatch, before: Before) -> list[int]:
    """Have `before` called with each helper and the order that it gets; how many blobs each was about."""
    asked: list[int] = []
    ask = Helper.ask

    def spy(self: Helper[Placed], order: Order) -> Placed | None:
        asked.append(len(order.blocks))
        before(self, order, lambda instead: ask(self, instead))
        return ask(self, order)

    monkeypatch.setattr(Helper, "ask", spy)
    return asked


def _nothing(_helper: Helper[Placed], _order: Order, _ask: Ask) -> None:
    """Only count."""


def test_the_same_files_with_and_without(
    repository: Repository, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = _spied(monkeypatch, _nothing)
    monkeypatch.setattr(crew, "OWN_BESIDE_HELPERS", 0)  # this process leaves all of it to them
    restore_directory(repository, latest(repository), tmp_path / "with")
    assert sum(asked) > 100
    assert describe(tmp_path / "with") == describe(source)
    assert (tmp_path / "with" / "with a hole").stat().st_blocks * 512 < 2 * LARGE
    asked.clear()
    monkeypatch.setattr(crew, "at_once", lambda: 1)
    restore_directory(repository, latest(repository), tmp_path / "without")
    assert describe(tmp_path / "without") == describe(source)
    assert not asked


@pytest.mark.parametrize("survivors", [0, 1])
def test_a_helper_that_dies_half_way_costs_nothing_but_time(
    repository: Repository,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    survivors: int,
) -> None:
    dead: list[int] = []
    lock = threading.Lock()

    def kill(helper: Helper[Placed], order: Order, ask: Ask) -> None:
        begun = order.blocks[: len(order.blocks) // 2]
        makes = any(order.places[target.place].node for block in begun for target in block.targets)
        with lock:
            if len(dead) == 2 - survivors or not makes:
                return
            dead.append(helper.process.pid)
        half = ask(Order(order.slot, order.length, begun, order.places))
        assert half is not None
        assert not half.bad
        helper.process.kill()
        helper.process.wait()

    _spied(monkeypatch, kill)
    monkeypatch.setattr(crew, "OWN_BESIDE_HELPERS", 0)
    restore_directory(repository, latest(repository), tmp_path / "out")
    assert len(dead) == 2 - survivors
    assert describe(tmp_path / "out") == describe(source)
    assert caplog.text.count("died") == len(dead)


def test_what_is_damaged_is_named_as_without(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    largest = max(repository.store.list(Folder.DATA), key=lambda info: info.size)
    with open(os.path.join(repository.location, largest.key), "r+b") as pack:
        for part in range(1, 9):
            pack.seek(largest.size * part // 9)
            pack.write(b"damage")
    repository = reopen(repository.location)
    asked = _spied(monkeypatch, _nothing)
    monkeypatch.setattr(crew, "OWN_BESIDE_HELPERS", 0)
    found = restore_directory(repository, latest(repository), tmp_path / "with")
    assert asked
    assert found.damaged
    monkeypatch.setattr(crew, "at_once", lambda: 1)
    without = restore_directory(repository, latest(repository), tmp_path / "without")
    assert {line.partition(":")[0] for line in found.damaged} == {line.partition(":")[0] for line in without.damaged}
    assert all("(blob " in line or "hard link" in line for line in found.damaged)
    assert found.files == without.files
    assert describe(tmp_path / "with", directory_times=False) == describe(tmp_path / "without", directory_times=False)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small filesystem")
def test_a_full_disk_is_said_and_leaves_nothing(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = _spied(monkeypatch, _nothing)
    monkeypatch.setattr(crew, "OWN_BESIDE_HELPERS", 0)
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "holdfast-test", place], check=True)
    try:
        with pytest.raises(TargetFull, match="no room left"):
            restore_directory(repository, latest(repository), place / "out")
        assert os.listdir(place) == []
    finally:
        subprocess.run(["umount", place], check=True)
    assert asked


def test_a_copy_is_brought_up_to_date_by_them(
    repository: Repository, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore_directory(repository, latest(repository), tmp_path / "out")
    with open(tmp_path / "out" / "large", "r+b") as file:
        file.seek(LARGE // 2)
        file.write(b"something else")
    with open(tmp_path / "out" / "with a hole", "r+b") as file:
        file.seek(5 * LARGE)
        file.write(b"where zeros were")
    (tmp_path / "out" / "007").unlink()
    asked = _spied(monkeypatch, _nothing)
    monkeypatch.setattr(crew, "OWN_BESIDE_HELPERS", 0)
    restore_delta(repository, latest(repository), tmp_path / "out")
    assert describe(tmp_path / "out") == describe(source)
    assert asked


def test_without_memory_to_share_it_is_done_without(
    repository: Repository, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_name: str) -> int:
        raise OSError(38, "Function not implemented")

    asked = _spied(monkeypatch, _nothing)
    monkeypatch.setattr(os, "memfd_create", refuse)
    restore_directory(repository, latest(repository), tmp_path / "out")
    assert describe(tmp_path / "out") == describe(source)
    assert not asked


def test_metadata_that_a_helper_may_not_give_is_counted(tmp_path: Path) -> None:
    """By the process that asked: a helper's own count ends with its answer."""
    key, data = MasterKey.generate(), b"content"
    sealed = key.seal(data)
    node = Node(
        name="",
        type="file",
        mode=0o600,
        mtime="2026-11-26T00:00:00Z",
        uid=os.geteuid(),
        gid=os.getegid(),
        extended_attributes=[Xattr("nobody.knows", b"this kind")],
    )
    block = Block(0, len(sealed), 0, blob_id(data), [Target(0, 0, False)])
    path = os.fsencode(tmp_path / "file")
    placed = place(key, Order(0, len(sealed), [block], [Place(path, node)]), sealed)
    assert not placed.bad
    assert placed.failed is None
    metadata = MetadataWriter()
    metadata.add_refused(placed.refused)
    metadata.add_refused(placed.refused)
    assert len(metadata.notes) == 1
    assert "not restored on 2" in metadata.notes[0]
    assert (tmp_path / "file").read_bytes() == data


def test_a_range_for_many_files_holds_few_of_them_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, pieces = MasterKey.generate(), [b"%d" % number * 10 for number in range(60)]
    blocks, sealed = [], b""
    for number, piece in enumerate(pieces):
        stored = key.seal(piece)
        # Each of 20 files has three of them, far apart.
        target = Target(number % 20, number // 20 * 100, False)
        blocks.append(Block(len(sealed), len(stored), 0, blob_id(piece), [target]))
        sealed += stored
    places = [Place(os.fsencode(tmp_path / str(number))) for number in range(20)]
    for file in places:
        Path(os.fsdecode(file.path)).touch()
    before, most = len(os.listdir("/proc/self/fd")), 0

    def watched(*arguments: Any) -> None:
        nonlocal most
        most = max(most, len(os.listdir("/proc/self/fd")) - before)
        write_at(*arguments)

    monkeypatch.setattr(placing, "write_at", watched)
    monkeypatch.setattr(placing, "KEPT_OPEN", 3)
    monkeypatch.setattr(blobs, "_BATCH", 100)  # several writes of the same file
    assert place(key, Order(0, len(sealed), blocks, places), sealed) == Placed()
    assert most == 3
    assert len(os.listdir("/proc/self/fd")) == before
    for number, piece in enumerate(pieces):
        at = number // 20 * 100
        assert (tmp_path / str(number % 20)).read_bytes()[at : at + len(piece)] == piece


def test_an_answer_that_nobody_waited_for_is_nobodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    buffers = SharedBuffers(1, 1 << 16)
    helper = Helper(PLACING, Setup(MasterKey.generate().to_json(), buffers.descriptor, 1 << 16), [buffers.descriptor])
    hands = Hands(0, [helper])
    nothing = Order(0, 0, [], [])
    try:
        with hands.turn() as hand:
            assert hand is helper
            assert helper.ask(nothing) == Placed()

        def interrupted(_stream: object) -> bytes:
            raise KeyboardInterrupt

        monkeypatch.setattr(processes, "receive", interrupted)
        with pytest.raises(KeyboardInterrupt), hands.turn() as hand:
            helper.ask(nothing)
        with hands.turn() as hand:
            assert hand is None
    finally:
        hands.close()
        buffers.close()


def test_no_more_work_than_there_are_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "at_once", lambda: 1)
    monkeypatch.setattr(extract, "MAX_RANGE", 1)  # each blob is read by itself
    source = tmp_path / "source"
    source.mkdir()
    for number in range(60):
        (source / f"{number}").write_bytes(os.urandom(10))
    backup_directory(new_repository(tmp_path / "repo"), source)
    repository = reopen(tmp_path / "repo")
    repository.connections = 8
    lock, at_work, most = threading.Lock(), 0, 0

    def slow(*arguments: Any) -> Placed:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        time.sleep(0.005)
        with lock:
            at_work -= 1
        return place(*arguments)

    monkeypatch.setattr(placer, "place", slow)
    restore_directory(repository, latest(repository), tmp_path / "out")
    assert describe(tmp_path / "out") == describe(source)
    assert 1 < most <= workers_for(cores())


def test_progress_is_told_by_the_callers_thread_after_each_range(repository: Repository, tmp_path: Path) -> None:
    told: list[tuple[int, int, int]] = []
    report = restore_directory(
        repository,
        latest(repository),
        tmp_path / "out",
        on_progress=lambda done: told.append((threading.get_ident(), done.files, done.bytes)),
    )
    assert {thread for thread, _, _ in told} == {threading.get_ident()}
    assert len({files for _, files, _ in told}) > 5
    assert told == sorted(told)
    assert told[-1][1:] == (report.files, report.bytes)
