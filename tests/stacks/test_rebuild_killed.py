"""A restore of a stack that is killed, at any instant: what ran before runs again, with the data it had."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.stacks.conftest import HOLDFAST, Project, wait_for
from tests.stacks.test_rebuild import names_of, psql, start_stack, wait_for_server
from tests.support.command import heeding

pytestmark = pytest.mark.engine


@pytest.fixture
def app(project: Project) -> str:
    """A stack whose restore waits for an application that is not healthy on the restored data; its volume."""
    volume = project.volume("data", **{"holdfast.enable": "true"})
    project.container(
        "app",
        command=["sleep", "100000"],
        healthcheck={"test": ["CMD", "grep", "newer", "/data/file"], "interval": 300_000_000, "retries": 1000},
        volumes={volume: {"bind": "/data"}},
    )
    (project.mountpoint(volume) / "file").write_text("older")
    project.run("backup", project.name)
    (project.mountpoint(volume) / "file").write_text("newer")
    return volume


@contextmanager
def restoring(project: Project) -> Iterator[subprocess.Popen[bytes]]:
    """`holdfast restore --replace` as a process of its own; nothing waits for what its children still say."""
    with (project.folder / "said").open("w") as said:
        argv = [HOLDFAST, "restore", project.name, "--replace"]
        process = subprocess.Popen(heeding(argv), env=project.env, stdout=said, stderr=said)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def said(project: Project) -> str:
    return (project.folder / "said").read_text()


def is_as_before(project: Project, volume: str) -> bool:
    folder = project.mountpoint(volume)
    if project.status("app") != "running" or not (folder / "file").is_file():
        return False
    return (folder / "file").read_text() == "newer" and not list(folder.parent.glob("*holdfast*"))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_ended_while_the_new_stack_starts(project: Project, app: str, number: signal.Signals) -> None:
    names = names_of(project.client, project)
    with restoring(project) as process:
        wait_for(lambda: "start " in said(project), 30)
        assert (project.mountpoint(app) / "file").read_text() == "older"
        process.send_signal(number)
        wait_for(lambda: is_as_before(project, app), 30)
    assert names_of(project.client, project) == names
    wait_for(lambda: not list((project.folder / "state").glob("*.restore")))
    assert "nothing is held" in project.run("thaw")


def test_killed_with_its_watchdog_it_is_undone_when_somebody_asks(project: Project, app: str) -> None:
    with restoring(project) as process:
        wait_for(lambda: "start " in said(project), 30)
        for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)
        process.kill()
    assert not is_as_before(project, app)
    # Nobody knows what was done by hand since: nothing is undone unasked, and nothing is built on it.
    for arguments in (("backup", project.name), ("restore", project.name, "--replace")):
        assert "holdfast thaw puts everything back" in project.run(*arguments, code=29)
    config = project.folder / "holdfast.yaml"
    config.write_text(
        f"""version: 1
repository: {{url: {project.folder}/repository, password_file: {project.folder}/password}}
stacks: {{{project.name}: {{discover: true}}}}
"""
    )
    assert f"{project.name}, half restored" in project.run("doctor", "--config", str(config), code=None)
    assert "everything is as it was before" in project.run("thaw")
    assert is_as_before(project, app)
    project.run("backup", project.name)


def test_a_backup_waits_for_no_restore_and_disturbs_none(project: Project, app: str) -> None:
    with restoring(project) as process:
        wait_for(lambda: "start " in said(project), 30)
        assert "or a restore" in project.run("backup", project.name, code=29)
        process.terminate()
        wait_for(lambda: is_as_before(project, app), 30)


@pytest.mark.soak
def test_killed_at_any_instant(project: Project, postgres_image: str) -> None:
    volume, database = start_stack(project, postgres_image), f"{project.name}-db-1"
    project.run("backup", project.name)
    names = names_of(project.client, project)
    chance = random.Random(int(os.environ.get("HOLDFAST_SEED", "1")))
    for number in range(20):
        psql(project.url, database, b"UPDATE items SET note = '%d' WHERE t = 1" % number)
        (project.mountpoint(volume) / "file1").write_text(str(number))
        with restoring(project) as process:
            time.sleep(chance.uniform(0.3, 8.0))
            ended = process.poll()
        wait_for(lambda: not list((project.folder / "state").glob("*.restore")), 120)
        if ended == 0:
            continue
        wait_for_server(project.url, database)
        assert psql(project.url, database, b"SELECT note FROM items WHERE t = 1") == str(number), said(project)
        assert Path(project.mountpoint(volume) / "file1").read_text() == str(number)
        assert project.status("app") == project.status("db") == "running"
        assert names_of(project.client, project) == names
        assert list(project.mountpoint(volume).parent.glob("*holdfast*")) == []
