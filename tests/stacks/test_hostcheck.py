"""What doctor finds on a Docker host: each finding provoked."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from holdfast.config.loading import from_yaml, load
from holdfast.config.models import Config
from holdfast.engine.journal import Held, Journal, Line
from holdfast.services import doctor_speed, hostcheck
from holdfast.services.discovery import served_stacks
from holdfast.services.finding import Finding
from holdfast.services.observe_host import observe_engine
from tests.stacks.conftest import Project
from tests.support.filesystems import mounted

pytestmark = pytest.mark.engine


@pytest.fixture
def host(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("HOLDFAST_STATE", str(project.folder / "state"))
    return project


def config(project: Project, stacks: str = "") -> Config:
    path = project.folder / "holdfast.yaml"
    path.write_text(
        f"version: 1\nrepository: {{url: {project.folder}/repository, password_file: {project.folder}/password}}\n"
        f"engine: {{url: '{project.url}'}}\n{stacks}"
    )
    return load(str(path))


def examined(config: Config) -> dict[str, Finding]:
    return {finding.check: finding for finding in hostcheck.examine_host(config)}


def test_what_nobody_protects_and_what_is_misspelled(host: Project) -> None:
    volume = host.volume("data", **{"holdfast.enabel": "true"})
    found = examined(config(host))
    assert found["protection"].verdict == "warn"
    assert f"volume:{volume}" in found["protection"].found
    assert "holdfast.enable" in found[f"labels of {host.name}"].found
    alone = host.client.volumes.create(f"{host.name}-alone")
    found = examined(config(host))
    assert found["protection"].verdict == "warn"
    assert f"volume:{alone.name}" in found["protection"].found
    assert "held" not in found  # nothing in Docker is backed up unasked: nothing will be held


def test_plan_says_what_no_schedule_backs_up_and_every_misspelled_label(project: Project) -> None:
    project.volume("data", **{"holdfast.enable": "true"})
    labels = {"holdfast.enabel": "true"}
    made = project.client.containers.create(
        project.blank, name=f"{project.name}-loose", labels=labels, tmpfs={"/run": "size=1m"}, network_mode="none"
    )
    project.container("app", command=["sleep", "100000"], tmpfs={"/run": "size=1m"})
    said = project.run("plan")
    assert f"warning: container {made.name}: there is no label holdfast.enabel (did you mean holdfast.enable?)" in said
    assert f"NO SCHEDULE: {project.name}\n" in said
    assert project.name in examined(config(project))["schedule"].found
    assert f"tmpfs:/run of {project.name}-app-1" in said


def test_labels_are_enough_to_be_examined(host: Project) -> None:
    volume = host.volume("data", **{"holdfast.enable": "true", "holdfast.quiesce": "pause"})
    found = examined(config(host))
    assert {"held", "disk", "spool", "filesystem", "speed of a volume", "speed of a bind mount"} <= set(found)
    assert "/holdfast-sandbox-" in found["speed of a volume"].found
    assert not [left for left in host.client.volumes.list() if left.name.startswith("holdfast-sandbox-")]
    assert found["held"].verdict == "ok"
    assert f"volume:{volume}" in found["filesystem"].found


def test_what_a_killed_run_left_held(host: Project) -> None:
    host.volume("data", **{"holdfast.enable": "true"})
    journal = Journal(str(host.folder / "state"), engine=host.url, stack="shop", written=1.0)
    journal.add(Line(held=Held(container="c0ffee", name="shop-app-1", method="pause")))
    assert examined(config(host))["held"].verdict == "ok"  # its writer lives
    journal.close(remove=False)
    found = examined(config(host))["held"]
    assert (found.verdict, found.hint) == ("fail", "holdfast thaw")
    assert "shop-app-1" in found.found


def test_a_slow_disk_and_little_room(host: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    host.volume("data", **{"holdfast.enable": "true"})
    assert {examined(config(host))[check].verdict for check in ("disk", "spool")} == {"ok"}
    monkeypatch.setattr(hostcheck, "_SYNC_SECONDS", 0.0)
    monkeypatch.setattr(hostcheck, "_SPOOL_BYTES", 1 << 60)
    monkeypatch.setattr(doctor_speed, "_SLOW", 1 << 50)
    found = examined(config(host))
    assert (found["disk"].verdict, found["spool"].verdict) == ("warn", "warn")
    assert tempfile.gettempdir() in found["spool"].found
    assert {found[f"speed of a {place}"].verdict for place in ("volume", "bind mount")} == {"warn"}


def test_a_place_that_is_full_is_told_with_what_to_look_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with mounted(tmp_path, "ext4", ("-q",), mib=24) as top:
        monkeypatch.setenv("HOLDFAST_STATE", str(top))
        head = "version: 1\nrepository: {url: /r, password_file: /p}\nengine: {url: 'unix:///nowhere.sock'}\n"
        found = {each.check: each for each in doctor_speed.examine_speed(from_yaml(head))}
        assert found["speed of a bind mount"].verdict == "fail"
        assert "No space left on device" in found["speed of a bind mount"].found
        assert found["speed of a bind mount"].hint == f"df -h {top}; df -i {top}; ls -ld {top}"


def test_without_an_engine_the_rest_is_examined(host: Project, tmp_path: Path) -> None:
    os.makedirs(tmp_path / "www")
    text = f"stacks:\n  shop: {{volumes: [data]}}\n  www: {{paths: [{tmp_path}/www]}}\n"
    path = host.folder / "holdfast.yaml"
    config(host, text)
    path.write_text(path.read_text().replace(host.url, "unix:///nowhere.sock"))
    found = examined(load(str(path)))
    assert set(found) - {"speed of a tmpfs"} == {"held", "disk", "spool", "speed of a bind mount"}


def test_the_monitor_finds_what_nobody_protects(host: Project) -> None:
    for title, labels in (("mine", {"holdfast.enable": "true"}), ("cache", {"holdfast.enable": "false"})):
        volume = host.volume(title, **labels)
        host.container(title, command=["sleep", "1000"], volumes={volume: {"bind": "/data"}})
    other = host.client.volumes.create(f"{host.name}-other").name
    host.client.containers.run(
        host.blank, ["sleep", "1000"], name=f"{host.name}-other", detach=True, network_mode="none",
        stop_signal="SIGKILL", volumes={other: {"bind": "/data"}},
    )  # fmt: skip
    memory = host.client.volumes.create(f"{host.name}-memory", driver_opts={"type": "tmpfs", "device": "tmpfs"}).name
    host.container("memory", command=["sleep", "1000"], volumes={memory: {"bind": "/data"}})
    findings = observe_engine(served_stacks(config(host)).config).findings
    lost = {found.subject for found in findings if found.kind == "volume-unprotected" and host.name in found.subject}
    assert lost == {other}
