"""Directories on btrfs stand still in a snapshot: of one instant, their writers held for moments, and no trace left."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.engine.ground import Ground, ground_of
from holdfast.engine.subvolume import remove_snapshot, subvolume_of
from tests.stacks.conftest import HOLDFAST, Project, wait_for
from tests.stacks.test_freeze import consistent
from tests.support.filesystems import mounted

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def btrfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with mounted(tmp_path_factory.mktemp("fs"), "btrfs") as top:
        yield top


@pytest.fixture
def folder(btrfs: Path, project: Project) -> Iterator[Path]:
    """A directory on btrfs to which a container of the project writes."""
    made = btrfs / project.name / "data"
    made.mkdir(parents=True)
    for number in range(200):
        (made / f"still{number}").write_bytes(os.urandom(5000))
    yield made
    project.destroy()
    shutil.rmtree(made.parent)


def configured(project: Project, folder: Path, *lines: str) -> str:
    path = project.folder / "holdfast.yaml"
    path.write_text(
        f"version: 1\nrepository: {{url: {project.folder}/repository, password_file: {project.folder}/password}}\n"
        f"stacks:\n  {project.name}:\n    paths: [{folder}]\n    project: {project.name}\n    quiesce: pause\n"
        + "".join(f"    {line}\n" for line in lines)
    )
    return str(path)


HANGS = "import time, holdfast.services.freeze as f\nf.FrozenTree.scan = lambda self, spool: time.sleep(600)\n"


def backup_with(project: Project, config: str, fault: str) -> list[str]:
    """The command line of a backup in which something goes wrong: `fault` is run before it, in its process."""
    script = (
        f"{fault}import sys\nsys.argv = ['holdfast', 'backup', {project.name!r}, '--config', {config!r}]\n"
        "from holdfast.cli.main import main\nmain()\n"
    )
    return [os.path.join(os.path.dirname(HOLDFAST), "python"), "-c", script]


def traces(top: Path) -> list[str]:
    return [str(path) for path in top.rglob(".holdfast*")]


def test_what_changed_is_read_in_the_snapshot(project: Project, folder: Path, btrfs: Path) -> None:
    project.writer("app", str(folder), every=0.002)
    wait_for(lambda: (folder / "f99").exists())
    config = configured(project, folder)
    (report,) = json.loads(project.run("backup", project.name, "--config", config, "--json"))
    source = next(s for s in report["sources"] if s["source"] == f"path:{folder}")
    assert 0 < source["held"][f"{project.name}-app-1"] < 2
    assert 0 < source["reread"] <= 110
    assert source["fuzzy"] == 0
    project.run("restore", "latest", "--source", f"path:{folder}", "--to", str(project.folder / "out"))
    assert consistent(project.folder / "out") >= 99
    assert len(list((project.folder / "out").glob("still*"))) == 200
    assert not traces(btrfs)


def test_a_kill_leaves_no_snapshot(project: Project, folder: Path, btrfs: Path) -> None:
    project.writer("app", str(folder))
    config = configured(project, folder)
    process = subprocess.Popen(backup_with(project, config, HANGS), env=project.env, start_new_session=True)
    wait_for(lambda: bool(traces(btrfs)), 30)
    wait_for(lambda: project.status("app") == "running")  # it goes on although the capture does
    before = (folder / "log").stat().st_size
    wait_for(lambda: (folder / "log").stat().st_size > before)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: not traces(btrfs))
    wait_for(lambda: not list((project.folder / "state").glob("*.hold")))


def test_a_snapshot_that_could_not_be_removed_is_not_forgotten(project: Project, folder: Path, btrfs: Path) -> None:
    project.writer("app", str(folder))
    config = configured(project, folder)
    fault = (
        "import holdfast.services.stills as s\n"
        "from holdfast.errors import SourceUnreadable\n"
        "def fail(note): raise SourceUnreadable('it is busy', which=note)\n"
        "s.remove_still = fail\n"
    )
    done = subprocess.run(
        backup_with(project, config, fault), env=project.env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "left to the watchdog: it is busy" in done.stderr
    wait_for(lambda: not traces(btrfs))  # whose process knows nothing of that fault
    wait_for(lambda: not list((project.folder / "state").glob("*.hold")))
    assert project.status("app") == "running"


def test_what_does_not_qualify_is_read_while_it_is_held(btrfs: Path, tmp_path: Path) -> None:
    assert ground_of(str(btrfs)) == Ground("btrfs")
    top = btrfs / "cases"
    subprocess.run(["btrfs", "subvolume", "create", str(top)], check=True, capture_output=True)
    subprocess.run(["btrfs", "subvolume", "create", str(top / "inner")], check=True, capture_output=True)
    (top / "inner" / "file").write_text("x")
    devices = {os.stat(path).st_dev for path in (top, top / "inner")}
    assert subvolume_of(str(top), devices) is None  # a snapshot would hold an empty directory in place of `inner`
    assert subvolume_of(str(tmp_path), {os.stat(tmp_path).st_dev}) is None
    place = subvolume_of(str(top / "inner"), {os.stat(top / "inner").st_dev})
    assert place is not None
    assert (place.top, place.below) == (str(top / "inner"), "")
    snapshot = place.plan()
    snapshot.take()
    (top / "inner" / "file").write_text("changed")
    assert (Path(snapshot.note) / "file").read_text() == "x"
    assert sorted(os.listdir(snapshot.note)) == ["file"]
    remove_snapshot(snapshot.note)
    remove_snapshot(snapshot.note)
    assert os.listdir(top / "inner") == ["file"]
    for path in (top / "inner", top):
        subprocess.run(["btrfs", "subvolume", "delete", str(path)], check=True, capture_output=True)
