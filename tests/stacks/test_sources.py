"""Commands as sources, parts of snapshots, and what happens when something goes while it is captured."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.stacks.conftest import HOLDFAST, Project, wait_for

pytestmark = pytest.mark.engine


def command_config(project: Project, script: str, *, extra: str = "") -> str:
    path = project.folder / "holdfast.yaml"
    path.write_text(
        f"""version: 1
repository: {{url: {project.folder}/repository, password_file: {project.folder}/password}}
stacks:
  {project.name}:
    commands:
      - {{name: kv, container: {project.name}-kv-1, command: [sh, -c, {json.dumps(script)}], file: dump.txt{extra}}}
"""
    )
    return str(path)


def test_the_output_of_a_command(project: Project) -> None:
    project.container("kv")
    config = command_config(project, "seq 1 5000")
    project.run("backup", "--config", config)
    said = project.run("cat", "latest", "dump.txt", "--source", "command:kv")
    assert said.split() == [str(n) for n in range(1, 5001)]
    assert "dump.txt" in project.run("ls", "latest", "--source", "command:kv")
    before = project.run("list", "--snapshots").count("command:kv")
    # Nothing of a failure is stored: an exit status, an empty output, one that shrank, one that takes too long.
    for script, extra, code, words in (
        ("seq 1 5000; exit 3", "", 35, "exit status 3"),
        ("true", "", 33, "at least 1 bytes"),
        ("seq 1 50", "", 33, "not less than 10%"),
        ("seq 1 5000; sleep 60", ", timeout: 1", 35, "took too long"),
        ("seq 1 5000", ", user: nosuchuser", 35, "exit status 126"),
    ):
        said = project.run("backup", "--config", command_config(project, script, extra=extra), code=code)
        assert words in said
    assert project.run("list", "--snapshots").count("command:kv") == before
    project.run("backup", "--allow-empty", "--config", command_config(project, "seq 1 50"))
    # A drill proves the file as it does any other.
    assert "proven" in project.run("drill", "--config", config)


def test_a_command_by_label(project: Project) -> None:
    labels = {"holdfast.command": "sh -c 'echo dumped'", "holdfast.command.file": "all.sql", "holdfast.enable": "true"}
    project.container("kv", labels=labels)
    project.run("backup")
    assert project.run("cat", "latest", "all.sql", "--source", "command:kv") == "dumped\n"
    assert "output of sh in container" in project.run("plan", project.name)
    assert "proven" in project.run("drill")
    assert "proven" in project.run("drill", project.name, "--point", "latest")


def test_a_source_or_a_stack_that_fails_costs_the_others_nothing(project: Project) -> None:
    volume = project.volume("data", **{"holdfast.enable": "true"})
    (project.mountpoint(volume) / "file").touch()
    project.container("db", command=["sleep", "9999"], labels={"holdfast.command": "false"})
    other = project.client.volumes.create(f"{project.name}-other", labels={"backup": "daily"}).name
    (project.mountpoint(other) / "file").touch()
    said = project.run("backup", project.name, f"{project.name}-other", code=35)
    assert "2 of 3 were captured all the same" in said
    assert "stacks: 1 of 2 were captured all the same" in said
    listed = {line.split()[3]: line for line in project.run("list").splitlines()[1:]}
    assert "volume:" in listed[project.name]
    assert f"stack:{project.name}" in listed[project.name]
    assert "whole" not in listed[project.name]
    assert "whole" in listed[f"{project.name}-other"]


def test_a_server_that_only_its_files_tell_of_is_warned_about(project: Project) -> None:
    volume = project.volume("data", **{"holdfast.enable": "true"})
    project.container("app", command=["sleep", "9999"], volumes={volume: {"bind": "/data"}})
    (project.mountpoint(volume) / "pg" / "global").mkdir(parents=True)
    (project.mountpoint(volume) / "pg" / "global" / "pg_control").touch()
    assert "seems to run" not in project.run("backup", project.name)
    (project.mountpoint(volume) / "pg" / "postmaster.pid").touch()
    assert f"seems to run in container {project.name}-app-1" in project.run("backup", project.name)


def test_parts_of_a_snapshot(project: Project) -> None:
    volume = project.volume("data")
    top = project.mountpoint(volume)
    (top / "etc" / "deep").mkdir(parents=True)
    (top / "etc" / "app.conf").write_text("one")
    (top / "etc" / "deep" / "x.conf").write_text("two")
    (top / "etc" / "other").write_text("three")
    (top / "big").write_bytes(os.urandom(3 << 20))
    (top / "etc").chmod(0o750)
    project.container("app", volumes={volume: {"bind": "/data"}}, environment={"TOKEN": "most secret"})
    project.run("backup", project.name)
    source = ("--source", f"volume:{volume}")
    assert project.run("cat", "latest", "etc/app.conf", *source) == "one"
    assert [each["path"] for each in json.loads(project.run("ls", "latest", "etc", "--json", *source))] == [
        "etc/app.conf",
        "etc/deep",
        "etc/other",
    ]
    out = project.folder / "out"
    project.run("restore", "latest", "--include", "*.conf", "--to", str(out), *source)
    assert sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()) == ["etc/app.conf", "etc/deep/x.conf"]
    assert (out / "etc").stat().st_mode & 0o777 == 0o750
    assert "nothing in the snapshot matches" in project.run(
        "restore", "latest", "--include", "nothing", "--to", str(project.folder / "no"), *source, code=15
    )
    assert not (project.folder / "no").exists()
    project.run("restore", "latest", "--include", "etc/deep", "--to-volume", f"{volume}-part", *source)
    assert (project.mountpoint(f"{volume}-part") / "etc/deep/x.conf").read_text() == "two"
    # In place: what matches is as it was, everything else stays.
    (top / "etc" / "app.conf").write_text("ruined")
    (top / "etc" / "deep" / "x.conf").unlink()
    (top / "etc" / "other").write_text("newer")
    said = project.run("restore", "latest", "--include", "*.conf", "--in-place", *source)
    assert f" to {top}: " in said
    assert (top / "etc" / "app.conf").read_text() == "one"
    assert (top / "etc" / "deep" / "x.conf").read_text() == "two"
    assert (top / "etc" / "other").read_text() == "newer"
    assert [path.name for path in top.parent.iterdir() if "holdfast" in path.name] == []
    # The stack's description never shows what is secret, unless it is asked to.
    stack = ("--source", f"stack:{project.name}")
    assert "most secret" not in project.run("cat", "latest", "definition.json", *stack)
    assert "TOKEN=***" in project.run("cat", "latest", "definition.json", *stack)
    assert "most secret" in project.run("cat", "latest", "definition.json", "--reveal", *stack)


def test_the_files_of_a_running_server_are_refused(project: Project, postgres_image: str) -> None:
    volume = project.volume("pg")
    project.container(
        "db",
        image=postgres_image,
        environment={"POSTGRES_PASSWORD": "x"},
        volumes={volume: {"bind": "/var/lib/postgresql/data"}},
    )
    wait_for(lambda: (project.mountpoint(volume) / "global" / "pg_control").exists(), 30)
    config = project.folder / "holdfast.yaml"
    for quiesce in ("none", "pause"):
        config.write_text(
            f"""version: 1
