"""Directories on ZFS stand still in a snapshot that is read through a clone; nothing of either is left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.local.machine import find_tool
from holdfast.engine import dataset, ground, still
from holdfast.engine.at_rest import at_rest
from holdfast.errors import SourceUnreadable
from tests.stacks.conftest import Project, wait_for
from tests.stacks.test_freeze import consistent
from tests.stacks.test_instant import manifest
from tests.stacks.test_stills import HANGS, backup_with, configured
from tests.support.filesystems import zpool

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    with zpool(tmp_path_factory.mktemp("fs")) as found:
        yield found


@pytest.fixture
def folder(pool: tuple[str, Path], project: Project) -> Iterator[Path]:
    """A directory in a dataset to which a container of the project writes."""
    made = pool[1] / project.name / "data"
    made.mkdir(parents=True)
    for number in range(100):
        (made / f"still{number}").write_bytes(os.urandom(5000))
    yield made
    project.destroy()
    shutil.rmtree(made.parent)


def zfs(*arguments: str) -> str:
    found = find_tool("zfs")
    assert found is not None
    return subprocess.run([found, *arguments], check=True, capture_output=True, text=True).stdout


def traces(pool: str) -> list[str]:
    return [
        name for name in zfs("list", "-H", "-r", "-t", "all", "-o", "name", pool).split() if "holdfast-still" in name
    ]


def test_what_changed_is_read_in_the_snapshot(project: Project, folder: Path, pool: tuple[str, Path]) -> None:
    project.writer("app", str(folder), every=0.002)
    wait_for(lambda: (folder / "f99").exists())
    time.sleep(2.1)  # zfs-fuse keeps whole seconds: what is younger is read again
    config = configured(project, folder)
    said = project.run("backup", project.name, "--config", config, "--json")
    (report,), _ = json.JSONDecoder().raw_decode(said)
    source = next(s for s in report["sources"] if s["source"] == f"path:{folder}")
    assert 0 < source["held"][f"{project.name}-app-1"] < 5
    assert 0 < source["reread"] <= 110  # what the writer touched, nothing of what stood still
    assert source["fuzzy"] == 0
    assert manifest(project, f"path:{folder}")["facts"]["freeze"]["snapshot"] == "zfs"
    project.run("restore", "latest", "--source", f"path:{folder}", "--to", str(project.folder / "out"))
    assert consistent(project.folder / "out") >= 99
    assert len(list((project.folder / "out").glob("still*"))) == 100
    assert not traces(pool[0])


def test_a_kill_leaves_no_snapshot(project: Project, folder: Path, pool: tuple[str, Path]) -> None:
    project.writer("app", str(folder))
    config = configured(project, folder)
    process = subprocess.Popen(backup_with(project, config, HANGS), env=project.env, start_new_session=True)
    wait_for(lambda: len(traces(pool[0])) == 2, 30)  # the snapshot, and its clone
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: not traces(pool[0]))
    wait_for(lambda: not list((project.folder / "state").glob("*.hold")))


def test_a_snapshot_that_cannot_be_taken_costs_only_time(
    project: Project, folder: Path, pool: tuple[str, Path]
) -> None:
    """Then what changed is copied while the writers are held, as on other filesystems."""
    project.writer("app", str(folder), every=0.002)
    wait_for(lambda: (folder / "f99").exists())
    fault = (
        "import holdfast.engine.dataset as d\n"
        "d.DatasetSnapshot.take = lambda self: d._zfs('snapshot', self.name + '/no')\n"
    )
    done = subprocess.run(
        backup_with(project, configured(project, folder), fault),
        env=project.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "copied while its writers are held" in done.stderr
    project.run("restore", "latest", "--source", f"path:{folder}", "--to", str(project.folder / "out"))
    assert consistent(project.folder / "out") >= 99
    assert not traces(pool[0])


def test_what_a_clone_shows(pool: tuple[str, Path], tmp_path: Path) -> None:
    name, top = pool
    zfs("create", f"{name}/inner")
    (top / "inner" / ".hidden").mkdir()
    file = top / "inner" / ".hidden" / "file"
    file.write_text("x")
    assert ground.ground_of(str(file.parent)).kind == "zfs"
    said = at_rest(str(file.parent))  # this ZFS encrypts nothing, and what its pool lies on is not looked at
    assert (said.encrypted, said.words[:3]) == (None, "zfs")
    assert dataset.dataset_of(str(top), {os.stat(path).st_dev for path in (top, top / "inner")}) is None
    assert dataset.dataset_of(str(tmp_path), {os.stat(tmp_path).st_dev}) is None
    place = still.place_of(str(file.parent), {os.stat(file).st_dev})
    assert place == dataset.Dataset(f"{name}/inner", ".hidden")
    snapshot = place.plan()
    snapshot.take()
    before = file.stat()
    file.write_text("changed")
    shown = Path(snapshot.show(), place.below)
    assert (shown / "file").read_text() == "x"
    seen = (shown / "file").stat()
    # What the second pass compares.
    assert (seen.st_ino, seen.st_mtime_ns, seen.st_ctime_ns) == (before.st_ino, before.st_mtime_ns, before.st_ctime_ns)
    assert os.stat(shown.parents[1]).st_mode & 0o077 == 0
    with pytest.raises(OSError, match=r"[Rr]ead-only"):
        (shown / "new").write_text("")
    still.remove_still(snapshot.note)
    still.remove_still(snapshot.note)
    assert not shown.parents[1].exists()


@pytest.mark.parametrize(
    "note",
    [
        '["zfs", "tank/data@weekly", "/tmp/x"]',
        '["zfs", "tank@holdfast-still-1", "/etc"]',
        '["lv"]',
        '["lvm", "vg/data", "/tmp/data"]',
        '["lvm", "vg/holdfast-still-1", "/etc"]',
    ],
)
def test_nothing_else_is_removed(note: str) -> None:
    with pytest.raises(SourceUnreadable, match="no snapshot of ours"):
        still.remove_still(note)
