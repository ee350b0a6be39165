"""The demo, as a newcomer runs it: on a private engine, without any, and interrupted in the middle."""

from __future__ import annotations

import os
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
def place() -> Iterator[str]:
    """A temporary folder of the demo's own: what others leave in the usual one is not looked at.

    Its name is short, for sockets lie in it, and a server that is not root has to get through.
    """
    with tempfile.TemporaryDirectory(prefix="hf-") as folder:
        os.chmod(folder, 0o755)  # noqa: S103  what lies in it has modes of its own
        yield folder


def left_behind(place: str) -> set[str]:
    return {name for name in os.listdir(place) if name.startswith("holdfast-")}


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


def test_the_demo_proves_itself_and_leaves_nothing(place: str) -> None:
    """On a private engine and without any, at the same time: neither takes anything from the other."""
    engines = ["none"] if private_engine_is_possible() is not None else ["private", "none"]
    demos = {
        engine: subprocess.Popen(
            [*COMMAND, "--engine", engine],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": place},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
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
    assert left_behind(place) == set()


def test_interrupted_it_leaves_nothing(place: str) -> None:
    process = subprocess.Popen(
        [*COMMAND, "--engine", "none"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": place},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if "Second backup" in line:
            break
    made = left_behind(place)
    assert made, said
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=120)[0]
    assert process.returncode == 130, rest
    assert left_behind(place) == set()
    assert processes_in(made) == []