repository: {{url: {project.folder}/repository, password_file: {project.folder}/password}}
stacks: {{{project.name}: {{volumes: [{volume}], quiesce: {quiesce}}}}}
"""
        )
        said = project.run("backup", "--config", str(config), code=32)
        assert "running PostgreSQL server" in said
    assert project.status("db") == "running"


@pytest.mark.parametrize("what", ["container", "volume"])
def test_what_is_removed_before_it_is_held(project: Project, what: str) -> None:
    """A container that goes during the first pass is no reason to fail; a volume that is gone is."""
    volume = project.volume("data", **{"holdfast.quiesce": "pause"})
    (project.mountpoint(volume) / "file").write_text("x")
    project.writer("app", volume)
    project.writer("other", volume)
    script = (
        "import sys, time, os, holdfast.services.freeze as f\n"
        "real = f._first_pass\n"
        "def slow(*a):\n"
        "    made = real(*a)\n"
        f"    open({str(project.folder / 'passed')!r}, 'w').close()\n"
        "    time.sleep(4)\n"
        "    return made\n"
        "f._first_pass = slow\n"
        f"sys.argv = ['holdfast', 'backup', {project.name!r}]\n"
        "from holdfast.cli.main import main\nmain()\n"
    )
    python = os.path.join(os.path.dirname(HOLDFAST), "python")
    process = subprocess.Popen([python, "-c", script], env=project.env, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: Path(project.folder / "passed").exists(), 30)
    for name in ("other",) if what == "container" else ("app", "other"):
        project.client.containers.get(f"{project.name}-{name}-1").remove(force=True)
    if what == "volume":
        project.client.volumes.get(volume).remove()
    _, said = process.communicate()
    if what == "container":
        assert process.returncode == 0, said
        assert project.status("app") == "running"
    else:
        assert process.returncode in (31, 32), said
        assert f"volume:{volume}" not in project.run("list")
    assert not list((project.folder / "state").glob("*.hold"))


def test_a_container_of_another_stack_is_held_too(project: Project) -> None:
    volume = project.volume("data", **{"holdfast.quiesce": "pause"})
    stranger = project.client.containers.run(
        project.blank, ["sleep", "1000"], name=f"{project.name}-stranger", detach=True, network_mode="none",
        volumes={volume: {"bind": "/data"}}, stop_signal="SIGKILL",
    )  # fmt: skip
    (project.mountpoint(volume) / "file").write_text("x")
    assert f"written by {stranger.name}, of another stack" in project.run("plan", project.name)
    report, _ = json.JSONDecoder().raw_decode(project.run("backup", project.name, "--json"))
    held = next(s["held"] for s in report[0]["sources"] if s["source"] == f"volume:{volume}")
    assert list(held) == [stranger.name]
    time.sleep(0.1)
    stranger.reload()
    assert stranger.status == "running"
