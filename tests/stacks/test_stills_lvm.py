"""Directories on thin volumes of LVM stand still in a snapshot; nothing of it is left behind, also after a kill.

The kernels of most machines that run tests have no thin volumes, and LVM belongs to the whole machine: these tests run
in a guest, which takes some minutes where its processor is emulated: `pytest -m soak tests/stacks/test_stills_lvm.py`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from holdfast.engine import ground, lvm, still, thinvolume
from tests.stacks.conftest import Project, wait_for
from tests.stacks.test_freeze import consistent
from tests.stacks.test_instant import manifest
from tests.stacks.test_stills import HANGS, backup_with, configured
from tests.support.guest import inside, run_tests_in_guest

pytestmark = pytest.mark.soak

in_guest = pytest.mark.skipif(not inside(), reason="runs in a guest, as a part of test_in_a_guest")
KINDS = ("ext4", "xfs")
TOOLS = (("lvm", "lvm2"), ("thin_check", "thin-provisioning-tools"), ("mkfs.xfs", "xfsprogs"))


@pytest.mark.skipif(inside(), reason="this is the guest")
@pytest.mark.timeout(1800)
def test_in_a_guest(capsys: pytest.CaptureFixture[str]) -> None:
    modules = ("loop", "dm-thin-pool", "ext4", "xfs")
    ended = run_tests_in_guest([__file__], seconds=1500, modules=modules, tools=TOOLS)
    with capsys.disabled():
        print(ended.said)
    assert ended.status == 0


@dataclass(frozen=True)
class Group:
    """A volume group: its name, and the folder in which its volumes are mounted by their filesystem's name."""

    name: str
    folder: Path

    def traces(self) -> list[str]:
        """What a snapshot leaves: volumes, mounts, folders."""
        mounts = Path("/proc/self/mounts").read_text().splitlines()
        folders = [str(path) for path in Path(os.environ["TMPDIR"]).glob("holdfast-still-*")]
        made = [volume["lv_name"] for volume in lvm.volumes() if "holdfast-still" in volume["lv_name"]]
        return made + folders + [line for line in mounts if "holdfast-still" in line]


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    folder, name = tmp_path_factory.mktemp("lvm"), f"hf{secrets.token_hex(4)}"
    with (folder / "image").open("wb") as file:
        file.truncate(3 << 30)
    loop = said("losetup", "--find", "--show", str(folder / "image"))
    said("vgcreate", name, loop)
    said("lvcreate", "--type", "thin-pool", "-L", "1200M", "-n", "pool", name)
    for kind in KINDS:
        said("lvcreate", "-V", "600M", "--thinpool", "pool", "-n", kind, name)
    said("lvcreate", "-y", "-L", "100M", "-n", "thick", name)
    for volume, kind in (("ext4", "ext4"), ("xfs", "xfs"), ("thick", "ext4")):
        said(f"mkfs.{kind}", "-q", f"/dev/{name}/{volume}")
        (folder / volume).mkdir()
        said("mount", f"/dev/{name}/{volume}", str(folder / volume))
    yield Group(name, folder)
    for volume in (*KINDS, "thick"):
        said("umount", str(folder / volume))
    said("vgremove", "-f", name)
    said("losetup", "-d", loop)


