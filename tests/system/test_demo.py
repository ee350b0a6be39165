"""The demo, as a newcomer runs it: on a private engine, without any, and interrupted in the middle."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.local.engine import private_engine_is_possible

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-u", "-m", "deployments.demo"]

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for temporary files of its own, by a short path: sockets lie in it."""
    folder = tempfile.mkdtemp(prefix="demo-")
    os.chmod(folder, 0o1777)  # noqa: S103  as /tmp is: servers run as users of their own
    yield Path(folder)
    shutil.rmtree(folder)


def left_behind(folder: Path) -> set[str]:
    return {name for name in os.listdir(folder) if name.startswith("holdfast-")}


def processes_in(folders: set[str]) -> list[str]:
    found: list[str] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            found.extend(f"{entry.name} {line}" for folder in folders if folder in line)
    return found


def test_the_demo_proves_itself_and_leaves_nothing(temporary: Path) -> None:
    """On a private engine and without any, at the same time: neither takes anything from the other."""
    engines = ["none"] if private_engine_is_possible() is not None else ["private", "none"]
    demos = {
        engine: subprocess.Popen(
            [*COMMAND, "--engine", engine],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(temporary)},
        )
        for engine in engines
    }
    for engine, demo in demos.items():
        said, errors = demo.communicate(timeout=500)
        assert demo.returncode == 0, said[-4000:] + errors[-4000:]
        assert "PROVEN: what was restored is what was there." in said
        assert "lost:      nothing" in said
        assert ("replaced: the volume" in said) == (engine == "none")
        assert "Traceback" not in errors
    assert not left_behind(temporary)


def test_interrupted_it_leaves_nothing(temporary: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "--engine", "none"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if "Second backup" in line:
            break
    made = left_behind(temporary)
    assert made, said
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=120)[0]
    assert process.returncode == 130, rest
    assert not left_behind(temporary)
    assert processes_in(made) == []
