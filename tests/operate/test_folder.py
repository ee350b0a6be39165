"""What a host starts and stops: processes in a folder, whoever asks for them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from deployments.local.machine import REPOSITORY_ROOT
from deployments.operate.folder import Folder

START = """
import sys
from pathlib import Path
from deployments.operate.folder import Folder
code = "import signal, time; print(signal.getsignal(signal.SIGINT), flush=True); time.sleep(60)"
Folder(Path(sys.argv[1])).start("worker", [sys.executable, "-c", code], {}, cwd="/", url="")
"""


def test_what_a_background_script_starts_can_be_interrupted(tmp_path: Path) -> None:
    """A shell without job control has SIGINT ignored by what it runs in the background: `nohup holdfast up &`."""
    tmp_path.joinpath("state").mkdir()
    folder = Folder(tmp_path / "state")
    program = [sys.executable, "-c", START, str(folder.path)]
    env = {**os.environ, "PYTHONPATH": REPOSITORY_ROOT}
    subprocess.run(["sh", "-c", "trap '' INT; exec \"$@\"", "sh", *program], env=env, check=True)
    worker = folder.daemon("worker")
    assert worker is not None
    try:
        deadline = time.monotonic() + 20
        while not folder.tail("worker") and time.monotonic() < deadline:
            time.sleep(0.05)
        assert "default_int_handler" in folder.tail("worker")
    finally:
        folder.stop(worker)
