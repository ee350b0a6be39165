"""Commands that live in the source tree, beside the flows.

They run in a process of their own, so that Prefect is not loaded by any other command.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from holdfast.errors import ConfigError


def run_module(module: str, arguments: Sequence[str], what: str) -> int:
    """Run a module of the source tree; its exit status. Raises: ConfigError when this is not a source tree."""
    root = source_tree(what)
    known = os.environ.get("PYTHONPATH")
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env={**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{known}" if known else str(root)},
        check=False,
    )
    return done.returncode


def source_tree(what: str) -> Path:
    """Where flows/ and deployments/ are. Raises: ConfigError."""
    for root in (Path.cwd(), *Path(__file__).resolve().parents):
        if (root / "deployments" / "operate" / "__main__.py").is_file() and (root / "flows").is_dir():
            return root
    raise ConfigError(
        f"{what} is not here",
        wanted="Holdfast's source tree, which holds flows/ and deployments/",
        found=str(Path.cwd()),
        hint="clone the repository and run it there; or use the worker image",
    )
