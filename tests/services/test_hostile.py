"""A repository written by an enemy who knows the password: nothing escapes the target, memory stays bounded, the
error names the object."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import CorruptObject, HoldfastError
from holdfast.model.ids import BlobId
from holdfast.repository.blobs import blob_id
from holdfast.repository.index import Index
from holdfast.repository.objects import Folder, key_of, name_of
from holdfast.repository.pack import BlobKind, PackBuilder
from holdfast.repository.repository import Repository
from holdfast.repository.tree import decode_tree
from holdfast.services.restore import restore_directory
from holdfast.services.verify import verify
from tests.support.memory_store import MemoryStore
from tests.support.repositories import backup_directory, latest, new_repository, new_repository_on, reopen

NOW = "2026-01-02T03:04:05Z"


def _node(name: str, kind: str = "file", **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, "mode": 0o644, "mtime": NOW, "uid": 0, "gid": 0, **more}


class Enemy:
    """Writes any tree into a repository and makes the newest snapshot's `/data` be it."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self.made = 0

    def blob(self, data: bytes) -> str:
        with self.repository.writer() as writer:
            found = writer.save(BlobKind.DATA, data)
            writer.finish()
        return found.hex()

    def raw_tree(self, data: bytes) -> str:
        with self.repository.writer() as writer:
            found = writer.save(BlobKind.TREE, data)
            writer.finish()
        return found.hex()

    def tree(self, *nodes: dict[str, Any]) -> str:
        return self.raw_tree(msgspec.json.encode({"nodes": nodes}) + b"\n")

    def snapshot(self, tree: str) -> None:
        """The last snapshot again, with another tree below `/data`."""
        self.made += 1
        last = latest(self.repository)
        root = self.repository.reader.load_tree(last.tree)
        nodes = [msgspec.to_builtins(node) for node in root]
        for node in nodes:
            if node["name"] == "data":
                node["subtree"] = tree
        document = {
            "time": f"2030-01-01T00:00:{self.made:02}Z",
            "tree": self.tree(*nodes),
            "paths": ["/data"],
            "hostname": "h",
            "username": "u",
            "tags": list(last.tags),
        }
        self.repository.save_document(Folder.SNAPSHOTS, msgspec.json.encode(document))


@pytest.fixture
def enemy(tmp_path: Path) -> Enemy:
    repository = new_repository(tmp_path / "repo")
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").write_text("x")
    backup_directory(repository, tmp_path / "source")
    return Enemy(reopen(tmp_path / "repo"))


def _restore(enemy: Enemy, tmp_path: Path) -> list[str]:
    """Restore what the enemy made; the files of the whole test folder that were not there before."""
    before = {path for path in tmp_path.rglob("*") if "repo" not in path.parts}
    opened = reopen(enemy.repository.location)
    try:
        restore_directory(opened, latest(opened), tmp_path / "out")
    finally:
        found = [path for path in tmp_path.rglob("*") if "repo" not in path.parts and path not in before]
    return [str(path.relative_to(tmp_path)) for path in found if not path.is_relative_to(tmp_path / "out")]


@pytest.mark.parametrize("name", ["..", ".", "", "../escape", "/etc/escape", r"a\x00b", r"\x2e\x2e", r"a\u002fb"])
def test_a_name_that_leads_elsewhere(enemy: Enemy, tmp_path: Path, name: str) -> None:
    enemy.snapshot(enemy.tree(_node(name, content=[enemy.blob(b"evil")], size=4)))
    with pytest.raises(HoldfastError, match=r"lead outside|badly quoted"):
        assert _restore(enemy, tmp_path) == []
    assert not any(path.name == "escape" for path in tmp_path.rglob("*"))
    assert not Path("/etc/escape").exists()


