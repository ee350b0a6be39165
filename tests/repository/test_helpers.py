"""Helper processes: the same tree with them, without them, when they die; nothing secret shows, nothing stays."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.repository import helpers
from holdfast.repository.blobs import Compressor, blob_id
from holdfast.repository.chunker import MIN_SIZE
from holdfast.repository.crypto import MasterKey
from holdfast.repository.helpers import Helpers
from holdfast.repository.processes import Helper
from holdfast.repository.sealing import Sealed, Wanted, seal_files
from tests.support.repositories import backup_directory, latest, new_repository

FILES = 700
_NAMES = (
    "import time, sys\nfrom holdfast.repository.crypto import MasterKey\nfrom holdfast.repository.helpers import *\n"
)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helpers, "START_AFTER", 1)
    monkeypatch.setattr(helpers, "_cores", lambda: 2)


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    root = tmp_path / "volume"
    for number in range(FILES):
        path = root / f"{number // 100}" / f"{number:04}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"" if number % 50 == 0 else b"%d " % (number // 2) * (number + 1))
    (root / "large").write_bytes(os.urandom(1000) * 2000)
    return root


def _backed_up(tmp_path: Path, volume: Path) -> str:
    repository = new_repository(tmp_path / f"repository-{time.monotonic_ns()}")
    backup_directory(repository, volume)
    tree = latest(repository).tree
    nodes = {node.name: node for node in repository.reader.load_tree(tree)}
    return nodes["data"].subtree


def _spied(monkeypatch: pytest.MonkeyPatch, before: Callable[[Helper[list[Sealed]], int], None]) -> list[int]:
    """Have `before` called with each question's helper and number; the numbers of files that were asked for."""
    asked: list[int] = []
    ask = Helper.ask

    def spy(self: Helper[list[Sealed]], wanted: list[Wanted]) -> list[Sealed] | None:
        asked.append(len(wanted))
        before(self, len(asked))
        return ask(self, wanted)

    monkeypatch.setattr(Helper, "ask", spy)
    return asked


def test_same_tree_with_and_without(tmp_path: Path, volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _spied(monkeypatch, lambda _helper, _number: None)
    with_helpers = _backed_up(tmp_path, volume)
    assert sum(asked) == FILES
    monkeypatch.setattr(helpers, "_cores", lambda: 0)
    assert _backed_up(tmp_path, volume) == with_helpers
    assert sum(asked) == FILES


@pytest.mark.parametrize("survivors", [0, 1])
def test_a_helper_that_dies_costs_nothing_but_time(
    tmp_path: Path, volume: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, survivors: int
) -> None:
    whole = _backed_up(tmp_path, volume)

    def kill(helper: Helper[list[Sealed]], number: int) -> None:
        if survivors == 0 or number == 3:
            helper.process.kill()
            helper.process.wait()

    _spied(monkeypatch, kill)
    assert _backed_up(tmp_path, volume) == whole
    assert "died" in caplog.text


def test_nothing_secret_shows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOLDFAST_PASSWORD", "a secret of the user's")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another secret")
    (tmp_path / "file").write_bytes(b"content")
    key = MasterKey.generate()
    group = Helpers(key, 2, 1)
    try:
        answer = group.seal([Wanted(os.fsencode(tmp_path / "file"), False)])
        assert answer is not None
        assert answer[0].blob == blob_id(b"content")
        assert key.open(answer[0].stored) == b"content"
        assert group._hands is not None
        process = group._hands.helpers[0].process
        shown = Path(f"/proc/{process.pid}/environ").read_bytes() + Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert b"PATH=" in shown
        assert b"a secret of the user's" not in shown
        assert b"another secret" not in shown
        assert b"encrypt" not in shown
        children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
        assert str(process.pid) in children.read_text().split()
    finally:
        group.close()
    assert process.returncode == 0


def test_nothing_is_left_when_the_writer_is_killed() -> None:
    started = "hands = Helpers(MasterKey.generate(), 2, 2)._ready(2000)\n"
    code = f"{_NAMES}{started}print(*[helper.process.pid for helper in hands.helpers])\n"
    parent = subprocess.Popen(
        [sys.executable, "-c", code + "sys.stdout.flush()\ntime.sleep(60)"], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    for _ in range(200):
        if not any(_runs(pid) for pid in pids):
            return
        time.sleep(0.05)
    pytest.fail("helpers outlived the process that started them")


def _runs(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "link").symlink_to("empty")
    (tmp_path / "grown").write_bytes(bytes(MIN_SIZE + 1))
    os.mkfifo(tmp_path / "fifo")
    names = ["missing", "link", "fifo", "empty", "grown"]
    wanted = [Wanted(os.fsencode(tmp_path / name), False) for name in names]
    found = seal_files(MasterKey.generate(), Compressor(), wanted)
    assert [file.error for file in found] == [errno.ENOENT, errno.ELOOP, errno.ENOENT, 0, 0]
    assert [file.size for file in found[3:]] == [0, MIN_SIZE + 1]
    assert not any(file.blob for file in found)
