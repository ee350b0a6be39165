"""Backing up a stack while it writes: held for a moment, let go whatever happens, and of one instant."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from holdfast.sources.frozen import Delta, FrozenTree, Spool
from tests.stacks.conftest import HOLDFAST, Project, wait_for

pytestmark = pytest.mark.engine


def restored(project: Project, volume: str, to: Path) -> Path:
    project.run("restore", "latest", "--source", f"volume:{volume}", "--to", str(to))
    return to


def consistent(folder: Path) -> int:
    """The last number that was written; every file has the last of its numbers, or one step is missing at the end."""
    numbers = [int(line) for line in (folder / "log").read_text().split()]
    last = numbers[-1]
    assert numbers == list(range(1, last + 1))
    # The writer may stand between its two writes: then one file is a step ahead of the log.
    ahead = (
        {int((folder / f"f{(last + 1) % 100}").read_text() or 0)}
        if (folder / f"f{(last + 1) % 100}").exists()
        else set()
    )
    for number in range(max(1, last - 98), last + 1):
        found = (folder / f"f{number % 100}").read_text().strip()
        assert found == str(number), (found, number, ahead)
    return last


def test_paused_for_a_moment_and_of_one_instant(project: Project) -> None:
    volume = project.volume("data", **{"holdfast.quiesce": "pause"})
    for number in range(300):
        (project.mountpoint(volume) / f"still{number}").write_bytes(os.urandom(20000))
    project.writer("app", volume, every=0.002)
    time.sleep(0.5)
    said = json.loads(project.run("backup", project.name, "--json"))
    report = next(s for s in said[0]["sources"] if s["source"] == f"volume:{volume}")
    assert 0 < report["held"][f"{project.name}-app-1"] < 2
    assert 0 < report["reread"] <= 110
    assert project.status("app") == "running"
    folder = restored(project, volume, project.folder / "out")
    assert consistent(folder) > 50
    assert len(list(folder.glob("still*"))) == 300
    assert not list((project.folder / "state").glob("*.hold"))
    # The second run compares with what was stored, and finds the still files unmodified.
    again = json.loads(project.run("backup", project.name, "--json"))
    second = next(s for s in again[0]["sources"] if s["source"] == f"volume:{volume}")
    assert second["files_unmodified"] >= 300
    assert second["files_new"] + second["files_changed"] <= 102


def test_what_was_not_running_is_left_alone(project: Project) -> None:
    volume = project.volume("data")
    project.writer("app", volume)
    project.writer("paused", volume).pause()
    project.writer("stopped", volume).stop(timeout=0)
    config = configured(project, volume, "quiesce: pause")
    project.run("backup", project.name, "--config", config)
    assert [project.status(name) for name in ("app", "paused", "stopped")] == ["running", "paused", "exited"]
    configured(project, volume, "quiesce: stop")
    project.run("backup", project.name, "--config", config)
    assert [project.status(name) for name in ("app", "paused", "stopped")] == ["running", "paused", "exited"]


def configured(project: Project, volume: str, *lines: str) -> str:
    path = project.folder / "holdfast.yaml"
    text = "\n    ".join(lines)
    path.write_text(
        f"""version: 1
repository: {{url: {project.folder}/repository, password_file: {project.folder}/password}}
stacks:
  {project.name}:
    volumes: [{volume}]
    {text}
