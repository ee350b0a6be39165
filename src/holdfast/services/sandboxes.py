"""Where a drill restores to: scratch volumes and database servers that are gone afterwards.

Rules upheld here:
- With an engine: a volume and a container from the recorded image, on an internal network, all labelled (see
  `engine.sandbox`). Without one: a temporary directory, and a server of local programs that listens on a socket only.
- Leaving a sandbox destroys it; what a killed drill left is removed when the next one starts.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from holdfast.config.models import Config
from holdfast.config.stack import Stack
from holdfast.errors import CommandFailed, DrillFailed, EngineUnavailable, HoldfastError
from holdfast.model.facts import PostgresFacts
from holdfast.postgres.scratch import reap_scratch, scratch_folder, scratch_server
from holdfast.postgres.server import Server, container_server

if TYPE_CHECKING:
    from holdfast.engine.client import Engine
    from holdfast.engine.sandbox import Sandbox

log = logging.getLogger(__name__)

_READY_SECONDS = 120.0


class Sandboxes:
    """Makes sandboxes on an engine, or on this machine where there is none."""

    def __init__(self, engine: Engine | None) -> None:
        self._engine = engine

    @property
    def engine(self) -> Engine | None:
        """The engine that they are made on."""
        return self._engine

    def free_space(self) -> float:
        """Bytes that are free where trees and databases are restored to."""
        engine = self._engine
        if engine is not None and engine.same_machine():
            root = str(engine.info().get("DockerRootDir") or "")
            if os.path.isdir(root):
                return free_space(root)
        return free_space(tempfile.gettempdir())

    @contextmanager
    def directory(self) -> Iterator[str]:
        """An empty directory to restore a tree into."""
        engine = self._engine
        if engine is not None and engine.same_machine():
            from holdfast.engine.sandbox import Sandbox
            from holdfast.engine.volumes import readable_directly

            with Sandbox(engine) as sandbox:
                volume = sandbox.volume("tree")
                if readable_directly(engine, volume) is None:
                    yield volume.mountpoint
                    return
        with scratch_folder() as folder:
            target = os.path.join(folder, "tree")
            os.mkdir(target)
            yield target

    @contextmanager
    def postgres(self, facts: PostgresFacts) -> Iterator[Server]:
        """An empty server of the version that was dumped."""
        if facts.image is None or self._engine is None:
            with scratch_server(facts.version, facts.user) as server:
                yield server
            return
        from holdfast.engine.sandbox import Sandbox

        with Sandbox(self._engine) as sandbox:
            yield start_postgres(self._engine, sandbox, facts)


@contextmanager
def sandboxes_of(config: Config) -> Iterator[Sandboxes]:
    """Sandboxes on the configured engine; on this machine when the configuration needs none and none answers.

    Raises: EngineUnavailable when something of the configuration lives in Docker.
    """
    from holdfast.engine.client import connect
    from holdfast.engine.sandbox import reap

    reap_scratch(tempfile.gettempdir())
    with contextlib.ExitStack() as stack:
        try:
            engine = stack.enter_context(connect(config.engine.url))
        except EngineUnavailable:
            if any(_lives_in_docker(declared) for declared in config.stacks.values()):
                raise
            yield Sandboxes(None)
            return
        reap(engine)
        yield Sandboxes(engine)


def start_postgres(engine: Engine, sandbox: Sandbox, facts: PostgresFacts, names: Sequence[str] = ()) -> Server:
    """An empty server in a sandbox, from the recorded image; `names` is what others there call it.

    Raises: DrillFailed, SourceNotFound (the image), EngineRefused, EngineUnavailable.
    """
    from holdfast.engine.exec import ContainerRunner

    password = secrets.token_hex(16)
    settings = {"environment": {"POSTGRES_USER": facts.user, "POSTGRES_PASSWORD": password}}
    name = sandbox.container("db", facts.image or "", settings=settings, names=names)
    runner = ContainerRunner(engine, name)
    wait_until_ready(runner, facts.user)
    return container_server(runner, user=facts.user, password=password, image=facts.image)


def free_space(path: str) -> float:
    """Bytes that are free on the filesystem of a directory."""
    status = os.statvfs(path)
    return float(status.f_bavail * status.f_frsize)


def memory_available() -> float | None:
    """Bytes of memory that could be had now (proc(5), MemAvailable); None where that is not told."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return float(line.split()[1]) * 1024
    except OSError:
        return None
    return None


def _lives_in_docker(stack: Stack) -> bool:
    return bool(stack.volumes) or any(server.container for server in stack.postgres)


def wait_until_ready(runner: object, user: str) -> None:
    """Wait for the server proper: while it initializes, a temporary one answers on the socket, but not over TCP."""
    from holdfast.engine.exec import ContainerRunner

    assert isinstance(runner, ContainerRunner)  # noqa: S101  for the type checker: imported where it is needed
    deadline = time.monotonic() + _READY_SECONDS
    found = "it does not answer"
    while time.monotonic() < deadline:
        try:
            runner.run(["pg_isready", "--host", "127.0.0.1", "--username", user, "--timeout", "3"])
        except CommandFailed as error:
            found = error.found or found
        except HoldfastError as error:
            raise DrillFailed("the database of the sandbox ended", which=runner.where, found=str(error)) from error
        else:
            return
        time.sleep(0.2)
    raise DrillFailed(
        "the database of the sandbox does not start", which=runner.where, wanted=f"{_READY_SECONDS:.0f} s", found=found
    )
