"""Bad days of backups and restores of stacks, on real engines and real full disks."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

import docker
import pytest

from tests.stacks.conftest import Project, wait_for
from tests.stacks.test_rebuild import names_of
from tests.support.filesystems import mounted

pytestmark = pytest.mark.engine


def configured(project: Project, folder: Path) -> str:
    path = project.folder / "holdfast.yaml"
    path.write_text(
        f"version: 1\nrepository: {{url: {project.folder}/repository, password_file: {project.folder}/password}}\n"
        f"stacks: {{{project.name}: {{paths: [{folder}], project: {project.name}, quiesce: pause}}}}\n"
    )
    return str(path)


def test_a_full_disk_for_what_changes_while_it_is_held(project: Project, tmp_path: Path) -> None:
    (project.folder / "data").mkdir()
    script = "while :; do dd if=/dev/zero of=/data/big bs=1M count=24 conv=notrunc 2>/dev/null; done"
    project.container("app", command=["sh", "-c", script], volumes={str(project.folder / "data"): {"bind": "/data"}})
    big = project.folder / "data" / "big"
    wait_for(lambda: big.exists() and big.stat().st_size == 24 << 20)
    config = configured(project, project.folder / "data")
    with mounted(tmp_path, "ext4", mib=16) as small:
        said = project.run("backup", "--config", config, code=19, TMPDIR=str(small))
        assert "no room for what changed" in said
        assert "set TMPDIR" in said
    assert project.status("app") == "running"
    assert f"path:{project.folder}" not in project.run("list")
    assert not list((project.folder / "state").glob("*.hold"))
    project.run("backup", "--config", config)


def test_names_that_somebody_else_has_and_a_volume_in_use(project: Project, second_engine: str) -> None:
    volume = project.volume("data")
    project.container("app", command=["sleep", "1000"], volumes={volume: {"bind": "/data"}})
    (project.mountpoint(volume) / "file").write_text("mine")
    project.run("backup", project.name)
    with contextlib.closing(docker.DockerClient(base_url=second_engine)) as client:
        there = Project(client, second_engine, project.blank, project.folder, project.name)
        assert client.info()["DockerRootDir"] != project.client.info()["DockerRootDir"]
        try:
            other = client.containers.create(
                project.blank, name=f"{project.name}-app-1", labels={"com.docker.compose.project": "other"}
            )
            said = there.run("restore", project.name, code=41)
            assert "belongs to another project" in said
            assert names_of(client, there) == [f"{project.name}-app-1"]
            other.remove()
            # A volume of the name, with data, which a container outside the stack writes.
            client.volumes.create(volume)
            (there.mountpoint(volume) / "file").write_text("theirs")
            client.containers.run(
                project.blank, ["sleep", "1000"], name=f"{project.name}-stranger", detach=True,
                network_mode="none", stop_signal="SIGKILL", volumes={volume: {"bind": "/data"}},
            )  # fmt: skip
            said = there.run("restore", project.name, "--replace", code=41)
            assert f"in use by container {project.name}-stranger" in said
            assert (there.mountpoint(volume) / "file").read_text() == "theirs"
        finally:
            there.destroy()


def test_an_image_that_is_nowhere_any_more(project: Project, second_engine: str) -> None:
    base = project.container("base", command=["sh", "-c", "echo 1 > /version"])
    base.wait()
    base.commit("holdfast-gone", project.name)
    base.remove()
    volume = project.volume("data")
    project.container("app", image=f"holdfast-gone:{project.name}", volumes={volume: {"bind": "/data"}})
    (project.mountpoint(volume) / "file").write_text("mine")
    project.run("backup", project.name)
    with contextlib.closing(docker.DockerClient(base_url=second_engine)) as client:
        there = Project(client, second_engine, project.blank, project.folder, project.name)
        assert "pull     image" in there.run("restore", project.name, "--dry-run")
        said = there.run("restore", project.name, code=31)
        assert "neither here, nor in the repository, nor in a registry" in said
        assert "images: save" in said
        assert names_of(client, there) == []
        # The data alone needs no image.
        there.run("restore", "latest", "--source", f"volume:{volume}", "--to", str(project.folder / "out"))
        assert (project.folder / "out" / "file").read_text() == "mine"
    project.destroy()
    project.client.images.remove(f"holdfast-gone:{project.name}", force=True)


def test_less_room_than_the_data_needs(project: Project, tmp_path: Path) -> None:
    with mounted(tmp_path, "ext4", mib=64) as large:
        (large / "data").mkdir()
        (large / "data" / "big").write_bytes(b"x" * (30 << 20))
        project.container("app", command=["sleep", "1000"], volumes={str(large / "data"): {"bind": "/data"}})
        project.run("backup", "--config", configured(project, large / "data"))
        project.destroy()
    (tmp_path / "ext4").rmdir()
    with mounted(tmp_path, "ext4", mib=16) as small:
        said = project.run("restore", project.name, code=43)
        assert "not enough room" in said
        assert "nothing was touched" in said
        assert [path.name for path in small.iterdir()] == ["lost+found"]
        assert names_of(project.client, project) == []
    assert subprocess.run(["mountpoint", "-q", str(small)], check=False).returncode != 0
