"""Directories that were named on the command line share a stack: none is forgotten because another was backed up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from holdfast.model.snapshot import PATHS, restore_points
from holdfast.policy.retention import Rules
from holdfast.repository.repository import Repository
from holdfast.repository.snapshot import delete_snapshot
from holdfast.services.backup import take_backup
from holdfast.services.retention import forget, plan_retention
from holdfast.sources.tree import TreeSource
from tests.support.repositories import new_repository

START = datetime(2026, 3, 1, 2, 30, tzinfo=UTC)


class Host:
    """Backups of directories, a day after the other."""

    def __init__(self, folder: Path) -> None:
        self.repository: Repository = new_repository(folder / "repository")
        self._folder = folder
        self._when = START

    def back_up(self, *names: str, host: str = "here") -> str:
        self._when += timedelta(days=1)
        for name in names:
            (self._folder / name).mkdir(exist_ok=True)
            (self._folder / name / "file").write_text(f"{name} {self._when}")
        sources = [TreeSource(self._folder / name, label=f"path:/{name}") for name in names]
        self.repository.refresh()
        return take_backup(self.repository, PATHS, sources, now=lambda: self._when, hostname=host).point

    def left(self) -> set[str]:
        plan = plan_retention(self.repository, PATHS, Rules(keep_last=1), now=lambda: self._when)
        forget(self.repository, plan, now=lambda: self._when)
        self.repository.refresh()
        return {point.id for point in restore_points(self.repository.snapshots().snapshots)}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_each_set_of_directories_and_each_host_is_for_itself(host: Host) -> None:
    documents = host.back_up("documents")
    elsewhere = host.back_up("pictures", host="elsewhere")
    host.back_up("pictures")
    both = host.back_up("pictures", "documents")
    pictures = host.back_up("pictures")
    assert host.left() == {documents, elsewhere, both, pictures}


def test_a_run_that_broke_off_goes_with_what_it_was_to_be(host: Host) -> None:
    both = [host.back_up("documents", "pictures") for _ in range(3)]
    broken = next(s for s in host.repository.snapshots().snapshots if s.point == both[1])
    delete_snapshot(host.repository.store, broken.id)
    host.repository.refresh()
    assert host.left() == {both[2]}
