"""`holdfast demo`: the main job on a sample stack, shown."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click

from holdfast.errors import ConfigError


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(arguments: tuple[str, ...]) -> int:
    """Back up a sample stack twice, verify, apply retention, destroy it, restore it, compare, show the proof.

    The demo is part of the source tree, beside the flows that it runs.
    """
    root = _source_tree()
    done = subprocess.run(
        [sys.executable, "-m", "deployments.demo", *arguments],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        check=False,
    )
    return done.returncode


def _source_tree() -> Path:
    for root in (Path.cwd(), *Path(__file__).resolve().parents):
        if (root / "deployments" / "demo" / "__main__.py").is_file() and (root / "flows").is_dir():
            return root
    raise ConfigError(
        "the demo is not here",
        wanted="Holdfast's source tree, which holds flows/ and deployments/",
        found=str(Path.cwd()),
        hint="clone the repository, then in it: make demo",
    )
