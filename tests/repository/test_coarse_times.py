"""Filesystems that keep whole seconds: what was changed after it was read, in the same second, is read again."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.model.entry import last_changed_before
from holdfast.services.restore import restore_directory
from tests.support.filesystems import mounted
from tests.support.repositories import backup_directory, latest, new_repository

SECOND = 1_000_000_000


@given(
    changed=st.integers(0, 100 * SECOND),
    instant=st.integers(0, 100 * SECOND),
    kept=st.sampled_from([1, 1_000, SECOND // 250, SECOND, 2 * SECOND]),
)
def test_what_changed_later_is_never_believed_to_be_older(changed: int, instant: int, kept: int) -> None:
    """`kept` is what the filesystem rounds times to, in nanoseconds."""
    stamp = changed // kept * kept
    if changed >= instant and (stamp >= instant or kept >= SECOND):
        assert not last_changed_before(stamp, instant)
    if stamp < instant - 2 * SECOND:
        assert last_changed_before(stamp, instant)


def test_a_change_in_the_second_of_the_backup_is_not_lost(tmp_path: Path) -> None:
    repository = new_repository(tmp_path / "repository")
    with mounted(tmp_path, "ext4", ["-I", "128"], mib=20) as top:  # inodes without room for finer times
        file = top / "file"
        while True:
            file.write_bytes(b"before")
            before = os.stat(file).st_ctime_ns
            if before % SECOND:
                pytest.skip("this ext4 keeps finer times in small inodes")
            time.sleep(0.2)  # so that the second began clearly before the backup
            backup_directory(repository, top)
            file.write_bytes(b"after!")
            backup_directory(repository, top)
            if os.stat(file).st_ctime_ns == before:
                break  # all of it in one second: nothing but its content tells them apart
        restore_directory(repository, latest(repository), tmp_path / "out")
    assert (tmp_path / "out" / "file").read_bytes() == b"after!"
