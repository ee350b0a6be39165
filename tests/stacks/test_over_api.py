"""Volumes that cannot be read and written directly: over the Engine's archive API, and on a rootless engine."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from deployments.local import images
from holdfast.engine.client import Engine
from holdfast.engine.volumes import create_volume
from holdfast.errors import CorruptObject, SnapshotNotFound, StoreUnavailable
from holdfast.repository.repository import Repository
from holdfast.services import archive_restore
from holdfast.services.archive_restore import restore_new_volume
from holdfast.services.parts import restore_parts_over_api
from tests.stacks.conftest import Project
from tests.stacks.test_freeze import configured
from tests.support.repositories import backup_directory, latest, new_repository
from tests.support.rootless import rootless_engine
from tests.support.trees import build_sample, describe

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A repository with a tree of many kinds, whose source lies beside it."""
    folder = tmp_path_factory.mktemp("api")
    source = folder / "source"
    build_sample(source)
    (source / os.fsdecode(b"bad\xff\xfe")).write_bytes(b"x")
    os.mkfifo(source / "fifo", 0o640)
    (source / "suid").write_bytes(b"x")
    os.chown(source / "suid", 1234, 2345)
    (source / "suid").chmod(0o4755)
    os.setxattr(source / "suid", "user.colour", b"blue")
    os.utime(source / "suid", ns=(1, 1_234_567_890_123_456_789))
    source.chmod(0o2771)
    made = new_repository(folder / "repository")
    backup_directory(made, source)
    return made


def source_of(repository: Repository) -> Path:
    return Path(repository.location).parent / "source"


def test_a_volume_written_over_the_api_is_the_same(repository: Repository, engine: Engine, project: Project) -> None:
    volume = create_volume(engine, f"{project.name}-api")
    report = restore_new_volume(repository, latest(repository), engine, volume)
    assert report.damaged == ()
    assert describe(volume.mountpoint) == describe(source_of(repository))
    assert not [c for c in project.client.containers.list(all=True) if (c.name or "").startswith("holdfast-write")]


def test_a_part_of_it(repository: Repository, engine: Engine, project: Project) -> None:
    volume = create_volume(engine, f"{project.name}-part")
    restore_parts_over_api(repository, latest(repository), engine, volume, ["dir 1/**", "large"])
    there = describe(volume.mountpoint)
    wanted = {
        path: facts for path, facts in describe(source_of(repository)).items() if path.startswith((b"dir 1", b"large"))
    }
    assert {path: facts for path, facts in there.items() if path != b"."} == wanted
    other = create_volume(engine, f"{project.name}-none")
    with pytest.raises(SnapshotNotFound):
        restore_parts_over_api(repository, latest(repository), engine, other, ["no such"])
    assert other.name not in [v.name for v in project.client.volumes.list()]


def test_damage_is_named_and_a_failure_leaves_no_volume(
    repository: Repository, engine: Engine, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from holdfast.repository.content import stream_content as real

    def broken(error: Exception) -> None:
        def stream(reader: object, node: object) -> Iterator[bytes]:
            if getattr(node, "name", "") == "large":
                yield b"half"
                raise error
            yield from real(reader, node)  # type: ignore[arg-type]  # handed through

        monkeypatch.setattr(archive_restore, "stream_content", stream)

    volume = create_volume(engine, f"{project.name}-damaged")
    broken(CorruptObject("a blob is damaged"))
    report = restore_new_volume(repository, latest(repository), engine, volume)
    assert [line.partition(":")[0] for line in report.damaged] == ["large"]
    missing = set(describe(source_of(repository))) - set(describe(volume.mountpoint))
    assert missing == {b"large"}
    volume = create_volume(engine, f"{project.name}-failed")
    broken(StoreUnavailable("the store is gone"))
    with pytest.raises(StoreUnavailable):
        restore_new_volume(repository, latest(repository), engine, volume)
    assert volume.name not in [v.name for v in project.client.volumes.list()]


def test_a_rootless_engine(project: Project) -> None:
    """Owners are those that containers see, both ways; what cannot be held there is refused before anything is."""
    with rootless_engine() as url, contextlib.closing(docker.DockerClient(base_url=url)) as client:
        there = Project(client, url, images.blank_image(url), project.folder, project.name)
        volume = there.volume("data")
        there.container(
            "app",
            command=[
                "sh",
                "-c",
                "mkdir /data/p; echo x > /data/p/f; chown -R 70:71 /data/p; chmod 700 /data/p; sleep 1000",
            ],
            volumes={volume: {"bind": "/data"}},
        )
        said = there.run("backup", there.name)
        assert f"volume:{volume}" in said
        said = there.run("restore", "latest", "--source", f"volume:{volume}", "--to-volume", f"{there.name}-again")
        assert "written over the Engine's API" in said
        look = there.container(
            "look",
            command=["sh", "-c", "stat -c '%u:%g %a' /d/p; cat /d/p/f"],
            volumes={f"{there.name}-again": {"bind": "/d"}},
        )
        look.wait()
        assert look.logs() == b"70:71 700\nx\n"
        config = configured(there, volume, "quiesce: pause")
        assert "is rootless" in there.run("backup", there.name, "--config", config, code=4)
        assert there.status("app") == "running"
        there.destroy()


def test_the_engines_own_words_are_told(project: Project) -> None:
    """A volume whose storage does not answer: not that there was an error, but which."""
    options = {"type": "ext4", "device": str(project.folder / "no-disk")}
    labels = project.labels(**{"holdfast.enable": "true"})
    project.client.volumes.create(f"{project.name}_far", driver_opts=options, labels=labels)
    said = project.run("backup", project.name, code=38)
    assert "failed to mount local volume" in said
    assert "no-disk" in said
