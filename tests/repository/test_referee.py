"""restic is the referee: it accepts what we write, and we restore what it writes, to the last attribute."""

from __future__ import annotations

import os
from pathlib import Path

from holdfast.services.compare import compare_directory
from holdfast.services.restore import open_snapshot, restore_directory
from holdfast.services.verify import verify
from tests.repository.conftest import Restic
from tests.support.repositories import backup_directory, latest, new_repository, reopen
from tests.support.trees import describe

# restic 0.14 neither saves nor restores sockets, and has lost the bytes of a link target that is not UTF-8.
_BEYOND_RESTIC = (b"socket", b"raw link")


def test_restic_uses_a_repository_that_holds_nothing_yet(tmp_path: Path, sample: Path, referee: Restic) -> None:
    new_repository(tmp_path / "repo")
    referee(tmp_path / "repo", "snapshots")
    referee(tmp_path / "repo", "check")
    referee(tmp_path / "repo", "backup", str(sample))
    assert len(reopen(tmp_path / "repo").snapshots().snapshots) == 1


def test_restic_accepts_our_repository(tmp_path: Path, sample: Path, referee: Restic) -> None:
    repository = new_repository(tmp_path / "repo")
    backup_directory(repository, sample)
    (sample / "dir 1" / "added later").write_bytes(b"more")
    backup_directory(repository, sample)

    assert "no errors were found" in referee(tmp_path / "repo", "check", "--read-data")
    assert "2 snapshots" in referee(tmp_path / "repo", "snapshots")


def test_restic_restores_our_tree_identically(tmp_path: Path, sample: Path, referee: Restic) -> None:
    backup_directory(new_repository(tmp_path / "repo"), sample)
    referee(tmp_path / "repo", "restore", "latest", "--target", str(tmp_path / "out"))

    wanted, found = describe(sample), describe(tmp_path / "out" / "data")
    for name in _BEYOND_RESTIC:
        wanted.pop(name, None)
        found.pop(name, None)
    assert found == wanted


def test_we_restore_what_restic_wrote(tmp_path: Path, sample: Path, referee: Restic) -> None:
    referee(tmp_path / "repo", "init", "--repository-version", "2")
    referee(tmp_path / "repo", "backup", str(sample))
    repository = reopen(tmp_path / "repo")
    restore_directory(repository, latest(repository), tmp_path / "out")

    wanted, found = describe(sample), describe(Path(f"{tmp_path}/out{sample}"))
    for name in _BEYOND_RESTIC:
        wanted.pop(name, None)
        found.pop(name, None)
    assert found == wanted
    assert verify(repository, read_share=1).ok


def test_both_write_into_one_repository(tmp_path: Path, sample: Path, referee: Restic) -> None:
    repository = new_repository(tmp_path / "repo")
    backup_directory(repository, sample)
    referee(tmp_path / "repo", "backup", str(sample))
    backup_directory(reopen(tmp_path / "repo"), sample)

    assert "no errors were found" in referee(tmp_path / "repo", "check", "--read-data")
    assert len(repository.snapshots().snapshots) == 3


def test_our_own_restore_is_identical(tmp_path: Path, sample: Path) -> None:
    repository = new_repository(tmp_path / "repo")
    backup_directory(repository, sample)
    restore_directory(repository, latest(repository), tmp_path / "out")

    assert describe(tmp_path / "out") == describe(sample)
    data = open_snapshot(repository, latest(repository))
    assert compare_directory(repository.reader, data, os.fsencode(tmp_path / "out")).problems == []
    sparse = tmp_path / "out" / "sparse"
    if sparse.exists():
        assert sparse.stat().st_blocks * 512 < sparse.stat().st_size / 2


def test_restic_keys_and_passwords_work_both_ways(tmp_path: Path, referee: Restic) -> None:
    from holdfast.repository import keys
    from holdfast.repository.repository import open_repository

    repository = new_repository(tmp_path / "repo")
    keys.add_key(repository.store, repository.key, "second password", n=16)
    (tmp_path / "new").write_text("third password")
    referee(tmp_path / "repo", "key", "add", "--new-password-file", str(tmp_path / "new"))

    for password in ("second password", "third password"):
        assert open_repository(repository.store, password).id == repository.id
    assert len(keys.list_keys(repository.store)) == 3


def test_restic_respects_our_exclusive_lock(tmp_path: Path, sample: Path, referee: Restic) -> None:
    repository = new_repository(tmp_path / "repo")
    with repository.lock(exclusive=True):
        said = referee(tmp_path / "repo", "backup", str(sample), check=False)
    assert "locked exclusively" in said
    referee(tmp_path / "repo", "backup", str(sample))
