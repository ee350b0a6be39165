"""Passwords: added, listed, changed, removed, with restic as the referee; and never to be seen."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from deployments.local.s3 import S3Endpoint
from holdfast.errors import CorruptObject, RepositoryError, WrongPassword
from holdfast.repository import keys
from holdfast.repository.repository import open_repository
from holdfast.store.directory import DirectoryStore
from tests.repository.conftest import Restic
from tests.support.faulty_store import Crashes, FaultyStore, Rule, SimulatedCrash
from tests.support.repositories import CHEAP, PASSWORD, new_repository
from tests.support.trees import build_sample

NEW = "an entirely new password"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    new_repository(tmp_path / "repository")
    return tmp_path / "repository"


def _with_restic(referee: Restic, path: Path, password: str, tmp_path: Path, *arguments: str) -> str:
    file = tmp_path / "given"
    file.write_text(password)
    return referee(path, "--password-file", str(file), *arguments, check=False)


def test_a_password_is_changed_and_restic_agrees(path: Path, tmp_path: Path, referee: Restic) -> None:
    repository = open_repository(DirectoryStore(path), PASSWORD)
    name = keys.change_password(repository.store, repository.key, NEW, in_use=repository.key_id, n=CHEAP)
    assert [key.id for key in keys.list_keys(repository.store)] == [name]
    with pytest.raises(WrongPassword):
        open_repository(DirectoryStore(path), PASSWORD)
    assert open_repository(DirectoryStore(path), NEW).key_id == name
    assert "wrong password" in _with_restic(referee, path, PASSWORD, tmp_path, "snapshots")
    assert name[:8] in _with_restic(referee, path, NEW, tmp_path, "key", "list")
    assert "no errors were found" in _with_restic(referee, path, NEW, tmp_path, "check")


def test_one_that_restic_changed_opens_here(path: Path, tmp_path: Path, referee: Restic) -> None:
    (tmp_path / "new").write_text(NEW)
    said = _with_restic(
        referee, path, PASSWORD, tmp_path, "key", "passwd", "--new-password-file", str(tmp_path / "new")
    )
    assert "saved new key" in said
    repository = open_repository(DirectoryStore(path), NEW)
    (key,) = keys.list_keys(repository.store)
    assert key.id == repository.key_id
    with pytest.raises(WrongPassword):
        open_repository(DirectoryStore(path), PASSWORD)


def test_the_key_in_use_and_the_last_one_stay(path: Path) -> None:
    repository = open_repository(DirectoryStore(path), PASSWORD)
    with pytest.raises(RepositoryError, match="in use"):
        keys.remove_key(repository.store, repository.key_id, in_use=repository.key_id)
    added = keys.add_key(repository.store, repository.key, NEW, n=CHEAP)
    keys.remove_key(repository.store, repository.key_id, in_use=added)
    with pytest.raises(RepositoryError):
        keys.remove_key(repository.store, added, in_use="")


def test_a_change_that_is_killed_leaves_a_password_that_opens(path: Path, tmp_path: Path) -> None:
    for after in (False, True):
        for operation, key in (("put", "keys/*"), ("delete", "keys/*")):
            store = FaultyStore(DirectoryStore(path), Rule(operation, key, Crashes(after=after)))
            repository = open_repository(store, PASSWORD)
            with pytest.raises(SimulatedCrash):
                keys.change_password(repository.store, repository.key, NEW, in_use=repository.key_id, n=CHEAP)
            if (operation, after) == ("delete", True):
                break
            open_repository(DirectoryStore(path), PASSWORD)
    open_repository(DirectoryStore(path), NEW)


def test_new_keys_cost_as_much_as_restics(path: Path, referee: Restic, tmp_path: Path) -> None:
    """Both measure the machine, and measure load with it: of three pairs one has to agree."""
    repository = open_repository(DirectoryStore(path), PASSWORD)
    (tmp_path / "third").write_text("third")
    known: set[str] = set()

    def added() -> keys.KeyFile:
        (name,) = {file.name for file in (path / "keys").iterdir()} - known
        known.add(name)
        return msgspec.json.decode((path / "keys" / name).read_bytes(), type=keys.KeyFile)

    added()
    for _ in range(3):
        keys.add_key(repository.store, repository.key, NEW)
        mine = added()
        assert (mine.N, mine.r, mine.p) >= (1 << 15, 8, 1)
        assert len(mine.salt) == 64
        referee(path, "key", "add", "--new-password-file", str(tmp_path / "third"))
        theirs = added()
        if mine.N * mine.r * mine.p >= theirs.N * theirs.r * theirs.p // 2:
            return
    pytest.fail(f"ours are cheaper: {mine.N, mine.r, mine.p} against {theirs.N, theirs.r, theirs.p}")


@pytest.mark.parametrize(
    "asked", [{"p": 1 << 24}, {"r": 1 << 20}, {"N": 1 << 30}, {"N": 1 << 15, "r": 1, "p": 1 << 28}, {"p": -1}, {"N": 3}]
)
def test_a_key_file_that_asks_for_too_much_is_refused(path: Path, asked: dict[str, int]) -> None:
    """Whoever can write to the store could otherwise have every run work for hours, or end for want of memory."""
    (file,) = (path / "keys").iterdir()
    stored = json.dumps(json.loads(file.read_bytes()) | asked).encode()
    file.unlink()
    (path / "keys" / hashlib.sha256(stored).hexdigest()).write_bytes(stored)
    with pytest.raises(CorruptObject, match="damaged"):
        open_repository(DirectoryStore(path), PASSWORD)


# --- never to be seen -------------------------------------------------------------------------------------------------


def test_no_password_in_argv_environment_of_children_log_or_repr(tmp_path: Path, rclone_s3: S3Endpoint) -> None:
    """A whole run of the command, by file and by variable: every process below it is looked at all the time."""
    secret_key = rclone_s3.secret_key
    password = "pw-that-nobody-must-see-4711"
    (tmp_path / "password").write_text(password)
    (tmp_path / "password").chmod(0o600)
    (tmp_path / "new").write_text(password + "-new")
    (tmp_path / "new").chmod(0o600)
    build_sample(tmp_path / "source", files=4)
    env = {
        **os.environ,
        "HOLDFAST_REPOSITORY": f"s3:{rclone_s3.endpoint}/keys-{os.getpid()}",
        "HOLDFAST_PASSWORD_FILE": str(tmp_path / "password"),
        "AWS_ACCESS_KEY_ID": rclone_s3.access_key,
        "AWS_SECRET_ACCESS_KEY": secret_key,
        "HOLDFAST_CACHE_DIR": str(tmp_path / "cache"),
    }
    said = ""
    watch = _Watch((password, secret_key))
    with watch:
        for arguments in (
            ["init"],
            ["backup", "--path", str(tmp_path / "source"), "--verbose"],
            ["key", "passwd", "--new-password-file", str(tmp_path / "new"), "--verbose"],
            ["list", "--json"],  # with the old password: refused
        ):
            done = subprocess.Popen(
                [os.path.join(os.path.dirname(sys.executable), "holdfast"), *arguments],
                env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
            watch.child = done.pid
            said += done.communicate()[0]
            watch.child = 0
    assert "restore point" in said
    assert "WrongPassword" in said
    assert watch.looks > 10
    assert watch.seen == []
    assert password not in said
    assert secret_key not in said
    for file in tmp_path.rglob("*"):
        if file.is_file() and file.name not in ("password", "new"):
            assert password.encode() not in file.read_bytes()


class _Watch:
    """Looks at /proc all the time: command lines of a child and all below it, environments of those below it."""

    def __init__(self, secrets: tuple[str, ...]) -> None:
        self.child, self.looks = 0, 0
        self.seen: list[str] = []
        self._secrets = [secret.encode() for secret in secrets]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.05):
            child = self.child
            if child:
                self._look(child, "cmdline")
                for below in _below(child):
                    self._look(below, "cmdline")
                    # The S3 keys were given to us in the environment, by the user; the password was not.
                    self._look(below, "environ", self._secrets[:1])
                self.looks += 1

    def _look(self, pid: int, what: str, secrets: list[bytes] | None = None) -> None:
        try:
            data = Path(f"/proc/{pid}/{what}").read_bytes()
        except OSError:
            return
        self.seen.extend(f"{what} of {pid}" for secret in secrets or self._secrets if secret in data)


def _below(pid: int) -> list[int]:
    found = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            direct = [int(child) for child in children.read_text().split()]
        except OSError:
            continue
        found += [each for child in direct for each in (child, *_below(child))]
    return found


def test_the_watch_sees_what_it_should() -> None:
    watch = _Watch(("seen-4711",))
    with watch:
        child = subprocess.Popen(["sh", "-c", "sleep 0.5; : seen-4711"])
        watch.child = child.pid
        child.wait()
    assert watch.seen
