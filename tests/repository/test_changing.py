"""Trees that change while they are captured: no name gets another file's content, and what was handed over is read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.model.entry import Entry
from holdfast.repository.archive import TreeArchiver
from holdfast.repository.reader import walk
from holdfast.sources.tree import TreeSource
from tests.support.repositories import new_repository

Meanwhile = Callable[[Entry, TreeArchiver], None]
PRECIOUS, OTHER = b"precious" * 100, b"OTHER!!!" * 100


@pytest.fixture(autouse=True, params=["batch", "piece", "stream"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Files of a few hundred bytes are read as small ones are (late), as medium ones, and as large ones (at once)."""
    if request.param != "batch":
        monkeypatch.setattr("holdfast.repository.contents.MIN_SIZE", 1)
    if request.param == "stream":
        monkeypatch.setattr("holdfast.repository.contents.WHOLE_FILE", 1)
    return str(request.param)


def _captured(tmp_path: Path, root: Path, meanwhile: Meanwhile) -> dict[bytes, str]:
    """Capture `root`, doing something after each entry was handed over; the blob of each file."""
    repository = new_repository(tmp_path / "repository")
    with repository.lock(), repository.writer() as blobs:
        archiver = TreeArchiver(blobs, repository.reader)
        for entry in TreeSource(root, label="test").entries():
            if entry.path:
                archiver.add(entry)
                meanwhile(entry, archiver)
        tree = archiver.finish()
        blobs.finish()
    repository.refresh()
    return {path: "".join(node.blobs) for path, node in walk(repository.reader, tree) if node.type == "file"}


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for name in ("a", "b", "c"):
        (root / name).mkdir(parents=True)
    (root / "a" / "f").write_bytes(PRECIOUS)
    os.link(root / "a" / "f", root / "b" / "f")
    os.link(root / "a" / "f", root / "c" / "f")
    return root


def test_the_first_of_several_names_vanishes_before_it_is_read(tmp_path: Path, linked: Path) -> None:
    def unlink(entry: Entry, _: TreeArchiver) -> None:
        if entry.path == b"a/f":
            os.unlink(linked / "a" / "f")

    found = _captured(tmp_path, linked, unlink)
    assert found.get(b"b/f") == found.get(b"c/f") == _hash(PRECIOUS)


def test_the_first_of_several_names_becomes_another_file_before_it_is_read(
    tmp_path: Path, linked: Path, way: str
) -> None:
    def replace(entry: Entry, _: TreeArchiver) -> None:
        if entry.path == b"a/f":
            (tmp_path / "new").write_bytes(OTHER)
            os.rename(tmp_path / "new", linked / "a" / "f")

    found = _captured(tmp_path, linked, replace)
    assert found.pop(b"a/f") in {_hash(OTHER), _hash(PRECIOUS) if way != "batch" else ""}
    assert set(found.values()) == {_hash(PRECIOUS)}


def test_an_inode_number_that_is_used_again_is_another_file(tmp_path: Path, linked: Path) -> None:
    """Most filesystems use it again at once; where one does not, these are simply other files."""

    def reuse(entry: Entry, archiver: TreeArchiver) -> None:
        if entry.path != b"a/f":
            return
        archiver.drain()
        for name in ("a", "b", "c"):
            os.unlink(linked / name / "f")
        (linked / "b" / "g").write_bytes(OTHER + b"?")
        os.link(linked / "b" / "g", linked / "c" / "g")

    found = _captured(tmp_path, linked, reuse)
    assert found[b"b/g"] == found[b"c/g"] == _hash(OTHER + b"?")


def test_what_was_handed_over_is_read_once_it_is_drained(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    for number in range(200):
        (root / f"{number:03}").write_bytes(b"before %d" % number)

    def overwrite(entry: Entry, archiver: TreeArchiver) -> None:
        if entry.path == b"199":
            archiver.drain()
            for path in root.iterdir():
                path.write_bytes(b"after the stop")

    found = _captured(tmp_path, root, overwrite)
    assert found == {b"%03d" % number: _hash(b"before %d" % number) for number in range(200)}


@pytest.mark.parametrize("way", ["batch"], indirect=True)
def test_a_file_that_grows_large_is_not_held_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.repository.whole_files.WHOLE_FILE", 3 << 20)
    root = tmp_path / "root"
    root.mkdir()
    (root / "f").write_bytes(b"small")
    large = os.urandom(5 << 20)

    def grow(_: Entry, __: TreeArchiver) -> None:
        (root / "f").write_bytes(large)

    found = _captured(tmp_path, root, grow)
    assert len(found[b"f"]) > 64  # several blobs
