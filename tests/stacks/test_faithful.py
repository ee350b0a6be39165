"""Containers, networks and volumes come back on another host as they were: compared field by field with `inspect`."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.types import EndpointConfig, Healthcheck, IPAMConfig, IPAMPool, LogConfig, Mount, Ulimit

from tests.stacks.conftest import Project, wait_for

pytestmark = pytest.mark.engine

ANOTHER_EACH_TIME = {
    *("Id", "Created", "CreatedAt", "StartedAt", "FinishedAt", "Pid", "GraphDriver", "LogPath", "ResolvConfPath"),
    *("HostnamePath", "HostsPath", "SandboxID", "SandboxKey", "EndpointID", "NetworkID", "Log", "Mountpoint"),
    *("ExecIDs", "Health"),  # what a health check leaves behind from moment to moment
    "holdfast.created",
}
"""What an engine makes up for each thing that it makes."""


@pytest.fixture
def blank(project: Project, second_engine: str) -> Iterator[docker.DockerClient]:
    with contextlib.closing(docker.DockerClient(base_url=second_engine)) as client:
        try:
            yield client
        finally:
            Project(client, second_engine, project.blank, project.folder, project.name).destroy()


def make_networks(project: Project) -> tuple[str, str, str]:
    """A range that was chosen with its gateway, one that was chosen alone, and one that was given out."""
    names = tuple(f"{project.name}_{title}" for title in ("fixed", "chosen", "given"))
    pool = IPAMPool(subnet="10.77.5.0/24", gateway="10.77.5.1")
    project.client.networks.create(
        names[0],
        labels=project.labels(),
        internal=True,
        attachable=True,
        options={"com.docker.network.driver.mtu": "1400"},
        ipam=IPAMConfig(pool_configs=[pool]),
    )
    alone = IPAMConfig(pool_configs=[IPAMPool(subnet="10.77.6.0/24")])
    project.client.networks.create(names[1], labels=project.labels(), internal=True, ipam=alone)
    project.client.networks.create(names[2], labels=project.labels(), internal=True)
    return names[0], names[1], names[2]


def make_unusual(project: Project) -> None:
    """A container with what Compose files ask for; two that live in its network and processes; one on the host's."""
    fixed, chosen, given = make_networks(project)
    volume = project.volume("data", owner="me")
    bound = {volume: {"bind": "/cache", "mode": "ro"}}
    cache = project.container("cache", command=["sleep", "100000"], network_mode=fixed, volumes=bound)
    project.container("before", command=["sleep", "100000"], volumes_from=[f"{cache.id}:ro"])
    api = project.client.api
    host = api.create_host_config(
        binds={volume: {"bind": "/data", "mode": "rw"}},
        mounts=[Mount("/scratch", None, type="tmpfs", tmpfs_size=1 << 20, tmpfs_mode=0o700)],
        cap_add=["NET_ADMIN"],
        cap_drop=["MKNOD", "AUDIT_WRITE"],
        devices=["/dev/null:/dev/mynull:rw"],
        device_cgroup_rules=["c 1:3 mr"],
        ulimits=[Ulimit(name="nofile", soft=1000, hard=2000)],
        sysctls={"net.core.somaxconn": "777"},
        extra_hosts={"somehost": "10.1.2.3"},
        dns=["10.77.5.53"],
        dns_search=["example.org"],
        dns_opt=["ndots:3"],
        restart_policy={"Name": "on-failure", "MaximumRetryCount": 7},
        log_config=LogConfig(type="json-file", config={"max-size": "1m", "max-file": "3"}),
        tmpfs={"/run": "size=4m,mode=700"},
        read_only=True,
        init=True,
        mem_limit="64m",
        mem_reservation="32m",
        nano_cpus=500_000_000,
        pids_limit=99,
        oom_score_adj=100,
        security_opt=["no-new-privileges:true"],
        shm_size="16m",
        ipc_mode="shareable",
        group_add=["123"],
        port_bindings={"90/udp": ("127.0.0.1", 0)},
        network_mode=fixed,
    )
    first = EndpointConfig(str(api.api_version), aliases=["application"], ipv4_address="10.77.5.20", links={})
    made = api.create_container(
        project.blank,
        name=f"{project.name}-app-1",
        entrypoint=["/bin/env", "A=1"],
        command=["sh", "-c", "touch /data/started; sleep 100000"],
        labels=project.labels("app") | {"holdfast.enable": "true", "odd": 'y=z "q" $x'},
        environment=['TOKEN=x "quoted" =equals= ünïcode $HOME', "LINES=line1\nline2", "EMPTY="],
        working_dir="/tmp",
        user="0:0",
        hostname="apphost",
        domainname="example.org",
        mac_address="02:42:0a:4d:05:14",
        stop_signal="SIGINT",
        healthcheck=Healthcheck(test=["CMD", "test", "-e", "/data/started"], interval=500_000_000, retries=20),
        ports=[(1234, "tcp"), (90, "udp")],
        volumes=["/anonymous"],
        host_config={**host, "StopTimeout": 2},
        networking_config={"EndpointsConfig": {fixed: first}},
    )
    linked = [(f"{project.name}-cache-1", "redis"), (f"{project.name}-cache-1", "memory")]
    for network in (chosen, given):
        api.connect_container_to_network(made["Id"], network, aliases=["web"], links=linked)
    api.start(made["Id"])
    inside = f"container:{made['Id']}"
    project.container("agent", command=["sleep", "100000"], network_mode=inside, pid_mode=inside, ipc_mode=inside)
    project.container("on-host", command=["sleep", "100000"], network_mode="host", uts_mode="host")


