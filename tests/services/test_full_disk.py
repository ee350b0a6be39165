"""Full disks where they were not looked at elsewhere: in the cache, and below a repository that is being pruned.

A full disk while restoring, storing, or bringing a directory up to date: test_crash.py, test_delta.py.
"""

from __future__ import annotations

import logging
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.errors import StoreFull
from holdfast.repository.cache import CachedStore
from holdfast.repository.repository import open_repository
from holdfast.services.prune import prune
from holdfast.services.restore import restore_directory
from holdfast.services.verify import verify
from holdfast.store.directory import DirectoryStore
from tests.repository.conftest import Restic
from tests.repository.conftest import referee as referee
from tests.support.repositories import PASSWORD, backup_directory, latest, new_repository, reopen
from tests.support.trees import build_sample, describe

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small filesystem")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 6 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "holdfast-test", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


def _fill(place: Path, leave: int = 0) -> Path:
    filler = place / "filler"
    free = os.statvfs(place)
    filler.write_bytes(bytes(max(0, free.f_bavail * free.f_frsize - leave)))
    return filler


def test_a_full_cache_is_a_warning_and_everything_works(
    small: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = tmp_path / "source"
    build_sample(source, files=12)
    new_repository(tmp_path / "repository")
    backup_directory(reopen(tmp_path / "repository"), source)
    (small / "cache").mkdir()
    _fill(small)
    (source / "new").write_bytes(b"new")

    repository = open_repository(CachedStore(DirectoryStore(tmp_path / "repository"), small / "cache"), PASSWORD)
    with caplog.at_level(logging.WARNING):
        backup_directory(repository, source)
    assert [record.message for record in caplog.records if "cache" in record.message] == [
        f"the cache {small}/cache/index is not used: No space left on device"
    ]
    repository = open_repository(CachedStore(DirectoryStore(tmp_path / "repository"), small / "cache"), PASSWORD)
    restore_directory(repository, latest(repository), tmp_path / "out")
    assert describe(tmp_path / "out") == describe(source)
    assert verify(repository, read_share=1).ok
    assert not [path for path in (small / "cache").rglob("*") if path.is_file()]


def test_a_prune_on_a_full_disk_loses_nothing(small: Path, tmp_path: Path, referee: Restic) -> None:
    source, chance = tmp_path / "source", random.Random(1)
    source.mkdir()
    for name in ("kept", "goes", "goes too"):
        (source / name).write_bytes(chance.randbytes(900_000))
    repository = new_repository(small / "repository")
    backup_directory(repository, source)
    (source / "goes").unlink()
    (source / "goes too").unlink()
    repository.refresh()
    backup_directory(repository, source)
    DirectoryStore(small / "repository").delete(f"snapshots/{repository.snapshots().snapshots[0].id}")
    # Room for the locks and the marks, not for the pack that what is still needed is copied to.
    filler = _fill(small, leave=100_000)
    with pytest.raises(StoreFull, match="No space left"):
        prune(reopen(small / "repository"), grace_hours=0)
    assert verify(reopen(small / "repository"), read_share=1).ok
    assert "no errors were found" in referee(small / "repository", "check", "--read-data", "--no-lock")
    filler.unlink()
    assert prune(reopen(small / "repository"), grace_hours=0).bytes_freed > 1_700_000
    assert "no errors were found" in referee(small / "repository", "check", "--read-data")
    restore_directory(reopen(small / "repository"), latest(repository), tmp_path / "out")
    assert describe(tmp_path / "out") == describe(source)
