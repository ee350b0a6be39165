"""What of a recorded container a drill starts: settings that make it work, and nothing that lets it out."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.engine.sandbox import _LIMITS, _SETTINGS
from holdfast.errors import DrillFailed
from holdfast.model.definition import ContainerDefinition, FileDefinition, ImageDefinition, StackDefinition
from holdfast.policy.started import Started, names_of, plan_start

CONFIG: dict[str, Any] = {
    "Env": ["TOKEN=most secret"],
    "Cmd": ["serve"],
    "Entrypoint": ["/entry"],
    "User": "33",
    "WorkingDir": "/srv",
    "Labels": {"com.docker.compose.project": "shop"},
    "ExposedPorts": {"80/tcp": {}},
}
DANGEROUS: dict[str, Any] = {
    "Privileged": True,
    "CapAdd": ["SYS_ADMIN"],
    "Devices": [{"PathOnHost": "/dev/sda"}],
    "DeviceRequests": [{"Driver": "nvidia"}],
    "PortBindings": {"80/tcp": [{"HostPort": "80"}]},
    "PublishAllPorts": True,
    "NetworkMode": "host",
    "PidMode": "host",
    "IpcMode": "host",
    "UTSMode": "host",
    "UsernsMode": "host",
    "CgroupnsMode": "host",
    "VolumesFrom": ["other"],
    "Links": ["db:db"],
    "ExtraHosts": ["production:10.0.0.1"],
    "Dns": ["10.0.0.1"],
    "Sysctls": {"net.ipv4.ip_forward": "1"},
    "SecurityOpt": ["apparmor=unconfined", "seccomp=unconfined", "no-new-privileges:true"],
    "RestartPolicy": {"Name": "always"},
    "Runtime": "other",
    "OomScoreAdj": -1000,
    "GroupAdd": ["docker"],
    "CgroupParent": "/",
}
LIMITS: dict[str, Any] = {"Memory": 1 << 28, "ReadonlyRootfs": True, "Tmpfs": {"/run": "size=1m"}, "CapDrop": ["ALL"]}


def planned(held: tuple[str, ...] = (), without: tuple[str, ...] = (), **host: Any) -> Started:
    container = ContainerDefinition(
        name="shop-web-1",
        id="1",
        image="web:1",
        running=True,
        service="web",
        config=CONFIG,
        host_config=host,
        endpoints={"net": {"Aliases": ["web", "www"]}},
    )
    definition = StackDefinition(
        stack="shop",
        images=(ImageDefinition(reference="web:1", id="sha256:1"),),
        containers=(container,),
        files=(FileDefinition(path="/srv/app.conf", stored="000-app.conf"),),
    )
    assert names_of(container) == ["web", "shop-web-1", "www"]
    return plan_start(definition, "web", held, without)


def test_what_makes_it_work_is_taken_over_and_nothing_else() -> None:
    plan = planned(**DANGEROUS, **LIMITS)
    assert plan.images == ("sha256:1", "web:1")  # what ran, before what has its name today
    assert plan.settings == {
        "environment": ["TOKEN=most secret"],
        "command": ["serve"],
        "entrypoint": ["/entry"],
        "user": "33",
        "working_dir": "/srv",
    }
    assert plan.limits == {
        "tmpfs": {"/run": "size=1m"},
        "security_opt": ["no-new-privileges:true"],
        "cap_drop": ["ALL"],
        "mem_limit": 1 << 28,
        "read_only": True,
    }
    assert plan.settings.keys() <= _SETTINGS
    assert plan.limits.keys() <= _LIMITS
    assert "secret" not in repr(plan)


def test_mounts_are_of_what_the_restore_point_holds() -> None:
    binds = ["data:/data", "/srv/up/a:/up:ro", "/srv/app.conf:/app.conf:ro"]
    plan = planned(("volume:data", "path:/srv/up"), Binds=binds)
    assert [(m.target, m.label, m.below, m.file is not None) for m in plan.mounts] == [
        ("/data", "volume:data", "", False),
        ("/up", "path:/srv/up", "a", False),
        ("/app.conf", "", "", True),
    ]


@pytest.mark.parametrize(
    "bind",
    [
        "/var/run/docker.sock:/var/run/docker.sock",
        "/:/host:ro",
        "/srv:/srv",
        "/srv/upper:/up",
        "other:/other",
        "/etc/localtime:/etc/localtime:ro",
    ],
)
def test_a_mount_that_is_not_held_is_a_problem_unless_it_is_left_away(bind: str) -> None:
    held = ("volume:data", "path:/srv/up")
    with pytest.raises(DrillFailed, match="does not hold"):
        planned(held, Binds=[bind])
    assert planned(held, (bind.split(":")[1],), Binds=[bind]).mounts == ()


def test_a_service_that_is_not_there_is_told_of() -> None:
    with pytest.raises(DrillFailed, match="no such service"):
        plan_start(StackDefinition(stack="shop"), "web", ())