def described(client: docker.DockerClient, project: Project) -> dict[str, Any]:
    """What `inspect` says of everything that is the project's, ids told by names, without what is never the same."""
    api = client.api
    containers = [api.inspect_container(c["Id"]) for c in api.containers(all=True) if project.name in c["Names"][0]]
    networks = [api.inspect_network(n["Id"]) for n in api.networks() if project.name in n["Name"]]
    volumes = [api.inspect_volume(v["Name"]) for v in api.volumes()["Volumes"] or () if project.name in v["Name"]]
    names = {found["Id"]: found["Name"] for found in (*containers, *networks)}
    for found in containers:
        for mount in found["Mounts"]:
            mount["Source"] = "" if mount["Type"] == "volume" else mount["Source"]
            mount["Name"] = "anonymous" if len(mount.get("Name", "")) == 64 else mount.get("Name")
        found["Mounts"].sort(key=lambda mount: str(mount["Destination"]))
        for name, endpoint in found["NetworkSettings"]["Networks"].items():
            own = {found["Id"][:12], found["Name"].lstrip("/")}
            endpoint["Aliases"] = sorted({*(endpoint["Aliases"] or ())} - own)
            endpoint["Links"] = sorted(endpoint["Links"] or ())
            if name.endswith("_given"):
                endpoint |= dict.fromkeys(("IPAddress", "Gateway", "MacAddress"), "given out")
        found["NetworkSettings"]["Ports"] = sorted(found["NetworkSettings"]["Ports"])
    for found in networks:
        found["Containers"] = sorted(each["Name"] for each in found["Containers"].values())
        if found["Name"].endswith("_given"):
            found["IPAM"]["Config"] = "given out"
    for found in volumes:
        found["Options"] = found["Options"] or {}
    whole = {found["Name"]: _same_each_time(found) for found in (*containers, *networks, *volumes)}
    text = json.dumps(whole, sort_keys=True)
    for identity, name in names.items():
        text = text.replace(identity, f"<{name}>").replace(identity[:12], f"<{name}>")
    return dict(json.loads(text))


def _same_each_time(found: Any) -> Any:
    if isinstance(found, dict):
        return {key: _same_each_time(value) for key, value in found.items() if key not in ANOTHER_EACH_TIME}
    return [_same_each_time(each) for each in found] if isinstance(found, list) else found


def test_everything_unusual_is_as_it_was(project: Project, blank: docker.DockerClient, second_engine: str) -> None:
    make_unusual(project)
    project.run("backup", project.name)
    before = described(project.client, project)
    project.destroy()
    said = project.run("restore", project.name, DOCKER_HOST=second_engine)
    assert f"started {project.name}-agent-1" in said
    after = described(blank, project)
    assert sorted(before) == sorted(after)
    for name, was in before.items():
        assert {k: (v, after[name].get(k)) for k, v in was.items() if after[name].get(k) != v} == {}, name
    assert blank.containers.get(f"{project.name}-app-1").exec_run("cat /proc/sys/net/core/somaxconn").output == b"777\n"


