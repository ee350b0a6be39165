"""The host loses power during a drill: engine, containers and the drill itself are gone at once, and come back."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from deployments.local import engine as engines
from deployments.local import images
from deployments.local.kept import Kept
from deployments.local.machine import REPOSITORY_ROOT
from deployments.local.sweep import descendants, kill_all, processes_naming
from holdfast.engine.client import connect
from holdfast.engine.sandbox import LABEL
from holdfast.engine.volumes import create_volume, volume_names

pytestmark = pytest.mark.engine

HOLDFAST = os.path.join(os.path.dirname(sys.executable), "holdfast")


class Host:
    """An engine whose power can be cut and that boots again on the same disk."""

    def __init__(self) -> None:
        self.kept = Kept()
        self.url = f"unix://{self.kept.path('docker.sock')}"
        self._started: list[subprocess.Popen[bytes]] = []

    def boot(self) -> None:
        for command in engines._commands(self.kept):
            with open(self.kept.path(f"{command.name}.log"), "ab") as log:
                self._started.append(subprocess.Popen(command.argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL))
        deadline = time.monotonic() + 60
        while engines.why_no_answer(self.url):
            assert time.monotonic() < deadline
            time.sleep(0.2)

    def cut_the_power(self) -> None:
        def all_of_it() -> list[int]:
            roots = processes_naming(self.kept.folder)
            return [*roots, *descendants(roots)]

        kill_all(all_of_it)
        for process in self._started:
            process.wait(30)
        self._started.clear()


@pytest.fixture
def host() -> Iterator[Host]:
    reason = engines.private_engine_is_possible()
    if reason is not None:
        pytest.skip(reason)
    engines.ensure_docker_installed()
    made = Host()
    try:
        made.boot()
        yield made
    finally:
        made.cut_the_power()
        made.kept.stop()


def test_a_host_that_reboots_during_a_drill_is_cleaned_up_and_drills_again(host: Host, tmp_path: Path) -> None:
    image = images.blank_image(host.url)
    with connect(host.url) as opened:
        mountpoint = Path(create_volume(opened, "shop-data").mountpoint)
        (mountpoint / "name").write_text("production")
    (tmp_path / "password").write_text("correct horse")
    (tmp_path / "password").chmod(0o600)
    check = f"{{name: long, image: '{image}', mounts: ['shop-data:/d'], command: [sleep, '99'], timeout: 90s}}"
    config = tmp_path / "holdfast.yaml"
    config.write_text(
        f"version: 1\nrepository: {{url: {tmp_path}/repository, password_file: {tmp_path}/password}}\n"
        f"engine: {{url: {host.url}}}\n"
        f"stacks: {{shop: {{volumes: [shop-data], checks: {{commands: [{check}]}}}}}}\n"
    )
    env = {**os.environ, "HOLDFAST_CONFIG": str(config), "HOLDFAST_STATE": str(tmp_path / "state")}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [HOLDFAST, *arguments], env=env, cwd=REPOSITORY_ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("init")
    run("backup")
    drill = subprocess.Popen([HOLDFAST, "drill"], env=env, cwd=REPOSITORY_ROOT)
    client = docker.DockerClient(base_url=host.url)
    deadline = time.monotonic() + 60
    while not client.containers.list(filters={"label": LABEL}):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    drill.kill()
    host.cut_the_power()
    drill.wait()
    host.boot()
    # What the drill left is still there, stopped; the proof was never written.
    assert client.containers.list(all=True, filters={"label": LABEL})
    assert "removed" in run("reap")
    assert not client.containers.list(all=True, filters={"label": LABEL})
    with connect(host.url) as opened:
        assert volume_names(opened) == ["shop-data"]
    assert (mountpoint / "name").read_text() == "production"
    config.write_text(config.read_text().replace("'99'", "'0'"))
    assert "proven" in run("drill")
    assert len(run("proofs").strip().splitlines()) >= 1
    client.close()
