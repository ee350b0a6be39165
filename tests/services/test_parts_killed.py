"""A part that is put in its place: killed between two renames, everything is as it was, a moment later."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from holdfast.errors import RestoreError
from holdfast.services.backup import take_backup
from holdfast.services.parts import restore_parts
from holdfast.sources.tree import TreeSource
from tests.support.repositories import new_repository, reopen
from tests.support.shop import now

KILLED = """
import os, signal, sys
from tests.support.repositories import reopen
from holdfast.services.parts import restore_parts
repository = reopen(sys.argv[1])
left, rename = [int(sys.argv[3])], os.rename
def dying(source, target):
    if ".holdfast-" in str(source) + str(target):
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
    rename(source, target)
os.rename = dying
restore_parts(repository, repository.snapshots().snapshots[-1], sys.argv[2], ["*"], in_place=True)
"""
ROOT = Path(__file__).parents[2]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is newer than its backup."""
    monkeypatch.setenv("HOLDFAST_STATE", str(tmp_path / "state"))
    place = tmp_path / "place"
    (place / "d").mkdir(parents=True)
    for name in ("a", "d/b", "c"):
        (place / name).write_text("older")
    take_backup(new_repository(tmp_path / "repository"), "docs", [TreeSource(place, label="path:/p")], now=now)
    for name in ("a", "d/b", "more"):
        (place / name).write_text("newer")
    (place / "c").unlink()
    return place


def contents(place: Path) -> dict[str, str]:
    found = {str(p.relative_to(place)): p.read_text() for p in sorted(place.rglob("*")) if p.is_file()}
    return found | {p.name: "left" for p in place.parent.glob("place.*")}


BEFORE = {"a": "newer", "d/b": "newer", "more": "newer"}


@pytest.mark.parametrize("renames", [0, 1, 3])
def test_killed_between_two_renames(place: Path, tmp_path: Path, renames: int) -> None:
    argv = [sys.executable, "-c", KILLED, str(tmp_path / "repository"), str(place), str(renames)]
    done = subprocess.run(
        argv, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False, stderr=subprocess.PIPE
    )
    assert done.returncode == -9, done.stderr
    deadline = time.monotonic() + 20
    while contents(place) != BEFORE or list((tmp_path / "state").glob("*.restore")):
        assert time.monotonic() < deadline, contents(place)
        time.sleep(0.05)


def test_what_fails_is_undone_and_what_does_not_leaves_nothing_else(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = reopen(tmp_path / "repository")
    snapshot, rename = repository.snapshots().snapshots[-1], os.rename
    failed: list[str] = []

    def failing(source: str, target: str) -> None:
        if target.endswith("/d/b") and not failed:
            failed.append(target)
            raise OSError(5, "Input/output error")
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", failing)
        with pytest.raises(RestoreError, match="cannot put a part"):
            restore_parts(repository, snapshot, str(place), ["*"], in_place=True)
    assert contents(place) == BEFORE
    restore_parts(repository, snapshot, str(place), ["a", "c"], in_place=True)
    assert contents(place) == BEFORE | {"a": "older", "c": "older"}
