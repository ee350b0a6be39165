"""Access to a repository: flags, environment, file, in this order, and what contradicts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.config.access import RepositoryAccess, find_config, from_environment, resolve_access
from holdfast.config.loading import load
from holdfast.config.problems import InvalidConfig
from holdfast.config.secret import Secret
from holdfast.errors import ConfigError

Write = Callable[[str, str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, text: str) -> str:
        path = tmp_path / name
        path.write_text(text)
        path.chmod(0o600)
        return str(path)

    return write


@pytest.fixture
def config(write: Write) -> str:
    word = write("own-password", "own\n")
    return write(
        "holdfast.yaml",
        f"version: 1\nrepository: {{url: 's3://own/prefix', password_file: {word}, s3: {{endpoint: 'https://own'}}}}\n",
    )


def test_flags_alone(write: Write) -> None:
    access = resolve_access(repo="/srv/b", password_file=write("pw", "flag"), env={})
    assert access == RepositoryAccess("/srv/b", Secret("flag"))


def test_environment_alone(write: Write) -> None:
    by_file = from_environment(env={"HOLDFAST_REPOSITORY": "/e", "HOLDFAST_PASSWORD_FILE": write("pw", "file")})
    assert (by_file.url, by_file.password.reveal()) == ("/e", "file")
    by_value = from_environment(env={"HOLDFAST_REPOSITORY": "/e", "HOLDFAST_PASSWORD": "value"})
    assert by_value.password.reveal() == "value"


def test_flags_go_before_the_environment(write: Write) -> None:
    env = {"HOLDFAST_REPOSITORY": "/e", "HOLDFAST_PASSWORD": "env"}
    assert from_environment(repo="/f", env=env).url == "/f"
    assert from_environment(password_file=write("pw", "flag"), env=env).password.reveal() == "flag"


def test_a_flag_settles_what_the_environment_contradicts(write: Write) -> None:
    env = {"HOLDFAST_REPOSITORY": "/e", "HOLDFAST_PASSWORD": "a", "HOLDFAST_PASSWORD_FILE": "/nowhere"}
    assert from_environment(password_file=write("pw", "flag"), env=env).password.reveal() == "flag"
    with pytest.raises(ConfigError, match="two passwords in the environment") as caught:
        from_environment(env=env)
    assert caught.value.hint == "unset HOLDFAST_PASSWORD"


def test_the_file_alone(config: str) -> None:
    for access in (
        resolve_access(config=config, env={}),
        resolve_access(env={"HOLDFAST_CONFIG": config}),
        resolve_access(config=load(config), env={}),
    ):
        assert (access.url, access.password.reveal(), access.s3.endpoint) == ("s3://own/prefix", "own", "https://own")


def test_the_environment_goes_before_the_file(config: str) -> None:
    access = resolve_access(config=config, env={"HOLDFAST_PASSWORD": "env"})
    assert (access.url, access.password.reveal(), access.s3.endpoint) == ("s3://own/prefix", "env", "https://own")


def test_the_same_repository_named_twice_is_no_contradiction(config: str) -> None:
    access = resolve_access(config=config, env={"HOLDFAST_REPOSITORY": "s3://own/prefix"})
    assert (access.password.reveal(), access.s3.endpoint) == ("own", "https://own")


def test_another_repository_gets_no_secret_of_the_file(config: str, write: Write) -> None:
    with pytest.raises(ConfigError, match="belongs to another repository"):
        resolve_access(repo="s3://other", config=config, env={})
    access = resolve_access(repo="s3://other", password_file=write("pw", "flag"), config=config, env={})
    assert access == RepositoryAccess("s3://other", Secret("flag"))


def test_an_explicit_file_against_the_environment_is_a_contradiction(config: str) -> None:
    env = {"HOLDFAST_REPOSITORY": "/elsewhere", "HOLDFAST_PASSWORD": "env"}
    with pytest.raises(ConfigError, match="two repositories are named") as caught:
        resolve_access(config=config, env=env)
    assert caught.value.hint == "unset HOLDFAST_REPOSITORY, or choose with --repo"
    assert resolve_access(repo="/chosen", config=config, env=env).url == "/chosen"


def test_a_broken_file_does_not_stop_a_restore(write: Write) -> None:
    env = {"HOLDFAST_CONFIG": write("broken.yaml", "{"), "HOLDFAST_PASSWORD": "env"}
    assert resolve_access(repo="/srv/b", env=env).url == "/srv/b"
    with pytest.raises(InvalidConfig):
        resolve_access(env=env)


def test_says_what_is_missing() -> None:
    with pytest.raises(ConfigError, match="no repository is named: wanted --repo, HOLDFAST_REPOSITORY, --config"):
        resolve_access(env={"HOLDFAST_PASSWORD": "x"})
    with pytest.raises(ConfigError, match="no password for the repository is named"):
        resolve_access(repo="/x", env={})
    with pytest.raises(ConfigError, match="--repo is empty"):
        resolve_access(repo="", env={"HOLDFAST_REPOSITORY": "/e"})
    with pytest.raises(ConfigError, match="No such file"):
        resolve_access(repo="/x", password_file="/nowhere/pw", env={})


def test_finds_the_configuration() -> None:
    assert find_config("a", env={"HOLDFAST_CONFIG": "b"}) == "a"
    assert find_config(env={"HOLDFAST_CONFIG": "b"}) == "b"
    assert find_config(env={"HOLDFAST_CONFIG": ""}) is None


def test_access_shows_no_secret(config: str) -> None:
    access = resolve_access(config=config, env={"HOLDFAST_PASSWORD": "hushhush"})
    assert "hush" not in f"{access!r} {access}"


def test_reads_the_files_of_s3_keys(write: Write) -> None:
    keys = {name: write(name, f" {name}-text\n") for name in ("access_key", "secret_key", "session_token")}
    lines = "".join(f"    {name}_file: {path}\n" for name, path in keys.items())
    text = f"version: 1\nrepository:\n  url: s3://bucket\n  password_env: PW\n  s3:\n    addressing: path\n{lines}"
    s3 = load(write("c.yaml", text)).repository.access({"PW": "x"}).s3
    assert s3.addressing == "path"
    assert [s and s.reveal() for s in (s3.access_key, s3.secret_key, s3.session_token)] == [f"{n}-text" for n in keys]
    assert "-text" not in repr(s3)


def test_does_without_pydantic_and_yaml(write: Write) -> None:
    script = (
        "import sys, holdfast.config\n"
        "from holdfast.config.access import resolve_access\n"
        f"resolve_access(repo='/x', password_file={write('pw', 'x')!r})\n"
        "found = {'pydantic', 'pydantic_core', 'yaml', 'boto3'} & set(sys.modules)\n"
        "sys.exit(f'imported {found}' if found else 0)\n"
    )
    env = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