def test_a_symlink_and_then_a_file_beneath_it(enemy: Enemy, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    below = enemy.tree(_node("file", content=[enemy.blob(b"evil")], size=4))
    # The same name as a link and as a directory; and a link that has a subtree.
    for first in (_node("a", "symlink", linktarget=str(outside)), _node("a", "dir", subtree=below)):
        second = (
            _node("a", "dir", subtree=below) if first["type"] == "symlink" else _node("a", "symlink", linktarget="/")
        )
        enemy.snapshot(enemy.tree(first, second))
        with pytest.raises(HoldfastError):
            _restore(enemy, tmp_path)
        assert not list(outside.iterdir())
    enemy.snapshot(enemy.tree(_node("a", "symlink", linktarget=str(outside), subtree=below)))
    assert _restore(enemy, tmp_path) == []
    assert not list(outside.iterdir())


def test_a_hard_link_to_something_outside(enemy: Enemy, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    inode = secret.stat().st_ino
    blob = enemy.blob(b"x")
    nodes = [_node(n, content=[blob], size=1, links=2, inode=inode, device_id=secret.stat().st_dev) for n in "ab"]
    enemy.snapshot(enemy.tree(*nodes))
    assert _restore(enemy, tmp_path) == []
    assert secret.stat().st_nlink == 1


@pytest.mark.parametrize(
    "change",
    [
        {"size": 1 << 62},
        {"size": 10},
        {"size": -1},
        {"mode": 1 << 40},
        {"mtime": "yesterday"},
        {"mtime": "2026-13-01T00:00:00Z"},
        {"uid": -5},
        {"content": ["../../config"]},
        {"content": [7]},
        {"content": {"a": 1}},
        {"content": ["00" * 32]},
        {"type": "wormhole"},
        {"extended_attributes": [{"name": "user.x" * 100, "value": "AAAA"}]},
        {"extended_attributes": [{"name": "user.x\x00y", "value": "AAAA"}]},
    ],
    ids=lambda change: f"{next(iter(change))}={str(next(iter(change.values())))[:30]}",
)
def test_absurd_fields_are_named(enemy: Enemy, tmp_path: Path, change: dict[str, Any]) -> None:
    enemy.snapshot(enemy.tree(_node("ok", content=[enemy.blob(b"fine")], size=4), _node("odd", size=0) | change))
    opened = reopen(enemy.repository.location)
    told: object = None
    try:
        report = restore_directory(opened, latest(opened), tmp_path / "out")
        told = report.damaged or report.notes
    except HoldfastError as error:
        told = str(error)
    assert told
    written = sum(path.stat().st_blocks * 512 for path in tmp_path.joinpath("out").rglob("*") if path.is_file())
    assert written < 1 << 20


@pytest.mark.parametrize(("pieces", "size"), [([b"aa", b"bb"], 9), ([b"aa", bytes(5)], 3), ([b"aa", bytes(5)], 6)])
def test_zeros_do_not_make_up_for_a_wrong_size(enemy: Enemy, tmp_path: Path, pieces: list[bytes], size: int) -> None:
    enemy.snapshot(enemy.tree(_node("odd", content=[enemy.blob(piece) for piece in pieces], size=size)))
    opened = reopen(enemy.repository.location)
    report = restore_directory(opened, latest(opened), tmp_path / "out")
    assert len(report.damaged) == 1
    assert f"wanted {size}, found {sum(map(len, pieces))}" in report.damaged[0]
    assert not (tmp_path / "out" / "odd").exists()
    told = verify(opened)
    assert len(told.problems) == 1
    assert f"wanted {size} bytes, found {sum(map(len, pieces))} in its blobs" in told.problems[0]
    assert [line.rpartition("/")[2] for line in told.affected] == ["odd"]


def test_directories_without_end(enemy: Enemy, tmp_path: Path) -> None:
    """Deeper than a path may be long: what fits is made, the rest is named."""
    tree = enemy.tree(_node("leaf", content=[], size=0))
    with enemy.repository.writer() as writer:
        for _ in range(60):
            data = msgspec.json.encode({"nodes": [_node("d" * 200, "dir", subtree=tree)]}) + b"\n"
            tree = writer.save(BlobKind.TREE, data).hex()
        writer.finish()
    enemy.snapshot(tree)
    opened = reopen(enemy.repository.location)
    report = restore_directory(opened, latest(opened), tmp_path / "out")
    assert len(report.damaged) == 1
    assert "too long" in report.damaged[0]


def test_a_wide_tree_of_shared_subtrees_is_walked_with_little_memory(enemy: Enemy) -> None:
    """2^16 directories in 16 blobs: verification looks at each tree once."""
    tree = enemy.tree()
    for _ in range(16):
        tree = enemy.tree(_node("a", "dir", subtree=tree), _node("b", "dir", subtree=tree))
    enemy.snapshot(tree)
    assert verify(reopen(enemy.repository.location)).ok


def _pack_of(repository: Repository, kind: BlobKind, stored: bytes, raw_length: int, blob: BlobId) -> None:
    """A pack with one blob whose stored bytes are given, and its index."""
    builder = PackBuilder(kind)
    builder.add(blob, repository.key.seal(stored), raw_length)
    data = bytes(builder.finish(repository.key))
    repository.store.put(key_of(Folder.DATA, name_of(data)), data)
    document = {
        "packs": [
            {
                "id": name_of(data),
                "blobs": [
                    {
                        "id": blob.hex(),
                        "type": kind.word,
                        "offset": 0,
                        "length": len(stored) + 32,
                        "uncompressed_length": raw_length,
                    }
                ],
            }
        ]
    }
    repository.save_document(Folder.INDEX, msgspec.json.encode(document))


def _bomb(size: int) -> bytes:
    """A zstd frame of few bytes that unpacks to `size` zeros, without saying so in its header."""
    packer = zstandard.ZstdCompressor(level=1, write_content_size=False).compressobj()
    piece = bytes(1 << 20)
    return b"".join([packer.compress(piece) for _ in range(size >> 20)]) + packer.flush()


_LIMITED = """
import resource, sys
sys.path.insert(0, {root!r})
resource.setrlimit(resource.RLIMIT_AS, ({limit}, {limit}))
from tests.support.repositories import reopen, latest
from holdfast.errors import HoldfastError
from holdfast.services.restore import restore_directory
try:
    repository = reopen({repo!r})
    report = restore_directory(repository, latest(repository), {out!r})
except HoldfastError as error:
    print("refused", error)
else:
    print("damaged", report.damaged)
"""


@pytest.mark.parametrize(
    ("kind", "claim"),
    [(BlobKind.DATA, 100), (BlobKind.DATA, (1 << 32) - 1), (BlobKind.TREE, 100), (BlobKind.TREE, (1 << 32) - 1)],
)
def test_a_bomb_takes_no_memory(enemy: Enemy, tmp_path: Path, kind: BlobKind, claim: int) -> None:
    blob = blob_id(b"whatever")
    _pack_of(enemy.repository, kind, _bomb(1 << 30), claim, blob)
    enemy.repository.refresh()
    if kind is BlobKind.TREE:
        enemy.snapshot(blob.hex())
    else:
        enemy.snapshot(enemy.tree(_node("bomb", content=[blob.hex()], size=1 << 30)))
    root = str(Path(__file__).parents[2])
    script = _LIMITED.format(root=root, limit=2 << 30, repo=enemy.repository.location, out=str(tmp_path / "out"))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=root)
    assert done.returncode == 0, done.stderr
    assert blob.hex()[:16] in done.stdout


def test_a_huge_document_is_refused(enemy: Enemy, tmp_path: Path) -> None:
    """A snapshot of 1 GiB of JSON, 100 KiB on the store."""
    repository = enemy.repository
    sealed = repository.key.seal(b"\x02" + _bomb(1 << 30))
    name = name_of(sealed)
    repository.store.put(key_of(Folder.SNAPSHOTS, name), sealed)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    listed = reopen(repository.location).snapshots()
    assert len(listed.snapshots) == 1
    assert name[:16] in str(listed.damaged[0])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < (700 << 10)


@pytest.mark.parametrize(
    "change", [{"offset": -1}, {"length": 0}, {"type": "wormhole"}, {"id": "../../config"}, {"id": 1}]
)
def test_an_index_of_nonsense_is_named(enemy: Enemy, change: dict[str, Any]) -> None:
    blob = {"id": "00" * 32, "type": "data", "offset": 0, "length": 100} | change
    document = {"packs": [{"id": "11" * 32, "blobs": [blob]}]}
    name = enemy.repository.save_document(Folder.INDEX, msgspec.json.encode(document))
    with pytest.raises(CorruptObject, match=name):
        len(reopen(enemy.repository.location).index)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
)
_almost_node = st.dictionaries(
    st.sampled_from(
        ["name", "type", "mode", "mtime", "uid", "gid", "size", "content", "subtree", "extended_attributes"]
    ),
    _json,
)


