"""What the README shows is run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from holdfast.config.loading import from_yaml
from tests.docs.blocks import ROOT, marked
from tests.support.trees import build_sample, describe

BIN = os.path.dirname(sys.executable)


def test_the_directory_example_runs_as_it_stands(tmp_path: Path) -> None:
    build_sample(tmp_path / "documents", files=12)
    script = "set -eu\n" + marked("README.md", "directory")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}
    env = {**clean, "PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    assert describe(tmp_path / "restored") == describe(tmp_path / "documents")
    assert "no damage found" in done.stdout


def test_the_configuration_example_is_valid() -> None:
    config = from_yaml(marked("README.md", "configuration"))
    assert [source.label for source in config.stacks["shop"].sources] == ["postgres:shop-db", "volume:shop_uploads"]


def test_links_lead_somewhere() -> None:
    for page in ("README.md", "CONTRIBUTING.md", *(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/**/*.md"))):
        text = (ROOT / page).read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
            assert ((ROOT / page).parent / target).exists(), f"{page}: {target}"
