"""What system tests share: a client of the private engine that knows nothing of any other engine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import docker
import pytest


@pytest.fixture
def engine_client(engine_socket: str) -> Iterator[docker.DockerClient]:
    """The SDK's client of the private engine."""
    with contextlib.closing(docker.DockerClient(base_url=engine_socket)) as client:
        yield client
