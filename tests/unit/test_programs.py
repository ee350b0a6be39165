"""Programs that make snapshots: what they say comes back, what goes wrong is told with what to do."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from holdfast.engine import programs, showcase
from holdfast.engine.programs import once_idle, run
from holdfast.errors import SourceUnreadable


def test_what_it_says_comes_back_without_our_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    assert "hush" not in run(["/usr/bin/env"], "the environment")
    assert run(["/bin/sh", "-c", "echo some; echo more >&2"], "words") == "some\n"


def test_what_goes_wrong_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceUnreadable, match=r"sh failed: the thing: found no room$") as told:
        run(["/bin/sh", "-c", "echo no room >&2; exit 3"], "the thing")
    assert told.value.hint == ("run as root" if os.geteuid() else "/bin/sh -c 'echo no room >&2; exit 3'")
    with pytest.raises(SourceUnreadable, match=r"cannot start nothing: the thing: found No such file"):
        run([str(tmp_path / "nothing")], "the thing")
    with pytest.raises(SourceUnreadable, match=r"sleep 5 does not end: the thing: wanted within 0 s"):
        run(["/bin/sleep", "5"], "the thing", seconds=0.1)


def test_what_is_busy_is_tried_again_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[float] = []

    def work(fails: int, why: str) -> None:
        tries.append(time.monotonic())
        if len(tries) <= fails:
            raise SourceUnreadable("cannot", found=why)

    once_idle(lambda: work(2, "target is busy."))
    assert len(tries) == 3
    tries.clear()
    with pytest.raises(SourceUnreadable, match=r"no such thing"):
        once_idle(lambda: work(2, "no such thing"))
    assert len(tries) == 1
    monkeypatch.setattr(programs, "_BUSY_SECONDS", 0.3)
    with pytest.raises(SourceUnreadable, match=r"busy"):
        once_idle(lambda: work(99, "target is busy."))


def test_a_folder_is_ours_alone_and_goes_when_it_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = showcase.folder_of(showcase.new_name())
    top = Path(showcase.make(folder))
    assert os.stat(folder).st_mode & 0o077 == 0
    with pytest.raises(SourceUnreadable, match=r"cannot make a folder: .*: found File exists"):
        showcase.make(folder)
    (top / "left").touch()
    with pytest.raises(SourceUnreadable, match=r"cannot remove a folder of ours: .*: found Directory not empty"):
        showcase.remove(folder)
    (top / "left").unlink()
    showcase.remove(folder)
    showcase.remove(folder)
    assert not list(tmp_path.iterdir())