@settings(max_examples=60)
@given(_json | st.builds(lambda nodes: {"nodes": nodes}, st.lists(_almost_node, max_size=3)))
def test_any_json_as_a_tree_gives_nodes_or_an_error_of_ours(document: Any) -> None:
    _nodes_or_corrupt(msgspec.json.encode(document))


@given(st.binary(max_size=200))
def test_any_bytes_as_a_tree(data: bytes) -> None:
    _nodes_or_corrupt(data)


def _nodes_or_corrupt(data: bytes) -> None:
    message = "a tree"
    try:
        decode_tree(data, "a tree")
    except CorruptObject as error:
        message = str(error)
    assert "a tree" in message


_KEPT: list[Repository] = []


@settings(max_examples=60)
@given(_json | st.builds(lambda blobs: {"packs": [{"id": "1" * 64, "blobs": blobs}]}, st.lists(_json, max_size=3)))
def test_any_json_as_an_index_file(document: Any) -> None:
    if not _KEPT:
        _KEPT.append(new_repository_on(MemoryStore()))
    repository = _KEPT[0]
    name = repository.save_document(Folder.INDEX, msgspec.json.encode(document))
    repository.refresh()
    message = name
    try:
        assert isinstance(repository.index, Index)
    except CorruptObject as error:
        message = str(error)
    finally:
        repository.store.delete(key_of(Folder.INDEX, name))
    assert name in message


def test_devices_are_not_opened_on_the_way(enemy: Enemy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device and then a file of the same name: the file is never written into the device."""
    opened: list[bytes] = []
    real: Callable[..., int] = os.open

    def spy(path: Any, *arguments: Any, **more: Any) -> int:
        opened.append(os.fsencode(path) if isinstance(path, (str, bytes)) else b"")
        return real(path, *arguments, **more)

    enemy.snapshot(
        enemy.tree(_node("null", "chardev", device=0x103), _node("null", content=[enemy.blob(b"x")], size=1))
    )
    monkeypatch.setattr(os, "open", spy)
    with pytest.raises(HoldfastError):
        _restore(enemy, tmp_path)
    assert not any(path.endswith(b"/dev/null") for path in opened)
