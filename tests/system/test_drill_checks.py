"""Drills on a real engine: the user's checks, sandboxes that nothing else is taken for, what a kill leaves, a bound."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import docker
import pytest
import yaml

from deployments.local.machine import REPOSITORY_ROOT
from holdfast.config.loading import dump, from_yaml
from holdfast.config.models import Config
from holdfast.engine.sandbox import CREATED, LABEL, OWNER, Sandbox, reap
from holdfast.engine.volumes import create_volume, find_volume
from holdfast.errors import DrillFailed, EngineRefused, HoldfastError
from holdfast.repository.repository import Repository
from holdfast.services.access import init_repository_at
from holdfast.services.drill import drill
from holdfast.services.stacks import access_of
from tests.support.shop import Stack, made_stack, now, sandboxes_left

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def stack(engine_socket: str, postgres_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One for all: each test backs up what it finds."""
    with (
        closing(docker.DockerClient(base_url=engine_socket)) as client,
        made_stack(engine_socket, client, postgres_image, tmp_path_factory.mktemp("stack")) as made,
    ):
        yield made


@pytest.fixture(scope="module")
def repository(stack: Stack) -> Iterator[Repository]:
    with init_repository_at(access_of(stack.config)) as made:
        yield made


def changed(config: Config, **keys: Any) -> Config:
    """The configuration with other keys in its stack."""
    values = yaml.safe_load(dump(config))
    values["stacks"]["shop"].update(keys)
    return from_yaml(yaml.safe_dump(values))


