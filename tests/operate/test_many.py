"""Two hundred stacks on one host: all scheduled by one `up`, none made anew by the next."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.demo.ports import free_port
from tests.operate.actions import deployments, ended, start
from tests.operate.conftest import make_site

STACKS = 200


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_two_hundred_stacks_are_scheduled_and_run(tmp_path: Path) -> None:
    """`pytest -m soak tests/operate/test_many.py`; about two minutes."""
    site = make_site(tmp_path / "site", "host-a", free_port())
    site.configure(
        "".join(
            f"  s{number:03}: {{paths: [{site.folder}/source], schedule: '{number % 60} 3 * * *'}}\n"
            for number in range(STACKS)
        )
    )
    try:
        site.up()
        names = set(deployments(site))
        stacks = [f"s{number:03}@host-a" for number in range(STACKS)]
        assert {f"{flow}/{stack}" for flow in ("backup", "restore", "drill") for stack in stacks} <= names
        assert ended(site, start(site, "backup/s117@host-a")) == "Completed"
        said = site.up()
        assert f"as they should be: {len(names)} deployments" in said
        assert "made" not in said
    finally:
        site.run("down", "--now")
