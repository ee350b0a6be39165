"""What the repository's tests share: a sample tree, and restic as the referee."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.repositories import PASSWORD
from tests.support.trees import build_sample, build_special

Restic = Callable[..., str]


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    root = tmp_path / "sample"
    build_sample(root)
    if os.geteuid() == 0:
        build_special(root)
    return root


@pytest.fixture
def referee(tmp_path: Path) -> Restic:
    """Runs restic on a repository: `referee(path, "check", "--read-data")`; fails the test when restic does."""
    binary = shutil.which("restic")
    if binary is None:
        pytest.skip("restic is not installed: `make test` installs it where it can")

    def run(repository: Path, *arguments: str, check: bool = True) -> str:
        env = {**os.environ, "RESTIC_PASSWORD": PASSWORD, "RESTIC_CACHE_DIR": str(tmp_path / "restic-cache")}
        done = subprocess.run(
            [binary, "--repo", str(repository), *arguments], env=env, capture_output=True, text=True, check=False
        )
        assert not check or done.returncode == 0, done.stderr + done.stdout
        return done.stdout + done.stderr

    return run