"""
    )
    return str(path)


@pytest.mark.parametrize("method", ["pause", "stop"])
def test_kill_9_while_held_and_the_watchdog_lets_go(project: Project, method: str) -> None:
    volume = project.volume("data")
    project.writer("app", volume)
    project.writer("other", volume).pause()
    process = held_backup(project, volume, method)
    wait_for(lambda: project.status("app") in ("paused", "exited"), 30)
    for child in children_of(process):
        os.kill(child, signal.SIGTERM)  # must not matter to the watchdog
    process.kill()
    process.wait()
    assert wait_for(lambda: project.status("app") == "running", 10) < 3
    assert project.status("other") == "paused"
    wait_for(lambda: not list((project.folder / "state").glob("*.hold")))
    assert project.run("thaw").strip() == "nothing is held"


def children_of(process: subprocess.Popen[bytes]) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def test_asked_to_end_it_lets_go_first(project: Project) -> None:
    volume = project.volume("data")
    project.writer("app", volume)
    process = held_backup(project, volume, "pause")
    wait_for(lambda: project.status("app") == "paused", 30)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 130
    assert project.status("app") == "running"
    assert not list((project.folder / "state").glob("*.hold"))


def held_backup(project: Project, volume: str, method: str, **env: str) -> subprocess.Popen[bytes]:
    """A backup in a process of its own that stays in the middle of its hold."""
    config = configured(project, volume, f"quiesce: {method}")
    script = (
        "import sys, time, holdfast.services.freeze as f\n"
        "f.FrozenTree.scan = lambda self, spool: time.sleep(600)\n"
        f"sys.argv = ['holdfast', 'backup', {project.name!r}, '--config', {config!r}]\n"
        "from holdfast.cli.main import main\nmain()\n"
    )
    python = os.path.join(os.path.dirname(HOLDFAST), "python")
    return subprocess.Popen([python, "-c", script], env={**project.env, **env}, start_new_session=True)


def test_the_next_start_lets_go_what_the_watchdog_could_not(project: Project) -> None:
    volume = project.volume("data")
    project.writer("app", volume)
    process = held_backup(project, volume, "pause")
    wait_for(lambda: project.status("app") == "paused", 30)
    for child in children_of(process):
        os.kill(child, signal.SIGKILL)
    process.kill()
    process.wait()
    time.sleep(0.5)
    assert project.status("app") == "paused"
    assert f"{project.name}-app-1" in project.run("thaw")
    assert project.status("app") == "running"
    assert project.run("thaw").strip() == "nothing is held"


def test_a_hold_that_lasts_too_long_is_ended_and_nothing_is_stored(project: Project) -> None:
    volume = project.volume("data")
    project.writer("app", volume)
    config = configured(project, volume, "quiesce: pause", "hold_limit: 1")
    slow = (
        "import sys, time, holdfast.services.freeze as f\n"
        "real = f.FrozenTree.scan\n"
        "f.FrozenTree.scan = lambda self, spool: (time.sleep(3), real(self, spool))[1]\n"
        f"sys.argv = ['holdfast', 'backup', {project.name!r}, '--config', {config!r}]\n"
        "from holdfast.cli.main import main\nmain()\n"
    )
    python = os.path.join(os.path.dirname(HOLDFAST), "python")
    process = subprocess.Popen([python, "-c", slow], env=project.env, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: project.status("app") == "paused", 30)
    assert wait_for(lambda: project.status("app") == "running", 5) < 2.5
    _, said = process.communicate()
    assert process.returncode == 32
    assert "held longer than allowed" in said
    assert f"volume:{volume}" not in project.run("list")


def test_what_somebody_lets_go_meanwhile_is_no_consistent_capture(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = project.volume("data")
    app = project.writer("app", volume)
    config = configured(project, volume, "quiesce: pause")
    scan = FrozenTree.scan

    def unpaused_first(self: FrozenTree, spool: Spool) -> Delta:
        app.unpause()
        return scan(self, spool)

    with monkeypatch.context() as patch:
        patch.setattr(FrozenTree, "scan", unpaused_first)
        said = project.run("backup", "--config", config, code=32)
    assert "somebody let a container go on while it was held" in said
    assert f"volume:{volume}" not in project.run("list")
    assert project.status("app") == "running"


def test_stopped_and_nobody_is_cut_off_or_gone(project: Project) -> None:
    """A container in the network of one that is stopped has it again; one with --rm is there still."""
    network = project.client.networks.create(f"{project.name}_n", labels=project.labels(), internal=True)
    volume = project.volume("data", **{"holdfast.enable": "true", "holdfast.quiesce": "stop"})
    mount = {volume: {"bind": "/data"}}
    owner = project.container("vpn", command=["sleep", "9999"], network_mode=network.name, volumes=mount)
    behind = project.container("behind", command=["sleep", "9999"], network_mode=f"container:{owner.id}")
    project.container("shell", command=["sleep", "9999"], volumes=mount, auto_remove=True)
    assert b"eth0" in behind.exec_run("ip link").output
    said = project.run("backup", project.name)
    assert f"{project.name}-behind-1" in said
    assert b"eth0" in behind.exec_run("ip link").output
    assert [project.status(each) for each in ("vpn", "behind", "shell")] == ["running"] * 3


def test_hooks_run_around_the_hold_and_a_failing_one_stops_it(project: Project) -> None:
    volume = project.volume("data")
    app = project.writer("app", volume)
    hook = "hooks: [{container: %s-app-1, pre: [sh, -c, %s], post: [sh, -c, 'echo post >> /tmp/said'], timeout: 2}]"
    config = configured(project, volume, "quiesce: pause", hook % (project.name, "'echo pre >> /tmp/said'"))
    project.run("backup", project.name, "--config", config)
    assert app.exec_run("cat /tmp/said").output == b"pre\npost\n"
    # Two of one container: what the one froze must not stay frozen for the other. The method need not be named.
    more = f"{{container: {project.name}-app-1, pre: [sh, -c, 'echo x > /tmp/f'], post: [rm, /tmp/f]}}"
    configured(project, volume, "discover: false", hook.replace("[{", f"[{more}, {{") % (project.name, "echo"))
    project.run("backup", project.name, "--config", config)
    assert app.exec_run("test -e /tmp/f").exit_code == 1
    assert app.exec_run("cat /tmp/said").output == b"pre\npost\npost\n"
    app.exec_run("sh -c 'echo pre > /tmp/said; echo post >> /tmp/said'")
    configured(project, volume, "quiesce: pause", hook % (project.name, "'echo pre >> /tmp/said; echo no >&2; exit 7'"))
    said = project.run("backup", project.name, "--config", config, code=35)
    assert "exit status 7" in said
    assert "no" in said
    assert app.exec_run("cat /tmp/said").output == b"pre\npost\npre\npost\n"
    assert project.status("app") == "running"
    configured(project, volume, "quiesce: pause", hook % (project.name, "'sleep 60'"))
    started = time.monotonic()
    assert "took too long" in project.run("backup", project.name, "--config", config, code=35)
    assert time.monotonic() - started < 20
    assert bytes(app.exec_run("cat /tmp/said").output).endswith(b"post\npost\n")  # type: ignore[arg-type]  # no stream


def test_two_backups_at_once(project: Project) -> None:
    volume = project.volume("data")
    project.writer("app", volume)
    process = held_backup(project, volume, "pause")
    wait_for(lambda: project.status("app") == "paused", 30)
    config = configured(project, volume, "quiesce: none")
    assert "another backup, or a restore, of this stack is running" in project.run(
        "backup", "--config", config, code=29
    )
    process.kill()
    process.wait()
    wait_for(lambda: project.status("app") == "running")
    configured(project, volume, "quiesce: none", "when_busy: wait")
    project.run("backup", "--config", config)