def said(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (argv, done.stderr)
    return done.stdout.strip()


@pytest.fixture
def kind() -> str:
    return "ext4"


@pytest.fixture
def folder(kind: str, group: Group, project: Project) -> Iterator[Path]:
    """A directory on a thin volume to which a container of the project writes."""
    made = group.folder / kind / project.name / "data"
    made.mkdir(parents=True)
    for number in range(100):
        (made / f"still{number}").write_bytes(os.urandom(5000))
    project.writer("app", str(made), every=0.002)
    wait_for(lambda: (made / "f99").exists(), 60)
    yield made
    project.destroy()
    shutil.rmtree(made.parent)


@in_guest
@pytest.mark.parametrize("kind", KINDS)
def test_what_changed_is_read_in_the_snapshot(kind: str, project: Project, folder: Path, group: Group) -> None:
    config = configured(project, folder)
    written = project.run("backup", project.name, "--config", config, "--json")
    (report,), _ = json.JSONDecoder().raw_decode(written)
    source = next(s for s in report["sources"] if s["source"] == f"path:{folder}")
    print(kind, "held", source["held"], "reread", source["reread"])
    assert 0 < source["held"][f"{project.name}-app-1"] < 30
    assert 0 < source["reread"] <= 110  # what the writer touched, nothing of what stood still
    assert source["fuzzy"] == 0
    assert manifest(project, f"path:{folder}")["facts"]["freeze"]["snapshot"] == "lvm"
    project.run("restore", "latest", "--source", f"path:{folder}", "--to", str(project.folder / "out"))
    assert consistent(project.folder / "out") >= 99
    assert len(list((project.folder / "out").glob("still*"))) == 100
    assert not group.traces()


@in_guest
@pytest.mark.parametrize("watchdog", [True, False])
def test_a_kill_leaves_no_snapshot(watchdog: bool, project: Project, folder: Path, group: Group) -> None:
    """The watchdog removes it; and where that dies, too, the next start does."""
    argv = backup_with(project, configured(project, folder), HANGS)
    process = subprocess.Popen(argv, env=project.env, start_new_session=True)
    wait_for(lambda: len(group.traces()) == 3, 60)  # the volume, its folder, its mount
    wait_for(lambda: project.status("app") == "running", 30)
    before = (folder / "log").stat().st_size
    wait_for(lambda: (folder / "log").stat().st_size > before, 30)  # the writer goes on although the capture does
    if not watchdog:
        os.kill(watchdog_of(process.pid), signal.SIGKILL)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if not watchdog:
        time.sleep(2)
        assert len(group.traces()) == 3
        project.run("thaw")
        assert not group.traces()
    wait_for(lambda: not group.traces(), 60)
    wait_for(lambda: not list((project.folder / "state").glob("*.hold")), 30)


def watchdog_of(parent: int) -> int:
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            status = (path / "stat").read_text().rpartition(")")[2].split()
            if int(status[1]) == parent and b"holdfast.engine.watchdog" in (path / "cmdline").read_bytes():
                return int(path.name)
    raise AssertionError("it has no watchdog")


@in_guest
def test_a_snapshot_that_cannot_be_mounted_costs_only_time(
    project: Project, folder: Path, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then what changed is copied while the writers are held, as on other filesystems."""
    monkeypatch.setitem(thinvolume._OPTIONS, "ext4", "ro,no-such-option")
    written = project.run("backup", project.name, "--config", configured(project, folder))
    assert "copied while its writers are held" in written
    assert "snapshot" not in manifest(project, f"path:{folder}")["facts"]["freeze"]
    project.run("restore", "latest", "--source", f"path:{folder}", "--to", str(project.folder / "out"))
    assert consistent(project.folder / "out") >= 99
    assert not group.traces()


@in_guest
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_snapshot_shows(kind: str, group: Group) -> None:
    top = group.folder / kind / "shown" / ".hidden"
    top.mkdir(parents=True)
    file = top / "file"
    file.write_text("x")
    with (top / "deleted").open("w") as left:  # what the journal has to be replayed for
        left.write("x")
        left.flush()
        (top / "deleted").unlink()
        place = still.place_of(str(top), {os.stat(file).st_dev})
        assert place == thinvolume.ThinVolume(f"{group.name}/{kind}", "shown/.hidden", kind)
        snapshot = place.plan()
        snapshot.take()
    before = [path.stat() for path in (top, file)]
    file.write_text("changed")
    (top / "new").write_text("")
    shown = Path(snapshot.show(), place.below)
    assert [path.name for path in shown.iterdir()] == ["file"]
    assert (shown / "file").read_text() == "x"
    for seen, was in zip([path.stat() for path in (shown, shown / "file")], before, strict=True):
        # What the second pass compares.
        assert (seen.st_ino, seen.st_mtime_ns, seen.st_ctime_ns) == (was.st_ino, was.st_mtime_ns, was.st_ctime_ns)
    assert os.stat(Path(snapshot.show()).parent).st_mode & 0o077 == 0
    with pytest.raises(OSError, match=r"[Rr]ead-only"):
        (shown / "new").write_text("")
    still.remove_still(snapshot.note)
    still.remove_still(snapshot.note)
    assert not group.traces()
    assert file.read_text() == "changed"


@in_guest
def test_a_directory_that_is_mounted_elsewhere_is_found_in_its_volume(group: Group, tmp_path: Path) -> None:
    inner = group.folder / "xfs" / "volumes" / "data"
    (inner / "below").mkdir(parents=True)
    said("mount", "--bind", str(inner), str(tmp_path))
    try:
        found = still.place_of(str(tmp_path / "below"), {os.stat(inner).st_dev})
    finally:
        said("umount", str(tmp_path))
    assert found == thinvolume.ThinVolume(f"{group.name}/xfs", "volumes/data/below", "xfs")


@in_guest
def test_what_does_not_qualify_is_read_while_it_is_held(
    group: Group, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    thin, thick = group.folder / "ext4", group.folder / "thick"
    devices = {path: os.stat(path).st_dev for path in (thin, thick, tmp_path)}
    assert thinvolume.volume_of(str(thin), {devices[thin]}) is not None
    assert ground.ground_of(str(thin)) == ground.Ground("ext4", lvm=True, program=True, thin=True)
    assert thinvolume.volume_of(str(thin), {devices[thin], devices[tmp_path]}) is None  # something is mounted in it
    assert thinvolume.volume_of(str(tmp_path), {devices[tmp_path]}) is None
    assert thinvolume.volume_of(str(thick), {devices[thick]}) is None
    assert "only its thin volumes" in ground.ground_of(str(thick)).words
    monkeypatch.setattr(thinvolume, "_MOST_FULL", 0.0)
    with caplog.at_level(logging.WARNING):
        assert thinvolume.volume_of(str(thin), {devices[thin]}) is None
    assert "its thin pool pool is" in caplog.text
    monkeypatch.undo()
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    assert thinvolume.volume_of(str(thin), {devices[thin]}) is None
    assert "with lvm2 here" in ground.ground_of(str(thin)).words


@in_guest
def test_what_outlived_its_starter_is_waited_for(group: Group) -> None:
    """A kill may come when `lvcreate` was just started, and has made nothing yet."""
    place = still.place_of(str(group.folder / "ext4"), {os.stat(group.folder / "ext4").st_dev})
    assert place is not None
    snapshot = place.plan()
    name = json.loads(snapshot.note)[1]
    script = 'sleep 3; exec lvm "$@"'
    words = ["lvcreate", "--snapshot", "--setactivationskip", "n", "--name", name.partition("/")[2], place.top]
    with subprocess.Popen(["sh", "-c", script, "sh", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        still.remove_still(snapshot.note)
    assert not group.traces()
