"""Backup of a directory: what is read, what is re-used, what is refused."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from holdfast.errors import (
    DumpFailed,
    RepositoryLocked,
    SourceEmpty,
    SourceError,
    SourceNotFound,
    SourceUnreadable,
    StoreUnavailable,
)
from holdfast.model.entry import ByteStream, Entry, Kind
from holdfast.repository.file_capture import RACY_MARGIN_NS
from holdfast.repository.repository import Repository
from holdfast.services.backup import take_backup
from holdfast.services.restore import open_snapshot, restore_directory
from holdfast.services.verify import verify
from holdfast.sources.tree import TreeSource
from tests.support.repositories import backup_directory, latest, new_repository
from tests.support.trees import build_sample, describe


@pytest.fixture
def source(tmp_path: Path) -> Path:
    build_sample(tmp_path / "source")
    time.sleep(2 * RACY_MARGIN_NS / 1e9)  # so that the files are older than the instant that the parent is trusted from
    return tmp_path / "source"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return new_repository(tmp_path / "repo")


def test_unchanged_files_are_not_read_again(repository: Repository, source: Path) -> None:
    first = backup_directory(repository, source).sources[0]
    large = source / "large"
    os.chmod(large, 0)  # changes ctime: this one is read again, whoever may
    os.chmod(large, 0o644)
    second = backup_directory(repository, source).sources[0]

    assert first.files_new + first.files_unmodified == second.files_unmodified + second.files_changed
    assert second.files_changed == 1
    assert second.files_new == 0
    assert second.parent == first.snapshot
    assert second.bytes_added < first.bytes_added / 100


def test_file_written_during_the_last_backup_is_read_again(repository: Repository, source: Path) -> None:
    target = source / "medium"
    backup_directory(repository, source)
    status = target.stat()
    data = bytearray(target.read_bytes())
    data[0] ^= 1
    target.write_bytes(bytes(data))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))  # size and mtime lie; ctime does not
    backup_directory(repository, source)
    restore_directory(repository, latest(repository), source.parent / "out")
    assert describe(source.parent / "out") == describe(source)


def test_what_was_removed_is_gone_from_the_next_snapshot(repository: Repository, source: Path, tmp_path: Path) -> None:
    backup_directory(repository, source)
    (source / "large").unlink()
    backup_directory(repository, source)
    restore_directory(repository, latest(repository), tmp_path / "out")
    assert not (tmp_path / "out" / "large").exists()


def test_empty_source_is_refused_after_a_full_one(repository: Repository, source: Path, tmp_path: Path) -> None:
    backup_directory(repository, source)
    full = latest(repository)
    source.rename(tmp_path / "elsewhere")
    source.mkdir()
    with pytest.raises(SourceEmpty, match=f"wanted files, as in snapshot {full.short_id}"):
        backup_directory(repository, source)
    assert latest(repository) == full
    backup_directory(repository, source, allow_empty=True)
    assert len(repository.snapshots().snapshots) == 2
    assert backup_directory(repository, source).sources[0].files_new == 0  # an empty one after an empty one is no news


def test_missing_directory(repository: Repository, tmp_path: Path) -> None:
    with pytest.raises(SourceNotFound, match="no such directory"):
        backup_directory(repository, tmp_path / "missing")
    assert not repository.snapshots().snapshots


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become someone who may not read")
def test_unreadable_root(tmp_path: Path, source: Path) -> None:
    """In a child that gives root up: the directory cannot be listed, nothing is committed."""
    source.chmod(0o700)
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents:
        if parent != Path("/") and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgid(65534)
            os.setuid(65534)
            repository = new_repository(tmp_path / "repo of nobody")
            try:
                backup_directory(repository, source)
            except SourceUnreadable as error:
                status = 0 if "Permission denied" in str(error) and not repository.snapshots().snapshots else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


class _Broken:
    """A source whose second file fails after a few bytes, as a killed dump does."""

    label = "postgres:broken"
    notes: Sequence[str] = ()

    def entries(self) -> Iterator[Entry]:
        yield Entry(b"", Kind.DIR, 0o755)
        yield Entry(b"a", Kind.FILE, content=_Stream([b"whole"], None))
        yield Entry(b"b", Kind.FILE, content=_Stream([b"part of"], DumpFailed("pg_dump failed", which="b")))

    def facts(self) -> Mapping[str, object]:
        return {}


class _Stream:
    def __init__(self, pieces: list[bytes], failure: Exception | None) -> None:
        self._pieces, self._failure = list(pieces), failure

    def open(self) -> ByteStream:
        return self

    def read(self, size: int, /) -> bytes:
        if self._pieces:
            return self._pieces.pop(0)
        if self._failure:
            raise self._failure
        return b""

    def close(self) -> None:
        self._pieces = []


def test_failed_stream_leaves_no_snapshot(repository: Repository) -> None:
    with pytest.raises(DumpFailed):
        take_backup(repository, "test", [_Broken()])
    assert not repository.snapshots().snapshots
    assert verify(repository, read_share=1).ok
    assert not list(repository.store.list("locks"))


@pytest.mark.parametrize("unordered", [False, True])
def test_a_source_that_failed_lets_go_while_its_error_is_kept(repository: Repository, unordered: bool) -> None:
    """Other sources are captured before the error is told: a transaction must not stay open as long."""
    open_now: list[str] = []

    class Holding(_Broken):
        def __init__(self) -> None:
            self.unordered = unordered

        def entries(self) -> Iterator[Entry]:
            open_now.append("a transaction")
            try:
                yield from super().entries()
            finally:
                open_now.remove("a transaction")
                raise StoreUnavailable("the connection was lost, too")

    with pytest.raises(DumpFailed) as kept:
        take_backup(repository, "test", [Holding()])
    assert open_now == []
    assert "connection" not in str(kept.value)


class _Disordered(_Broken):
    def entries(self) -> Iterator[Entry]:
        yield Entry(b"", Kind.DIR)
        yield Entry(b"b", Kind.DIR)
        yield Entry(b"a", Kind.DIR)


def test_entries_out_of_order_stop_the_run(repository: Repository) -> None:
    with pytest.raises(SourceError, match="out of order"):
        take_backup(repository, "test", [_Disordered()])
    assert not repository.snapshots().snapshots


def test_exclude(repository: Repository, source: Path, tmp_path: Path) -> None:
    tree = TreeSource(source, label="path:x", exclude=["dir 1", "dir 2/deep/**", "*.bin"])
    take_backup(repository, "test", [tree])
    restore_directory(repository, latest(repository), tmp_path / "out")
    left = {os.fsdecode(path) for path in describe(tmp_path / "out")}
    assert "dir 0/hard link" in left
    assert "dir 1" not in left
    assert not any(name.endswith(".bin") for name in left)
    assert "dir 2/deep" in left
    assert open_snapshot(repository, latest(repository)).manifest is not None


def test_backup_waits_for_nobody_that_deletes(repository: Repository, source: Path) -> None:
    with repository.lock(exclusive=True), pytest.raises(RepositoryLocked, match="wanted no exclusive lock"):
        backup_directory(repository, source)
    backup_directory(repository, source)


def test_file_that_vanishes_is_noted(repository: Repository, source: Path) -> None:
    tree = TreeSource(source, label="path:x")

    class Vanishing(TreeSource):
        def entries(self) -> Iterator[Entry]:
            for entry in super().entries():
                if entry.path == b"large":
                    (source / "large").unlink()
                yield entry

    report = take_backup(repository, "test", [Vanishing(source, label=tree.label)])
    assert any("large: vanished" in note for note in report.sources[0].notes)
    assert len(repository.snapshots().snapshots) == 1


def test_progress_of_one_large_file_is_told_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.repository.contents._TICK_SECONDS", 0.01)
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "large").write_bytes(os.urandom(64 << 20))
    told: list[int] = []
    repository = new_repository(tmp_path / "repository")
    source = TreeSource(tmp_path / "source", label="path:large")
    take_backup(repository, "test", [source], on_progress=lambda _, stats: told.append(stats.bytes))
    assert told == sorted(told)
    assert any(0 < count < 64 << 20 for count in told)  # how often, and after how much, is the machine's affair
    assert told[-1] == 64 << 20
