"""The real command, interrupted at many instants: it says so, ends with its exit code, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.cli import main as cli_main
from holdfast.errors import Interrupted
from tests.support.command import heeding
from tests.support.repositories import PASSWORD, backup_directory, latest, new_repository, reopen
from tests.support.trees import describe

HOLDFAST = os.path.join(os.path.dirname(sys.executable), "holdfast")
FILES = 2500
"""More than what helper processes are started for."""
ROUNDS = 2


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory `source`, and a repository `repo` that holds it."""
    tmp_path, chance = tmp_path_factory.mktemp("site"), random.Random(4)
    for number in range(FILES):
        path = tmp_path / "source" / f"{number // 100:02}" / f"{number:04}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(chance.randbytes(2000))
    (tmp_path / "source" / "large").write_bytes(chance.randbytes(24 << 20))
    (tmp_path / "password").write_text(PASSWORD)
    (tmp_path / "password").chmod(0o600)
    backup_directory(new_repository(tmp_path / "repo"), tmp_path / "source")
    return tmp_path


def _started(site: Path, *arguments: str) -> subprocess.Popen[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}
    return subprocess.Popen(
        heeding([HOLDFAST, *arguments]),
        env=env | {"HOLDFAST_PASSWORD_FILE": str(site / "password")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _interrupted(process: subprocess.Popen[str], when: Iterator[bool], how: signal.Signals) -> str:
    """Interrupt it when the iterator says so; what it said. Fails the test when it ended before."""
    while not next(when):
        if process.poll() is not None:
            pytest.fail(f"it ended by itself: {process.communicate()}")
    process.send_signal(how)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "interrupted" in said
    assert "Traceback" not in said
    return said


def _after(path: Path, seconds: float) -> Iterator[bool]:
    """False until so many seconds after a path is there."""
    while not path.exists():
        yield False
        time.sleep(0.002)
    time.sleep(seconds)
    yield True


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_restore(site: Path, tmp_path: Path, how: signal.Signals) -> None:
    target = tmp_path / "out"
    for number in range(ROUNDS):
        process = _started(site, "restore", "latest", "--repo", str(site / "repo"), "--to", str(target))
        _interrupted(process, _after(target / "00", 0.02 * number), how)
        assert not target.exists()
    with _started(site, "restore", "latest", "--repo", str(site / "repo"), "--to", str(target)) as process:
        assert process.wait() == 0
    assert describe(target) == describe(site / "source")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_backup(site: Path, tmp_path: Path, how: signal.Signals) -> None:
    new_repository(tmp_path / "other")
    command = ("backup", "--repo", str(tmp_path / "other"), "--path", str(site / "source"))
    for number in range(ROUNDS):
        process = _started(site, *command)
        # Its lock is there, and what the run before it uploaded: it is in the middle of its work.
        _interrupted(process, _locked(tmp_path / "other" / "locks", 0.05 * number), how)
        assert not reopen(tmp_path / "other").snapshots().snapshots
        assert os.listdir(tmp_path / "other" / "locks") == []
    with _started(site, *command) as process:
        assert process.wait() == 0
    assert latest(reopen(tmp_path / "other")).source == f"path:{site / 'source'}"


def _locked(folder: Path, seconds: float) -> Iterator[bool]:
    while not (folder.exists() and any(not name.startswith(".") for name in os.listdir(folder))):
        yield False
        time.sleep(0.002)
    time.sleep(seconds)
    yield True


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_an_error_that_the_interruption_made_is_an_interruption(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A signal between two steps of the standard library's own locks ends in a RuntimeError about a lock."""

    def broken_off(**_options: object) -> None:
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("release unlocked lock")

    monkeypatch.setattr(cli_main.cli, "main", broken_off)
    monkeypatch.setattr(cli_main, "settle_memory", lambda: None)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["holdfast", "backup", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli_main.main()
    assert ended.value.code == Interrupted.exit_code
    said = capsys.readouterr().err
    assert "release unlocked lock" not in said
    assert (json.loads(said)["message"] if arguments else said).find("interrupted") >= 0