def questions(image: str, volume: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is asked of a restored stack: what is so, and what is not."""

    def sql(name: str, query: str, expect: str) -> dict[str, Any]:
        return {"name": name, "postgres": "db", "query": query, "expect": expect}

    def command(name: str, script: str, **more: Any) -> dict[str, Any]:
        return {
            "name": name,
            "image": image,
            "mounts": [f"{volume}:/data"],
            "command": ["sh", "-c", script],
            "timeout": "20s",
            **more,
        }

    asked = {
        **command("shop-answers", ""),
        "command": ["busybox", "httpd", "-f", "-p", "8080", "-h", "/data"],
        "port": 8080,
        "path": "/index.html",
        "contains": "the shop is open",
    }
    good = {
        "sql": [sql("items", "SELECT count(*) FROM items", "5000")],
        "commands": [
            command("big-is-there", "test -s /data/big && echo whole", output="whole"),
            command("code", "exit 7", exit_code=7),
        ],
        "http": [asked],
    }
    bad = {
        "sql": [sql("items", "SELECT count(*) FROM items", "4999"), sql("broken", "SELECT nothing FROM nowhere", "1")],
        "commands": [
            command("missing", "test -e /data/not-there"),
            command("hangs", "sleep 600", timeout="1s"),
            command("says-nothing", "true", output="hello"),
            {**command("no-image", "true"), "image": "holdfast-no-such-image"},
            {**command("no-volume", "true"), "mounts": ["other-volume:/data"]},
            command("no-network", "ping -c 1 -W 1 10.255.255.1 || exit 3", exit_code=3),
        ],
        "http": [{**asked, "contains": "closed", "timeout": "2s"}],
    }
    return good, bad


def test_the_users_checks_are_asked_of_what_was_restored(
    stack: Stack,
    repository: Repository,
    blank_image: str,
) -> None:
    (stack.mountpoint / "index.html").write_text("the shop is open")
    stack.back_up(repository)
    # What production holds now must not matter to a drill.
    stack.psql("DELETE FROM items WHERE t > 4000")
    (stack.mountpoint / "big").unlink()

    good, bad = questions(blank_image, stack.volume)
    proof = drill(changed(stack.config, checks=good), repository, "shop", now=now)
    assert proof.passed, proof.problems
    assert {check.name for check in proof.checks} == {"big-is-there", "code", "shop-answers"}
    assert sandboxes_left(stack.client) == []

    proof = drill(changed(stack.config, checks=bad), repository, "shop", now=now)
    assert not proof.passed
    problems = {line.split(":")[0].removeprefix("check "): line for line in proof.problems}
    sql_ones, applications = {"items", "broken"}, {"missing", "hangs", "says-nothing", "no-image", "no-volume"}
    assert set(problems) == {*sql_ones, *applications, "shop-answers"}
    assert "wanted 4999, found 5000" in problems["items"]
    assert "did not end within 1s" in problems["hangs"]
    assert "wanted status 200 with 'closed'" in problems["shop-answers"]
    assert sandboxes_left(stack.client) == []
    # The steps of the RTO are those of its sum.
    database = next(source for source in proof.sources if source.source == "postgres:db")
    assert [step.name for step in database.steps] == ["start a server", "load"]
    assert database.restore_seconds == pytest.approx(sum(step.seconds for step in database.steps))


def test_a_destroy_refuses_everything_that_is_not_its_own_sandboxs(stack: Stack, blank_image: str) -> None:
    mark = secrets.token_hex(4)
    names = {
        "no label": create_volume(stack.engine, f"plain-{mark}").name,
        "another run": create_volume(stack.engine, f"other-{mark}", {LABEL: "another", OWNER: "elsewhere/1/1"}).name,
    }
    # Even a sandbox whose run is the name of something real finds only what carries its label.
    for run in (stack.volume, f"plain-{mark}", ""):
        sandbox = Sandbox(stack.engine, run or None)
        sandbox.destroy()
    # And the removal itself, handed a stranger by whatever filter, refuses it.
    from holdfast.engine import sandbox as module

    for name in (*names.values(), stack.volume):
        with pytest.raises(EngineRefused, match="no part of the sandbox"):
            module._remove(stack.engine, {"name": name}, {LABEL: "mine", OWNER: ""})
    for name in (*names.values(), stack.volume):
        assert find_volume(stack.engine, name).name == name
    # Reaping touches neither a plain volume nor a sandbox of another host that may be in use.
    assert reap(stack.engine) == []
    assert find_volume(stack.engine, names["another run"])
    old = create_volume(
        stack.engine,
        f"old-{mark}",
        {LABEL: f"old-{mark}", OWNER: "elsewhere/1/1", CREATED: str(int(time.time()) - 7200)},
    )
    assert reap(stack.engine, older_than=10_000) == []
    assert reap(stack.engine, older_than=3600) == [f"old-{mark}"]
    with pytest.raises(HoldfastError):
        find_volume(stack.engine, old.name)
    stack.client.volumes.get(names["another run"]).remove()


def test_what_a_killed_drill_left_is_reaped(
    stack: Stack,
    repository: Repository,
    blank_image: str,
    tmp_path: Any,
) -> None:
    stack.back_up(repository)
    config = changed(
        stack.config,
        checks={
            "commands": [
                {
                    "name": "long",
                    "image": blank_image,
                    "mounts": [f"{stack.volume}:/d"],
                    "command": ["sleep", "99"],
                }
            ]
        },
    )
    (tmp_path / "drill.yaml").write_text(dump(config))
    holdfast = os.path.join(os.path.dirname(sys.executable), "holdfast")
    process = subprocess.Popen([holdfast, "drill", "--config", str(tmp_path / "drill.yaml")], cwd=REPOSITORY_ROOT)
    deadline = time.monotonic() + 60
    filters: dict[str, Any] = {"label": LABEL, "name": "check"}
    while not stack.client.containers.list(filters=filters):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(sandboxes_left(stack.client)) >= 3
    done = subprocess.run(
        [holdfast, "reap", "--config", str(tmp_path / "drill.yaml")], capture_output=True, text=True, check=True
    )
    assert "removed" in done.stdout
    assert sandboxes_left(stack.client) == []
    assert stack.mountpoint.is_dir()
    assert stack.psql("SELECT count(*) FROM items") == "4000"  # production is as it was


def test_a_drill_that_hangs_is_ended_and_leaves_nothing(
    stack: Stack,
    repository: Repository,
) -> None:
    stack.back_up(repository)
    stack.psql("CREATE TABLE slow (t int)")
    hang = {"sql": [{"name": "hang", "postgres": "db", "query": "SELECT pg_sleep(300)::text", "expect": "x"}]}
    config = changed(stack.config, checks=hang, drill={"cron": "0 0 1 1 *", "timeout": "8s"})
    started = time.monotonic()
    proof = drill(config, repository, "shop", now=now)
    assert time.monotonic() - started < 90
    assert proof.error is not None
    assert "took too long" in proof.error
    assert sandboxes_left(stack.client) == []
    assert DrillFailed.exit_code == 51


def test_images_are_never_pulled(stack: Stack) -> None:
    with pytest.raises(HoldfastError), Sandbox(stack.engine) as sandbox:
        sandbox.container("x", "holdfast-no-such-image")
    with pytest.raises(docker.errors.ImageNotFound):
        stack.client.images.get("holdfast-no-such-image")
