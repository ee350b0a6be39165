"""The Engine is killed and comes back while a backup runs: what ran before runs again, with what it had.

All of them: `pytest -m "soak or engine" tests/stacks/test_engine_dies.py`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from deployments.local import images
from deployments.local.engine import _commands, ensure_docker_installed, private_engine_is_possible, why_no_answer
from deployments.local.kept import Kept
from tests.stacks.conftest import HOLDFAST, Project, wait_for
from tests.stacks.test_freeze import configured, held_backup

pytestmark = pytest.mark.engine


class Mortal:
    """A private engine whose dockerd can be killed and started again; its containers live on, as with live-restore."""

    def __init__(self, kept: Kept) -> None:
        containerd, dockerd = _commands(kept)
        kept.start([containerd])
        self.url = f"unix://{kept.path('docker.sock')}"
        self._argv, self._log = dockerd.argv, kept.path("dockerd.log")
        self._pid_file = Path(kept.path("dockerd.pid"))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *more: str) -> None:
        self._pid_file.unlink(missing_ok=True)
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen([*self._argv, *more], stdout=log, stderr=log)
        wait_for(lambda: why_no_answer(self.url) is None, 60)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(30)


@pytest.fixture(scope="module")
def mortal() -> Iterator[Mortal]:
    if reason := private_engine_is_possible():
        pytest.skip(reason)
    ensure_docker_installed()
    kept = Kept()
    made = Mortal(kept)
    try:
        made.start()
        yield made
    finally:
        made.stop()
        kept.stop()


@pytest.fixture
def place(mortal: Mortal, tmp_path: Path) -> Iterator[Project]:
    """A project on the engine that dies."""
    from tests.support.repositories import new_repository

    (tmp_path / "password").write_text("correct horse")
    (tmp_path / "password").chmod(0o600)
    (tmp_path / "state").mkdir()
    (tmp_path / "project").mkdir()
    with contextlib.closing(docker.DockerClient(base_url=mortal.url)) as client:
        made = Project(client, mortal.url, images.blank_image(mortal.url), tmp_path)
        new_repository(tmp_path / "repository").store.close()
        yield made
    with contextlib.closing(docker.DockerClient(base_url=mortal.url)) as client:
        Project(client, mortal.url, "", tmp_path, made.name).destroy()


def journals(project: Project) -> list[Path]:
    return list((project.folder / "state").glob("*.hold"))


@pytest.mark.parametrize(
    ("method", "lives_on"),
    [
        ("pause", True),
        ("pause", False),
        pytest.param("stop", True, marks=pytest.mark.soak),
        pytest.param("stop", False, marks=pytest.mark.soak),
    ],
)
def test_killed_while_containers_are_held(mortal: Mortal, place: Project, method: str, *, lives_on: bool) -> None:
    mortal.stop()
    mortal.start(*(["--live-restore"] if lives_on else []))
    volume = place.volume("data")
    place.writer("app", volume)
    place.writer("other", place.volume("more")).stop(timeout=0)
    process = held_backup(place, volume, method)
    try:
        wait_for(lambda: place.status("app") in ("paused", "exited"), 30)
        mortal.kill()
        process.send_signal(signal.SIGTERM)  # the backup ends its pass, and finds no engine to let go on
        assert process.wait(30) != 0
        assert journals(place)
    finally:
        process.kill()
    mortal.start(*(["--live-restore"] if lives_on else []))
    wait_for(lambda: place.status("app") == "running", 20)
    assert place.status("other") == "exited"
    wait_for(lambda: not journals(place))
    before = (place.mountpoint(volume) / "log").stat().st_size
    wait_for(lambda: (place.mountpoint(volume) / "log").stat().st_size > before)


def test_killed_during_the_live_pass(mortal: Mortal, place: Project) -> None:
    """Nothing is held yet: the backup fails with a word about the engine, and the next one goes."""
    mortal.stop()
    mortal.start("--live-restore")
    volume = place.volume("data")
    place.writer("app", volume)
    config = configured(place, volume, "quiesce: pause")
    marker = place.folder / "first pass"
    script = (
        "import sys, time, pathlib, holdfast.services.freeze as f\n"
        "real = f._first_pass\n"
        "def slow(*a):\n"
        "    done = real(*a)\n"
        f"    pathlib.Path({str(marker)!r}).touch()\n"
        f"    while pathlib.Path({str(marker)!r}).exists(): time.sleep(0.05)\n"
        "    return done\n"
        "f._first_pass = slow\n"
        f"sys.argv = ['holdfast', 'backup', {place.name!r}, '--config', {config!r}]\n"
        "from holdfast.cli.main import main\nmain()\n"
    )
    python = os.path.join(os.path.dirname(HOLDFAST), "python")
    process = subprocess.Popen([python, "-c", script], env=place.env, stderr=subprocess.PIPE, text=True)
    wait_for(marker.exists, 30)
    mortal.kill()
    marker.unlink()
    _, said = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "the Docker Engine does not answer" in said
    mortal.start("--live-restore")
    assert place.status("app") == "running"
    time.sleep(1.5)  # a watchdog that still tries has its turn
    assert place.status("app") == "running"
    wait_for(lambda: not journals(place))
    place.run("backup", place.name, "--config", config)
