"""The private engine: it starts, it shares nothing with another engine, and nothing of it stays, whoever is killed."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import docker
import pytest

from deployments.local import sweep
from deployments.local.engine import TRUST_KEY, PrivateEngine, find_engine, private_engine_is_possible, why_no_answer
from deployments.local.kept import sweep_leftovers
from deployments.local.machine import REPOSITORY_ROOT, CannotProvide, find_tool

IMPOSSIBLE = private_engine_is_possible()
pytestmark = [pytest.mark.engine, pytest.mark.skipif(IMPOSSIBLE is not None, reason=str(IMPOSSIBLE))]

# An owner that fills an engine with everything that leaves traces, says where it is, and waits for its end.
OWNER = """
import signal, time
import docker
from deployments.local.engine import PrivateEngine
from deployments.local.images import blank_image
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may have had it ignored
engine = PrivateEngine().start()
client = docker.DockerClient(base_url=engine.url)
image = blank_image(engine.url)
client.networks.create("inner")
run = client.containers.run
run(image, detach=True, restart_policy={"Name": "always"}, network="inner", ports={"80/tcp": ("127.0.0.1", None)})
run(image, detach=True, volumes={"data": {"bind": "/data"}}).pause()
print(engine.folder, flush=True)
time.sleep(600)
"""


def traces(folder: str) -> list[str]:
    """All that an engine may leave on a machine."""
    name = os.path.basename(folder)
    hierarchies = [sweep.CGROUPS, *(entry.path for entry in os.scandir(sweep.CGROUPS) if entry.is_dir())]
    return [
        *(f"process {pid}" for pid in sweep.processes_naming(folder)),
        *(f"mount {point}" for point in sweep.mounts_below(folder)),
        *(path for path in (os.path.join(place, name) for place in hierarchies) if os.path.exists(path)),
        *(path for path in (folder,) if os.path.exists(path)),
    ]


def traces_after(folder: str, seconds: float) -> list[str]:
    deadline = time.monotonic() + seconds
    while (left := traces(folder)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def keeper_of(folder: str) -> int:
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/cmdline", "rb") as file:
            if file.read().endswith(f"deployments.local.keeper\0{folder}/order.json\0".encode()):
                return int(name)
    raise AssertionError(f"no keeper of {folder}")


@contextlib.contextmanager
def owner_of_an_engine() -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """A process that owns a filled engine; the engine's folder and network bridges."""
    command = [sys.executable, "-c", OWNER]
    process = subprocess.Popen(
        command, cwd=REPOSITORY_ROOT, env={**os.environ, "PYTHONPATH": "."}, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        folder = process.stdout.readline().strip()
        assert len(traces(folder)) > 6, "the owner did not start, or the test looks in the wrong places"
        bridges = sweep.bridges_of(folder)
        assert len(bridges) == 1
        yield process, folder, bridges
    finally:
        process.kill()
        process.communicate()


def rules_and_routing() -> tuple[list[str], str, bool]:
    """What another engine on this machine relies on: packet filter rules, IP forwarding, its key."""
    rules = []
    for tool in filter(None, (find_tool("iptables-save"), find_tool("ip6tables-save"))):
        saved = subprocess.run([tool], capture_output=True, text=True, check=True).stdout
        rules += [re.sub(r"\[\d+:\d+\]", "", line) for line in saved.splitlines() if not line.startswith("#")]
    with open("/proc/sys/net/ipv4/ip_forward", encoding="ascii") as file:
        return rules, file.read(), os.path.lexists(TRUST_KEY)


def test_engine_shares_nothing_with_another(engine_client: docker.DockerClient) -> None:
    before = rules_and_routing()
    had_bridge = "docker0" in {name for _, name in socket.if_nameindex()}
    with PrivateEngine() as other, contextlib.closing(docker.DockerClient(base_url=other.url)) as client:
        client.volumes.create("only-here")
        client.networks.create("only-here")
        assert "only-here" not in [volume.name for volume in engine_client.volumes.list()]
        assert "only-here" not in [network.name for network in engine_client.networks.list()]
        assert client.info()["DockerRootDir"] == f"{other.folder}/data"
        assert rules_and_routing() == before
        assert ("docker0" in {name for _, name in socket.if_nameindex()}) == had_bridge
        folder = other.folder
    assert traces(folder) == []
    assert rules_and_routing() == before


def test_containers_reach_each_other_and_answer_this_machine(
    engine_client: docker.DockerClient, blank_image: str
) -> None:
    serve = ["sh", "-c", "echo hello >/tmp/index.html && exec httpd -f -p 80 -h /tmp"]
    network = engine_client.networks.create("reach", internal=True)
    plain = engine_client.networks.create("reach-plain")
    run = engine_client.containers.run
    ports: dict[str, int | None] = {"80/tcp": None}
    containers = [
        run(blank_image, serve, name="reach-web", detach=True, network="reach"),
        run(blank_image, serve, name="reach-port", detach=True, network="reach-plain", ports=ports),
        run(blank_image, name="reach-client", detach=True, network="reach"),
    ]
    try:
        asked = ["sh", "-c", "for i in 1 2 3 4 5; do wget -qO- http://reach-web/ && exit; sleep 0.2; done; exit 1"]
        assert containers[2].exec_run(asked).output == b"hello\n"
        containers[1].reload()
        published = (containers[1].ports["80/tcp"] or [])[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{published['HostPort']}/", timeout=5) as answer:
            assert answer.read() == b"hello\n"
    finally:
        for container in containers:
            container.remove(force=True)
        network.remove()
        plain.remove()


def test_nothing_stays_after_the_owner_was_killed() -> None:
    with owner_of_an_engine() as (process, folder, bridges):
        process.kill()
        assert traces_after(folder, 20) == []
        assert [name for name in bridges if os.path.exists(f"/sys/class/net/{name}")] == []


def test_an_interrupted_owner_cleans_up_before_it_ends() -> None:
    with owner_of_an_engine() as (process, folder, bridges):
        process.send_signal(signal.SIGINT)
        process.wait(20)
        assert traces(folder) == []
        assert [name for name in bridges if os.path.exists(f"/sys/class/net/{name}")] == []


def test_what_a_killed_keeper_left_is_swept_before_the_next_start() -> None:
    with owner_of_an_engine() as (process, folder, bridges):
        os.kill(keeper_of(folder), signal.SIGKILL)
        process.kill()
        process.wait()
        assert os.path.exists(folder)
        # Another process of the tests may have begun to sweep it already.
        for _ in range(300):
            sweep_leftovers()
            if not traces(folder):
                break
            time.sleep(0.1)
        assert traces(folder) == []
        assert [name for name in bridges if os.path.exists(f"/sys/class/net/{name}")] == []


def test_an_engine_that_dies_is_reported_with_its_last_words() -> None:
    engine = PrivateEngine().start()
    folder = engine.folder
    with open(f"{folder}/dockerd.pid", encoding="ascii") as file:
        dockerd = int(file.read())
    os.kill(dockerd, signal.SIGKILL)
    while sweep.is_alive(dockerd):
        time.sleep(0.01)
    with pytest.raises(CannotProvide, match=r"dockerd ended by itself.*exit status -9"):
        engine.stop()
    assert traces(folder) == []
    engine.stop()  # the second time is nothing


def test_a_mounted_folder_is_never_deleted(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A volume may be a bind mount of somebody's data: if it cannot be unmounted, the data must stay."""
    folder = f"{tmp_path}/holdfast-kept-test"
    os.makedirs(f"{folder}/data")
    with open(f"{folder}/data/precious", "w", encoding="ascii") as file:
        file.write("precious")
    monkeypatch.setattr(sweep, "mounts_below", lambda _folder: [f"{folder}/data"])
    assert sweep.sweep(folder) == [f"{folder}/data is still mounted"]
    assert os.path.exists(f"{folder}/data/precious")


def test_find_engine_names_the_engine_or_the_reason(engine_socket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", engine_socket)
    assert find_engine().url == engine_socket
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    search = find_engine()
    assert search.url is None
    assert search.reasons == ("unix:///nonexistent/docker.sock: no such socket",)
    assert why_no_answer("nonsense://") is not None
