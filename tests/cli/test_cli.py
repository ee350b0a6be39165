"""The real command in a process of its own: what it prints, its exit codes, what it does not load."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.local.s3 import S3Endpoint
from tests.support.trees import build_sample, describe

HOLDFAST = os.path.join(os.path.dirname(sys.executable), "holdfast")
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("HOLDFAST_", "AWS_"))}


class Shell:
    """Runs the command against one repository."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "password").write_text("correct horse")
        (folder / "password").chmod(0o600)
        self.env = {
            **CLEAN,
            "HOLDFAST_REPOSITORY": str(folder / "repository"),
            "HOLDFAST_PASSWORD_FILE": str(folder / "password"),
        }

    def run(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run([HOLDFAST, *arguments], env=self.env, capture_output=True, text=True, check=False)
        assert done.returncode == code, (arguments, done.stdout, done.stderr)
        return done.stdout + done.stderr


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    build_sample(tmp_path / "source", files=12)
    made = Shell(tmp_path)
    made.run("init")
    return made


def test_a_directory_there_and_back(shell: Shell) -> None:
    source = str(shell.folder / "source")
    assert "restore point" in shell.run("backup", "--path", source)
    assert f"path:{source}" in shell.run("list")
    shell.run("restore", "latest", "--to", str(shell.folder / "out"))
    assert describe(shell.folder / "out") == describe(shell.folder / "source")
    assert "no damage found" in shell.run("verify", "--read-data")
    assert "no locks" in shell.run("unlock")
    assert "none yet: holdfast drill" in shell.run("status")
    assert "kept" in shell.run("forget", "--stack", "paths", "--keep-last", "1", "--dry-run")
    assert "those of paths" in shell.run("forget", "--stack", "path", "--keep-last", "1", code=15)
    assert "those of paths" in shell.run("list", "--stack", "path")
    assert "freed" in shell.run("prune")


def test_what_is_forgotten_comes_back_and_that_it_goes_again_is_said(shell: Shell) -> None:
    first, second = (
        json.loads(shell.run("backup", "--path", str(shell.folder / "source"), "--json"))[0]["point"] for _ in range(2)
    )
    shell.run("forget", "--stack", "paths", "--keep-last", "1")
    assert "the next retention run forgets it again" in shell.run("forget", "--undo", first)
    assert {first, second} <= set(shell.run("list").split())


@pytest.mark.parametrize(
    "arguments",
    [("list",), ("status",), ("verify",), ("key", "list"), ("prune", "--dry-run"), ("doctor",), ("unlock",)],
    ids=" ".join,
)
def test_json_is_one_document(shell: Shell, arguments: tuple[str, ...]) -> None:
    shell.run("backup", "--path", str(shell.folder / "source"))
    json.loads(shell.run(*arguments, "--json"))


def test_errors_are_one_line_a_hint_and_a_documented_code(shell: Shell) -> None:
    said = shell.run("restore", "latest", "--to", str(shell.folder / "out"), code=15)
    assert said.splitlines()[0].startswith("holdfast: error: ")
    assert "hint: holdfast backup" in said
    (shell.folder / "password").write_text("wrong")
    assert "Traceback" not in shell.run("list", code=12)
    error = json.loads(shell.run("list", "--json", code=12))
    assert error["error"] == "WrongPassword"
    shell.env["HOLDFAST_REPOSITORY"] = str(shell.folder / "nothing here")
    assert "holdfast init" in shell.run("list", code=23)


def test_a_target_that_holds_something_is_refused(shell: Shell) -> None:
    shell.run("backup", "--path", str(shell.folder / "source"))
    (shell.folder / "out").mkdir()
    (shell.folder / "out" / "mine").write_text("precious")
    assert "mine" in shell.run("restore", "latest", "--to", str(shell.folder / "out"), code=41)
    assert (shell.folder / "out" / "mine").read_text() == "precious"


def test_a_stack_that_does_not_exist_names_the_nearest(shell: Shell) -> None:
    config = shell.folder / "holdfast.yaml"
    config.write_text(
        f"version: 1\nrepository: {{url: {shell.folder}/repository, password_file: {shell.folder}/password}}\n"
        f"stacks: {{docs: {{paths: [{shell.folder}/source]}}}}\n"
    )
    shell.env["HOLDFAST_CONFIG"] = str(config)
    assert "did you mean docs?" in shell.run("backup", "--stack", "dosc", code=4)
    shell.run("backup")
    assert "proven" in shell.run("drill")
    assert "proven" in shell.run("status")
    assert "docs: path:" in shell.run("doctor")
    assert "holds data and stays" in shell.run("restore", "--stack", "docs", "--dry-run")
    config.write_text(config.read_text().replace("paths", "pathes"))
    assert "did you mean paths?" in shell.run("backup", code=4)


def test_s3_missing_denied_and_down(shell: Shell, rclone_s3: S3Endpoint) -> None:
    shell.env |= {"AWS_ACCESS_KEY_ID": rclone_s3.access_key, "AWS_SECRET_ACCESS_KEY": rclone_s3.secret_key}
    shell.env["HOLDFAST_REPOSITORY"] = f"s3:{rclone_s3.endpoint}/cli-missing/host"
    assert "cli-missing" in shell.run("list", code=23)
    shell.run("init")
    assert "cli-missing" in shell.run("doctor")
    shell.env["AWS_SECRET_ACCESS_KEY"] = "wrong" * 8
    assert "hint" in shell.run("list", code=22)


def test_doctor_finds_what_is_wrong(shell: Shell) -> None:
    assert "writes, reads, lists, deletes" in shell.run("doctor")
    for snapshot in (shell.folder / "repository" / "config",):
        snapshot.chmod(0o600)
        data = snapshot.read_bytes()
        snapshot.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert "fail" in shell.run("doctor", code=1)


def test_start_up_loads_no_sdk(shell: Shell) -> None:
    heavy = ("prefect", "docker", "boto3", "psycopg", "pydantic", "yaml", "rich")
    for arguments in (["--help"], ["list"]):
        program = (
            "import sys; from holdfast.cli.main import main\n"
            "try: main()\n"
            "finally: print('LOADED', *sorted(sys.modules), file=sys.stderr)"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments], env=shell.env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0
        loaded = done.stderr.rpartition("LOADED")[2].split()
        assert "holdfast.cli.main" in loaded
        assert not set(heavy) & set(loaded)


def test_s3_that_does_not_answer(shell: Shell) -> None:
    shell.env |= {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none"}
    with socket.socket() as taken:  # bound and not listening: every connection is refused, and nobody else gets it
        taken.bind(("127.0.0.1", 0))
        shell.env["HOLDFAST_REPOSITORY"] = f"s3:http://127.0.0.1:{taken.getsockname()[1]}/bucket/host"
        said = shell.run("list", code=21)
    assert "127.0.0.1" in said
    assert "in the last of 6 attempts" in said


def test_passwords_are_added_and_removed(shell: Shell) -> None:
    new = shell.folder / "new password"
    new.write_text("battery staple")
    new.chmod(0o600)
    (old,) = json.loads(shell.run("key", "list", "--json"))
    shell.run("key", "add", "--new-password-file", str(new))
    assert "in use" in shell.run("key", "remove", old["id"][:8], code=1)
    shell.env["HOLDFAST_PASSWORD_FILE"] = str(new)
    assert "holdfast key list" in shell.run("key", "remove", "zz", code=1)
    shell.run("key", "remove", old["id"][:8])
    shell.run("list")
    shell.env["HOLDFAST_PASSWORD_FILE"] = str(shell.folder / "password")
    shell.run("list", code=12)


def test_doctor_tells_a_missing_password_as_a_finding(shell: Shell) -> None:
    (shell.folder / "password").unlink()
    said = shell.run("doctor", code=1)
    assert "password" in said
    assert "Traceback" not in said


def test_errors_of_the_command_line_are_json_too(shell: Shell) -> None:
    error = json.loads(shell.run("list", "--bogus", "--json", code=2))
    assert (error["exit_code"], error["hint"]) == (2, "holdfast list --help")


def test_names_that_are_no_text_are_listed_and_found_again(shell: Shell) -> None:
    name = b"odd\xff\x1b[2J"
    (shell.folder / "odd" / "empty").mkdir(parents=True)
    os.symlink(name, os.fsencode(shell.folder / "odd") + b"/link")
    Path(os.fsdecode(os.fsencode(shell.folder / "odd") + b"/" + name)).write_text("found")
    shell.run("backup", "--path", str(shell.folder / "odd"))
    said = shell.run("ls", "latest")
    assert r"odd\xff\x1b[2J" in said
    assert r"link -> odd\xff\x1b[2J" in said
    listed = json.loads(shell.run("ls", "latest", "--json"))
    (found,) = [entry["path"] for entry in listed if entry["type"] == "file"]
    assert os.fsencode(found) == name
    assert shell.run("cat", "latest", found) == "found"
    assert shell.run("ls", "latest", "empty") == ""
    assert "holdfast ls " in shell.run("cat", "latest", "nothing", code=15)


def test_each_problem_of_a_configuration_is_said_once(shell: Shell) -> None:
    config = shell.folder / "holdfast.yaml"
    config.write_text("version: 1\nrepositry: {url: /x}\nstacks: {Shop: {}}\n")
    said = shell.run("status", "--config", str(config), code=4)
    assert said.count("repositry: unknown key") == 1
    assert said.splitlines()[0] == f"holdfast: error: the configuration has 3 problems: {config}"


@pytest.mark.parametrize("command", ["up", "down", "drain", "demo"])
def test_commands_of_the_source_tree_are_called_by_their_own_name(shell: Shell, command: str) -> None:
    assert f"sage: holdfast {command} " in shell.run(command, "--help")


def test_without_an_engine_or_a_configuration_a_backup_says_what_needs_neither(shell: Shell) -> None:
    shell.env["DOCKER_HOST"] = "unix:///nowhere.sock"
    assert "holdfast backup --path DIR" in shell.run("backup", code=36)


@pytest.mark.parametrize("command", ["up", "monitor", "canary"])
def test_a_configuration_that_is_not_named_is_asked_for_alike(shell: Shell, command: str) -> None:
    assert "holdfast config sample > holdfast.yaml" in shell.run(command, code=4)
