"""Bad days of backups and restores of stacks, on real engines and real full disks."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from deployments.local.kept import Command, Kept
from deployments.local.machine import CannotProvide
from deployments.local.packages import ensure_tool
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


def test_a_directory_that_is_a_filesystem_of_its_own(project: Project, tmp_path: Path) -> None:
    """It cannot be renamed, and beside it is another disk: what is restored is swapped inside of it."""
    with mounted(tmp_path, "ext4", mib=32) as disk:
        disk.chmod(0o751)
        (disk / "file").write_text("old")
        config = configured(project, disk)
        project.container("app", command=["sleep", "999"], volumes={str(disk): {"bind": "/data"}})
        project.run("backup", "--config", config)
        (disk / "file").write_text("newer")
        (disk / "more").touch()
        disk.chmod(0o700)
        project.run("restore", project.name, "--replace", "--config", config)
        assert (disk / "file").read_text() == "old"
        assert sorted(path.name for path in disk.iterdir()) == ["file", "lost+found"]
        assert disk.stat().st_mode & 0o777 == 0o751
        project.destroy()


@contextlib.contextmanager
def registry(folder: Path) -> Iterator[str]:
    """A registry of its own on this machine: its host and port. The test is skipped where it cannot be had."""
    try:
        program = ensure_tool("docker-registry", ("docker-registry",))
    except CannotProvide as error:
        pytest.skip(str(error))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{free.getsockname()[1]}"
    (folder / "registry.yml").write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder}/images}}}}\nhttp: {{addr: '{place}'}}\n"
    )
    with Kept() as kept:
        kept.start([Command("registry", (program, "serve", str(folder / "registry.yml")))])
        wait_for(lambda: _answers(place), 20)
        yield place


def _answers(place: str) -> bool:
    host, _, port = place.partition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def test_a_name_that_is_another_image_by_now(project: Project, second_engine: str, tmp_path: Path) -> None:
    """`app:latest` went on since the backup: the registry gives the image that it was then, by its digest."""
    with registry(tmp_path) as place:
        name = f"{place}/{project.name}"

        def push(version: str) -> None:
            base = project.container("base", command=["sh", "-c", f"echo {version} > /version"])
            base.wait()
            base.commit(name, "latest")
            base.remove()
            assert "errorDetail" not in project.client.api.push(name, "latest")

        push("1")
        volume = project.volume("data")
        project.container("app", image=f"{name}:latest", command=["sleep", "99"], volumes={volume: {"bind": "/data"}})
        (project.mountpoint(volume) / "file").write_text("mine")
        project.run("backup", project.name)
        push("2")
        project.destroy()
        with contextlib.closing(docker.DockerClient(base_url=second_engine)) as client:
            there = Project(client, second_engine, project.blank, project.folder, project.name)
            try:
                assert "another one has this name" not in there.run("restore", project.name)
                app = client.containers.get(f"{project.name}-app-1")
                assert (app.exec_run("cat /version").output, app.attrs["Config"]["Image"]) == (b"1\n", f"{name}:latest")
                there.destroy()
                client.images.remove(f"{name}:latest", force=True)
                client.images.pull(name, "latest")
                assert "another one has this name now" in there.run("restore", project.name)
            finally:
                there.destroy()


def test_a_port_that_is_taken_leaves_nothing_behind(project: Project, second_engine: str, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path / "srv" / "shop" / "files"
    folder.mkdir(parents=True)
    (folder / "file").write_text("mine")
    project.client.networks.create(f"{project.name}_n", labels=project.labels())
    project.container(
        "app",
        command=["sleep", "99"],
        network_mode=f"{project.name}_n",
        ports={"80/tcp": ("127.0.0.1", port)},
        volumes={str(folder): {"bind": "/data"}},
    )
    project.run("backup", "--config", configured(project, folder))
    project.destroy()
    shutil.rmtree(tmp_path / "srv")
    with contextlib.closing(docker.DockerClient(base_url=second_engine)) as client, socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        there = Project(client, second_engine, project.blank, project.folder, project.name)
        assert "address already in use" in there.run("restore", project.name, code=38)
        assert names_of(client, there) == []
    assert not (tmp_path / "srv").exists()


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
