"""What every test may ask for: a private engine, images, an S3 server, restic. Each is started on first use, once.

Rules upheld here:
- One private engine and one S3 server per process of pytest; they end with it, also when it is killed.
- A part that cannot be had here skips the tests that need it, with its reason; where it can be had (root on a
  Debian-like system with the privileges of one), its failure is a failure.
- Property tests try the same examples each time, so that a red run is a change's doing. New examples:
  `HOLDFAST_FUZZ=1 make test ARGS=...`.
- Tests marked `soak` or `bench` run only when asked for with -m.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import docker
import hypothesis
import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if ROOT not in sys.path:  # plain `pytest` does not put the repository's root there; `python -m pytest` does
    sys.path.insert(0, ROOT)

from deployments.local import engine, images, machine, s3  # noqa: E402 - after the path above

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

# Journals and locks of what tests hold are theirs, and not the machine's.
_own_state: str | None = None
if "HOLDFAST_STATE" not in os.environ or "PYTEST_XDIST_WORKER" in os.environ:  # a worker inherits the controller's
    _own_state = os.environ["HOLDFAST_STATE"] = tempfile.mkdtemp(prefix="holdfast-state-")

hypothesis.settings.register_profile(
    "holdfast", derandomize=not os.environ.get("HOLDFAST_FUZZ"), database=None, deadline=None
)
hypothesis.settings.load_profile("holdfast")

ONLY_WHEN_ASKED = {"soak", "bench"}


@dataclass(frozen=True)
class Restic:
    """The restic program and an environment to run it in: its cache is a folder of this session."""

    path: str
    env: dict[str, str]


@pytest.fixture(scope="session")
def engine_socket() -> Iterator[str]:
    """The URL of a private Docker Engine, `unix:///...`; tests may do to it what they like."""
    reason = engine.private_engine_is_possible()
    if reason is not None:
        pytest.skip(reason)
    try:
        private = engine.PrivateEngine().start()
    except machine.CannotProvide as error:
        _missing(error)
    yield private.url
    private.stop()


@pytest.fixture
def engine_client(engine_socket: str) -> Iterator[docker.DockerClient]:
    """The SDK's client of the private engine, which knows nothing of any other."""
    with contextlib.closing(docker.DockerClient(base_url=engine_socket)) as client:
        yield client


@pytest.fixture(scope="session")
def postgres_image(engine_socket: str) -> str:
    """A PostgreSQL image on the private engine, on the conventions of the official one."""
    try:
        return images.postgres_image(engine_socket)
    except machine.CannotProvide as error:
        _missing(error)


@pytest.fixture(scope="session")
def blank_image(engine_socket: str) -> str:
    """A tiny image on the private engine, with a shell; its containers sleep."""
    try:
        return images.blank_image(engine_socket)
    except machine.CannotProvide as error:
        _missing(error)


@pytest.fixture(scope="session")
def rclone_s3() -> Iterator[s3.S3Endpoint]:
    """A real S3 server on this machine: endpoint, access_key, secret_key, directory (its buckets are folders there)."""
    with s3.RcloneServer() as server:
        yield server


@pytest.fixture(scope="session")
def restic(tmp_path_factory: pytest.TempPathFactory) -> Restic:
    """The restic program (`path`), and the environment to run it in (`env`); add the repository and the password."""
    try:
        path = s3.restic_binary()
    except machine.CannotProvide as error:
        _missing(error)
    folder = str(tmp_path_factory.mktemp("restic"))
    return Restic(
        path, {"PATH": machine.full_path(), "HOME": folder, "RESTIC_CACHE_DIR": os.path.join(folder, "cache")}
    )


def pytest_unconfigure() -> None:
    """At the end of each process, a worker's too: what it kept of itself goes."""
    if _own_state is not None:
        shutil.rmtree(_own_state, ignore_errors=True)


def _missing(error: machine.CannotProvide) -> NoReturn:
    """Skip with the reason, unless this machine should have been able to have the part."""
    if machine.installing_is_possible() is None:
        pytest.fail(f"{error} (hint: {error.hint})", pytrace=False)
    pytest.skip(str(error))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what runs only when asked for."""
    if config.getoption("markexpr"):
        return
    left_out = [item for item in items if ONLY_WHEN_ASKED & {mark.name for mark in item.iter_markers()}]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Repeat, next to pytest's own summary, which of the checks before it failed."""
    failed = os.environ.get("HOLDFAST_FAILED_CHECKS")
    if failed:
        terminalreporter.section("checks", red=True, bold=True)
        terminalreporter.write_line(f"FAILED before the tests: {failed} (see above)")
