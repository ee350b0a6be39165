"""Damage on the store: it is named, the files it costs are named, and everything else is still restored."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.errors import (
    CorruptObject,
    HoldfastError,
    ObjectNotFound,
    RepositoryNotFound,
    StoreMissing,
    WrongPassword,
)
from holdfast.repository.cache import CachedStore
from holdfast.repository.index import read_index_file
from holdfast.repository.objects import Folder
from holdfast.repository.pack import BlobKind
from holdfast.repository.repository import Repository, open_repository
from holdfast.services.restore import restore_directory
from holdfast.services.verify import verify
from holdfast.store.directory import DirectoryStore
from tests.support.repositories import PASSWORD, backup_directory, latest, new_repository, reopen
from tests.support.trees import build_sample, describe

Damage = Callable[[Path], None]


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    _write(path, bytes(data))


def _truncate(path: Path) -> None:
    _write(path, path.read_bytes()[: path.stat().st_size // 2])


def _empty(path: Path) -> None:
    _write(path, b"")


def _write(path: Path, data: bytes) -> None:
    path.chmod(0o600)
    path.write_bytes(data)


DAMAGES = [pytest.param(damage, id=damage.__name__.strip("_")) for damage in (_flip, _truncate, _empty, Path.unlink)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    build_sample(tmp_path / "source")
    return tmp_path / "source"


@pytest.fixture
def repository(tmp_path: Path, source: Path) -> Repository:
    repository = new_repository(tmp_path / "repo")
    backup_directory(repository, source)
    return reopen(tmp_path / "repo")


def _packs(repository: Repository, kind: BlobKind) -> list[Path]:
    found = []
    for info in repository.store.list(Folder.INDEX):
        for pack, blobs in read_index_file(repository.store, repository.key, info.key.rpartition("/")[2]).items():
            if blobs[0].kind is kind:
                found.append(Path(repository.location, "data", pack[:2], pack))
    return found


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_data_pack(repository: Repository, source: Path, tmp_path: Path, damage: Damage) -> None:
    pack = _packs(repository, BlobKind.DATA)[0]
    wanted = describe(source)
    damage(pack)

    structure = verify(reopen(repository.location))
    assert structure.ok == (damage is _flip)  # a flipped bit shows only when data is read
    found = verify(reopen(repository.location), read_share=1)
    assert not found.ok
    assert pack.name in found.problems[0]
    assert found.affected

    report = restore_directory(reopen(repository.location), latest(repository), tmp_path / "out")
    assert report.damaged
    restored = describe(tmp_path / "out", directory_times=False)
    lost = {line.partition(":")[0] for line in report.damaged}
    for path, facts in describe(source, directory_times=False).items():
        name = os.fsdecode(path)
        if name in lost:
            assert path not in restored
        elif path in restored:
            assert restored[path] == facts or facts.links > 1
        else:
            pytest.fail(f"{name} is neither restored nor named as lost")
    assert describe(source) == wanted


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_tree_pack_names_what_is_lost(repository: Repository, tmp_path: Path, damage: Damage) -> None:
    for pack in _packs(repository, BlobKind.TREE):
        damage(pack)
    found = verify(reopen(repository.location), read_share=1)
    assert not found.ok
    assert found.affected
    if damage is _flip:
        # One tree of many: what is below the others comes back.
        assert restore_directory(reopen(repository.location), latest(repository), tmp_path / "out").damaged
    else:
        # The root tree itself, which is written last.
        with pytest.raises(HoldfastError, match=pack.name):
            restore_directory(reopen(repository.location), latest(repository), tmp_path / "out")
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_index(repository: Repository, source: Path, tmp_path: Path, damage: Damage) -> None:
    (tmp_path / "source2").mkdir()
    (tmp_path / "source2" / "other").write_bytes(b"other")
    first = next(iter(Path(repository.location, "index").iterdir()))
    backup_directory(repository, tmp_path / "source2", stack="second")
    damage(first)

    found = verify(reopen(repository.location), read_share=1)
    assert not found.ok
    if damage is not Path.unlink:
        assert any(first.name in problem for problem in found.problems)
        with pytest.raises(CorruptObject, match=first.name):
            restore_directory(reopen(repository.location), latest(repository), tmp_path / "out")
    else:
        restore_directory(reopen(repository.location), latest(repository), tmp_path / "out")
        assert (tmp_path / "out" / "other").read_bytes() == b"other"


@pytest.mark.parametrize("damage", [_flip, _truncate, _empty])
def test_damaged_snapshot_hides_no_other(repository: Repository, source: Path, tmp_path: Path, damage: Damage) -> None:
    broken = latest(repository)
    (source / "new").write_bytes(b"new")
    backup_directory(repository, source)
    damage(Path(repository.location, "snapshots", broken.id))

    listed = reopen(repository.location).snapshots()
    assert len(listed.snapshots) == 1
    assert broken.id in str(listed.damaged[0])
    assert any(broken.id in problem for problem in verify(reopen(repository.location)).problems)
    assert not restore_directory(reopen(repository.location), latest(repository), tmp_path / "out").damaged


@pytest.mark.parametrize("damage", [_flip, _truncate, _empty])
def test_damaged_key_and_config_are_named(repository: Repository, damage: Damage) -> None:
    config = Path(repository.location, "config")
    kept = config.read_bytes()
    damage(config)
    with pytest.raises(CorruptObject, match="config"):
        reopen(repository.location)
    _write(config, kept)
    key = next(iter(Path(repository.location, "keys").iterdir()))
    damage(key)
    with pytest.raises(CorruptObject, match=key.name):
        reopen(repository.location)


def test_wrong_password(repository: Repository) -> None:
    with pytest.raises(WrongPassword, match="1 key, none of them fits") as caught:
        open_repository(repository.store, "Tr0ub4dor")
    assert "Tr0ub4dor" not in str(caught.value)
    assert caught.value.hint


def test_not_a_repository(tmp_path: Path) -> None:
    tmp_path.joinpath("some file").write_text("x")
    with pytest.raises(RepositoryNotFound, match="wanted an object named config"):
        reopen(tmp_path)
    with pytest.raises(StoreMissing, match="does not exist"):
        reopen(tmp_path / "missing")


def test_next_backup_heals_what_it_reads_again(repository: Repository, source: Path, tmp_path: Path) -> None:
    """A blob that is no longer indexed is stored again although its file is unchanged."""
    next(iter(Path(repository.location, "index").iterdir())).unlink()
    backup_directory(reopen(repository.location), source)
    fresh = reopen(repository.location)
    assert not restore_directory(fresh, latest(fresh), tmp_path / "out").damaged
    assert describe(tmp_path / "out") == describe(source)


def test_a_pack_that_is_listed_and_cannot_be_had_is_a_problem(tmp_path: Path, repository: Repository) -> None:
    pack = _packs(repository, BlobKind.DATA)[0]

    class Forgetful(DirectoryStore):
        def get_into(self, key: str, buffer: bytearray | memoryview, *, offset: int = 0) -> int:
            if key.endswith(pack.name):
                raise ObjectNotFound("no such object", which=key)
            return super().get_into(key, buffer, offset=offset)

    report = verify(open_repository(Forgetful(tmp_path / "repo"), PASSWORD), read_share=1.0)
    assert any(pack.name in str(problem) for problem in report.problems)


def test_index_files_are_checked_on_the_store_not_in_the_cache(tmp_path: Path, repository: Repository) -> None:
    repository = open_repository(CachedStore(repository.store, tmp_path / "cache"), PASSWORD)
    repository.refresh()
    for path in (tmp_path / "repo" / "index").iterdir():
        _flip(path)
    repository.refresh()  # this host has copies, and another would not get that far
    assert verify(repository).problems
