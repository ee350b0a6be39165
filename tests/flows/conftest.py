"""One Prefect server for the session, and a stack that is a directory."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

os.environ["PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"] = "false"
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ["DO_NOT_TRACK"] = "1"

from prefect.testing.utilities import prefect_test_harness

from holdfast.config.loading import load
from holdfast.services.access import init_repository_at
from holdfast.services.stacks import access_of


@dataclass(frozen=True)
class Site:
    """A configuration with one stack, `docs`, whose only source is a directory."""

    config: str
    source: Path
    repository: Path


@pytest.fixture(scope="session", autouse=True)
def _prefect_server() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture
def site(tmp_path: Path) -> Site:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(20):
        (source / f"file {number}").write_bytes(random.Random(number).randbytes(20_000))
    password = tmp_path / "password"
    password.write_text("correct horse")
    password.chmod(0o600)
    config = tmp_path / "holdfast.yaml"
    config.write_text(
        f"""
version: 1
repository: {{url: {tmp_path / "repository"}, password_file: {password}}}
stacks:
  docs:
    paths: [{source}]
    schedule: 0 3 * * *
    drill: 0 6 * * sun
    retention: {{keep_last: 1, schedule: {{cron: 30 4 * * *, timezone: Europe/Berlin}}}}
verify: {{cron: 0 5 * * *, read_data: 5%}}
"""
    )
    init_repository_at(access_of(load(str(config)))).store.close()
    return Site(str(config), source, tmp_path / "repository")