@contextlib.contextmanager
def loop_device(image: Path) -> Iterator[str]:
    """A disk of a few megabytes with a filesystem; skips where there are no loop devices."""
    image.touch()
    os.truncate(image, 8 << 20)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    done = subprocess.run(["losetup", "-f", "--show", str(image)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no loop device here: {done.stderr.strip()}")
    try:
        yield done.stdout.strip()
    finally:
        subprocess.run(["losetup", "-d", done.stdout.strip()], check=True)


def test_volumes_that_stand_for_something_else(
    project: Project, blank: docker.DockerClient, second_engine: str
) -> None:
    """A directory of the host (`o=bind`), a disk that the engine mounts, and memory: each in its own way."""
    there = Project(blank, second_engine, project.blank, project.folder, project.name)
    bound = project.folder / "bound"
    bound.mkdir(mode=0o750)
    (bound / "file").write_text("bound ")
    with loop_device(project.folder / "disk.img") as device:
        options = {
            "bound": {"type": "none", "o": "bind", "device": str(bound)},
            "disk": {"type": "ext4", "device": device},
            "memory": {"type": "tmpfs", "device": "tmpfs"},
        }
        mounts = {}
        for title, opts in options.items():
            labels = project.labels(**{"holdfast.enable": "true"} if title == "disk" else {})
            name = project.client.volumes.create(f"{project.name}_{title}", driver_opts=opts, labels=labels).name
            mounts[name] = {"bind": f"/{title}"}
        app = project.container("app", command=["sh", "-c", "echo x >> /disk/f; sleep 9999"], volumes=mounts)
        wait_for(lambda: app.exec_run("cat /disk/f").output == b"x\n")
        assert f"{project.name}_memory" not in project.run("backup", project.name)
        project.destroy()
        shutil.rmtree(bound)
        # The disk outlived the host: what it holds is left as it is.
        assert "its storage holds data already" in project.run("restore", project.name, DOCKER_HOST=second_engine)
        assert (bound.stat().st_mode & 0o777, (bound / "file").read_text()) == (0o750, "bound ")
        app = blank.containers.get(f"{project.name}-app-1")
        wait_for(lambda: app.exec_run("cat /bound/file /disk/f").output == b"bound x\nx\n")
        again = project.run("restore", project.name, "--replace", code=41, DOCKER_HOST=second_engine)
        assert f"volume:{project.name}_disk holds data, which lies elsewhere" in again
        # A new disk is filled.
        there.destroy()
        subprocess.run(["mkfs.ext4", "-q", "-F", device], check=True)
        project.run("restore", project.name, "--replace", DOCKER_HOST=second_engine)
        app = blank.containers.get(f"{project.name}-app-1")
        wait_for(lambda: app.exec_run("cat /bound/file /disk/f").output == b"bound x\nx\n")
        assert list(project.folder.glob("bound*")) == [bound]
        there.destroy()


def test_a_directory_that_nobody_backed_up_is_told(
    project: Project, blank: docker.DockerClient, second_engine: str
) -> None:
    volume, outside = project.volume("data", **{"holdfast.enable": "true"}), project.folder / "outside" / "data"
    outside.mkdir(parents=True)
    project.container(
        "app",
        command=["sleep", "9999"],
        volumes={volume: {"bind": "/data"}},
        mounts=[Mount("/outside", str(outside), type="bind")],  # the engine refuses one that is not there
    )
    (project.mountpoint(volume) / "file").touch()
    project.run("backup", project.name)
    project.destroy()
    shutil.rmtree(outside.parent)
    assert "it was not backed up" in project.run("restore", project.name, "--dry-run", DOCKER_HOST=second_engine)
    assert not outside.parent.exists()
    said = project.run("restore", project.name, DOCKER_HOST=second_engine)
    assert f"note: {outside}: an empty directory: containers mount it, and it was not backed up" in said
    assert blank.containers.get(f"{project.name}-app-1").status == "running"
