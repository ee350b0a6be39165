"""Compose itself, on the production file: version 2, which hosts have, and 1.29, which Debian has.

The older one does not know the file's top-level `name`; it gets the name as an argument, and all the rest of the file
as it stands.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from deployments.local.compose import compose_1, compose_2
from deployments.local.machine import CannotProvide

NAME = "holdfast"


@dataclass(frozen=True)
class Compose:
    """A file and how Compose is called with it; `env` is what the file asks for, and the engine in DOCKER_HOST."""

    argv: tuple[str, ...]
    env: Mapping[str, str]

    def __call__(self, *arguments: str, seconds: float = 300.0) -> str:
        """What Compose says. Fails when it fails."""
        done = subprocess.run(
            [*self.argv, *arguments],
            env={**os.environ, **self.env},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == 0, (arguments, done.stdout[-3000:], done.stderr[-3000:])
        return done.stdout


def compose(version: int, file: Path, folder: Path, variables: Mapping[str, str]) -> Compose:
    """Compose 1 or 2 for a file; the test is skipped, with the reason, where there is none. `folder` takes a copy."""
    try:
        if version == 2:
            return Compose((compose_2(), "-f", str(file)), variables)
        program = compose_1()
    except CannotProvide as error:
        pytest.skip(str(error))
    copy = folder / "compose.yaml"
    lines = file.read_text().splitlines(keepends=True)
    copy.write_text("".join(line for line in lines if line != f"name: {NAME}\n"))
    where = ("--project-name", NAME, "--project-directory", str(file.parent))
    return Compose((program, *where, "-f", str(copy)), variables)
