"""The second pass by itself: what it trusts, what it reads again, and clones on filesystems that have them."""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path

import pytest

from holdfast.model.entry import Entry, LocalFile
from holdfast.sources.frozen import Delta, FrozenTree, LiveTree, Spool, sync_filesystem
from tests.support.filesystems import mounted


def first_pass(root: Path) -> tuple[LiveTree, int]:
    time.sleep(0.12)  # what was written before is older than the tick of the kernel's clock
    live, since = LiveTree(os.fsencode(root), label="path:x"), time.time_ns()
    sync_filesystem(live.root)
    assert list(live.entries())
    return live, since


def second_pass(made: tuple[LiveTree, int], spool: Spool) -> Delta:
    live, since = made
    return FrozenTree(live, exclude=(), since=since).scan(spool)


def content(entry: Entry) -> bytes:
    assert entry.content is not None
    assert not isinstance(entry.content, LocalFile)
    stream = entry.content.open()
    return b"".join(iter(lambda: stream.read(1 << 16), b""))


def test_only_what_changed_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("still", "appended", "replaced", "touched", "gone", "a/moved", "mapped"):
        (tmp_path / name).write_bytes(name.encode() * 1000)
    os.utime(tmp_path / "still", ns=(1, 1))
    with open(tmp_path / "mapped", "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped, Spool() as spool:
        mapped[:5] = b"early"  # dirty before the first pass: written back by its sync
        made = first_pass(tmp_path)
        with open(tmp_path / "appended", "ab") as other:
            other.write(b"more")
        (tmp_path / "new").write_bytes(b"new")
        os.rename(tmp_path / "new", tmp_path / "replaced")
        os.utime(tmp_path / "touched", ns=(5, 5))  # time set back: ctime tells
        (tmp_path / "gone").unlink()
        os.rename(tmp_path / "a", tmp_path / "b")
        mapped[:5] = b"later"
        delta = second_pass(made, spool)
        files = {path: entry for path, entry in delta.entries.items() if entry.kind == "file"}
        assert set(files) == {b"appended", b"replaced", b"touched", b"b/moved", b"mapped"}
        assert content(files[b"mapped"]).startswith(b"later")
        assert content(files[b"replaced"]) == b"new"
        assert content(files[b"b/moved"]) == b"a/moved" * 1000
        assert delta.listings[b""] == [b"appended", b"b", b"mapped", b"replaced", b"still", b"touched"]
        assert delta.kept == 1
        assert delta.fuzzy == []


def test_holes_stay_holes(tmp_path: Path) -> None:
    with Spool() as spool:
        made = first_pass(tmp_path)
        with open(tmp_path / "sparse", "wb") as file:
            file.truncate(64 << 20)
            file.seek(32 << 20)
            file.write(b"x" * 4096)
        entry = second_pass(made, spool).entries[b"sparse"]
        data = content(entry)
        assert len(data) == 64 << 20
        assert data[32 << 20 : (32 << 20) + 4096] == b"x" * 4096
        assert os.fstat(spool._file.fileno()).st_blocks * 512 < 1 << 20


def test_a_file_that_never_holds_still_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Spool.copy

    def and_write(self: Spool, fd: int, status: os.stat_result) -> object:
        with open(tmp_path / "busy", "ab") as file:
            file.write(b"x")
        return real(self, fd, status)

    with Spool() as spool:
        made = first_pass(tmp_path)
        (tmp_path / "busy").write_bytes(b"x")
        monkeypatch.setattr(Spool, "copy", and_write)
        assert second_pass(made, spool).fuzzy == ["busy"]


@pytest.mark.parametrize(("kind", "options"), [("xfs", ["-m", "reflink=1"]), ("btrfs", [])])
def test_large_files_are_cloned_where_that_is_possible(tmp_path: Path, kind: str, options: list[str]) -> None:
    with mounted(tmp_path, kind, options) as top:
        (top / "large").write_bytes(b"old" * (8 << 20))
        made = first_pass(top)
        (top / "large").write_bytes(b"new" * (8 << 20))
        with Spool() as spool:
            delta = second_pass(made, spool)
            (top / "large").write_bytes(b"late" * 10)
            assert spool.cloned == 1
            assert content(delta.entries[b"large"]) == b"new" * (8 << 20)
        assert os.listdir(top) == ["large"]
