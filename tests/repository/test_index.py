"""The index in memory against a plain dict, its size, the copies on this machine, and its repair from the packs."""

from __future__ import annotations

import os
import random
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import CorruptObject
from holdfast.model.ids import BlobId
from holdfast.repository.cache import CachedStore, cache_folder
from holdfast.repository.index import Index, Location
from holdfast.repository.objects import Folder
from holdfast.repository.pack import BlobKind, PackedBlob
from holdfast.repository.repository import Repository, open_repository
from holdfast.services.repair import repair_index
from holdfast.services.restore import restore_directory
from holdfast.services.verify import verify
from holdfast.store.directory import DirectoryStore
from tests.repository.conftest import Restic
from tests.support.faulty_store import FaultyStore
from tests.support.repositories import PASSWORD, backup_directory, latest, new_repository, reopen
from tests.support.trees import describe

# Few first bytes and few ids: buckets hold several rows, and the same blob comes twice.
_ids = st.builds(
    lambda first, last: bytes([0, first]) + bytes(29) + bytes([last]), st.integers(0, 2), st.integers(0, 9)
)
_u32 = st.integers(0, 2**32 - 1)


@given(st.lists(st.tuples(st.sampled_from(BlobKind), _ids, _u32, _u32, _u32, st.sampled_from("abc"))))
def test_it_finds_what_a_dict_finds(rows: list[tuple[BlobKind, bytes, int, int, int, str]]) -> None:
    index, model = Index(), dict[tuple[BlobKind, bytes], Location]()
    for kind, blob, offset, length, raw, pack in rows:
        index.add(pack * 64, [PackedBlob(BlobId(blob), kind, offset, length, raw)])
        model.setdefault((kind, blob), Location(pack * 64, offset, length, raw))
    assert len(index) == len(model)
    for kind in BlobKind:
        for first in range(3):
            for last in range(10):
                blob = bytes([0, first]) + bytes(29) + bytes([last])
                assert index.find(kind, BlobId(blob)) == model.get((kind, blob))
                assert index.has(kind, BlobId(blob)) == ((kind, blob) in model)


def test_an_entry_takes_less_than_a_hundred_bytes() -> None:
    chance, count = random.Random(1), 300_000
    tracemalloc.start()
    try:
        index = Index()
        for number in range(count // 1000):
            blobs = (PackedBlob(BlobId(chance.randbytes(32)), BlobKind.DATA, at, 1, 0) for at in range(1000))
            index.add(f"{number:064x}", blobs)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(index) == count
    assert taken < 100 * count  # ten million in under 1 GiB; buckets with few rows are the dear ones


@pytest.fixture
def repository(tmp_path: Path, sample: Path) -> Repository:
    repository = new_repository(tmp_path / "repo")
    backup_directory(repository, sample)
    sample.joinpath("more").write_bytes(random.Random(5).randbytes(100_000))
    backup_directory(repository, sample)
    return reopen(tmp_path / "repo")


def _index_files(repository: Repository) -> list[Path]:
    return sorted(Path(repository.location, "index").iterdir())


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone", "all gone"])
def test_a_lost_index_is_made_anew(
    repository: Repository, sample: Path, tmp_path: Path, referee: Restic, damage: str
) -> None:
    files = _index_files(repository)
    for path in files if damage == "all gone" else files[:1]:
        data = bytearray(path.read_bytes())
        path.chmod(0o600)
        if "gone" in damage:
            path.unlink()
        else:
            data[40] ^= 1
            path.write_bytes(data if damage == "flipped" else data[: len(data) // 2])
    assert not verify(reopen(repository.location)).ok
    planned = repair_index(reopen(repository.location), dry_run=True)
    assert planned.packs_read
    assert not verify(reopen(repository.location)).ok, "a dry run changed something"

    report = repair_index(reopen(repository.location))
    assert report.lost == ()
    assert (report.packs_read, report.files_kept) == (planned.packs_read, planned.files_kept)
    assert verify(reopen(repository.location), read_share=1).ok
    assert "no errors were found" in referee(Path(repository.location), "check", "--read-data")
    restore_directory(reopen(repository.location), latest(repository), tmp_path / "out")
    assert describe(tmp_path / "out") == describe(sample)


def test_what_is_lost_for_good_is_named(repository: Repository) -> None:
    packs = sorted(Path(repository.location, "data").rglob("*"))
    packs = [path for path in packs if path.is_file()]
    missing, broken = packs[0], packs[1]
    missing.unlink()
    broken.chmod(0o600)
    broken.write_bytes(broken.read_bytes()[:-10])
    report = repair_index(reopen(repository.location))
    assert len(report.lost) == 2
    assert any(missing.name in line and "not there" in line for line in report.lost)
    assert any(broken.name in line and "header" in line for line in report.lost)
    found = verify(reopen(repository.location))
    assert not found.ok
    assert found.affected


def test_a_whole_index_is_left_alone_unless_all_is_read(repository: Repository) -> None:
    before = _index_files(repository)
    report = repair_index(repository)
    assert (report.packs_read, report.files_replaced) == (0, 0)
    assert _index_files(repository) == before
    report = repair_index(repository, read_all=True)
    assert report.files_replaced == len(before)
    assert verify(reopen(repository.location), read_share=1).ok


def test_index_files_are_fetched_once(repository: Repository, tmp_path: Path) -> None:
    cache = cache_folder(repository.id, {"HOLDFAST_CACHE_DIR": str(tmp_path / "cache")})
    fetched = []
    for _ in range(2):
        store = FaultyStore(DirectoryStore(repository.location))
        opened = open_repository(CachedStore(store, cache), PASSWORD)
        assert len(opened.index)
        fetched.append(sum(call == "get" and key.startswith("index/") for call, key in store.calls))
    assert fetched == [len(_index_files(repository)), 0]


def test_a_spoilt_copy_is_not_believed_and_a_stale_one_goes(repository: Repository, tmp_path: Path) -> None:
    cache = tmp_path / "cache"

    def load() -> int:
        return len(open_repository(CachedStore(DirectoryStore(repository.location), cache), PASSWORD).index)

    count = load()
    kept = sorted((cache / "index").iterdir())
    kept[0].write_bytes(b"spoilt")
    assert load() == count
    assert kept[0].read_bytes() != b"spoilt"
    _index_files(repository)[0].unlink()
    assert load() < count
    assert len(list((cache / "index").iterdir())) == len(kept) - 1


def test_a_cache_that_cannot_be_written_stops_nothing(
    repository: Repository, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tmp_path.joinpath("file").write_text("not a folder")
    store = CachedStore(DirectoryStore(repository.location), tmp_path / "file")
    assert len(open_repository(store, PASSWORD).index)
    assert sum("is not used" in record.message for record in caplog.records) == 1


def test_damage_on_the_store_is_still_seen_through_the_cache(repository: Repository, tmp_path: Path) -> None:
    path = _index_files(repository)[0]
    path.chmod(0o600)
    path.write_bytes(os.urandom(path.stat().st_size))
    with pytest.raises(CorruptObject, match=path.name):
        len(open_repository(CachedStore(DirectoryStore(repository.location), tmp_path / "cache"), PASSWORD).index)
    assert not (tmp_path / "cache" / Folder.INDEX / path.name).exists()
