"""A Prefect server, a worker and a stack that is a directory, started with the commands that an operator uses."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from deployments.demo.ports import free_port
from deployments.local.machine import REPOSITORY_ROOT
from deployments.operate.folder import Folder
from holdfast.config.loading import load
from holdfast.repository.keys import add_key
from holdfast.services.access import init_repository_at
from holdfast.services.stacks import access_of

HOLDFAST = os.path.join(os.path.dirname(sys.executable), "holdfast")
CLEAN = {n: v for n, v in os.environ.items() if not n.startswith(("HOLDFAST_", "AWS_", "PREFECT_"))}
QUICK = {"PREFECT_WORKER_QUERY_SECONDS": "1", "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5"}
NEVER = "0 0 29 2 *"
"""A schedule that does not come while a test runs."""


@dataclass
class Site:
    """One host of a Prefect server."""

    folder: Path
    host: str
    url: str
    port: int
    repository: Path
    config: Path = field(init=False)
    listen: str = ""
    said: str = ""

    def __post_init__(self) -> None:
        self.config = self.folder / "holdfast.yaml"

    @property
    def state(self) -> Folder:
        return Folder(self.folder / "state")

    @property
    def env(self) -> dict[str, str]:
        return {**CLEAN, "HOLDFAST_CONFIG": str(self.config), "HOLDFAST_STATE": str(self.folder / "state"), **QUICK}

    def configure(self, stacks: str = "", more: str = "", engine: str = "unix:///nowhere.sock") -> None:
        """Write a configuration with the stack `docs` and what is given."""
        if "monitor:" not in more:
            more += f"monitor: {NEVER}\n"  # it would come in between, and cancel a run that a test starts
        self.config.write_text(
            f"version: 1\nhostname: {self.host}\n"
            f"repository: {{url: {self.repository}, password_file: {self.folder}/password}}\n"
            f"engine: {{url: {engine}}}\n"
            f"stacks:\n  docs: {{paths: [{self.folder}/source], schedule: {NEVER}, drill: {NEVER}}}\n{stacks}{more}"
        )

    def get(self, address: str) -> str:
        """What a URL of this machine answers."""
        with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310  our own server
            return str(answer.read().decode())

    def run(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [HOLDFAST, *arguments], env=self.env, cwd=REPOSITORY_ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, (arguments, done.stdout, done.stderr)
        return done.stdout + done.stderr

    @contextlib.contextmanager
    def working(self, server: str) -> Iterator[subprocess.Popen[str]]:
        """This host's worker as containers and systemd run it: in front, until it is asked to stop."""
        argv = [sys.executable, "-m", "deployments.operate", "work", "--server", server, "--timeout", "60"]
        env = {**self.env, "PYTHONPATH": REPOSITORY_ROOT}
        with subprocess.Popen(argv, env=env, cwd=REPOSITORY_ROOT, stdout=subprocess.PIPE, text=True) as process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()

    def up(self, *more: str) -> str:
        return self.run("up", "--port", str(self.port), *more)

    @contextlib.contextmanager
    def client(self) -> Iterator[Any]:
        from prefect.client.orchestration import SyncPrefectClient

        with SyncPrefectClient(f"{self.url}/api") as client:
            yield client


def make_site(folder: Path, host: str, port: int, repository: Path | None = None) -> Site:
    source = folder / "source"
    source.mkdir(parents=True)
    for number in range(5):
        (source / f"file {number}").write_bytes(random.Random(number).randbytes(20_000))
    (folder / "password").write_text("correct horse")
    (folder / "password").chmod(0o600)
    made = Site(folder, host, f"http://127.0.0.1:{port}", port, repository or folder / "repository")
    made.configure()
    if repository is None:
        with init_repository_at(access_of(load(str(made.config)))) as opened:
            add_key(opened.store, opened.key, "kept in a safe", n=1 << 10)
    return made


@dataclass
class Receiver:
    """A local server that takes what is posted to it."""

    port: int
    got: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    """A webhook's other end."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            made.got.append(self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode())
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made = Receiver(server.server_port)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield made
        server.shutdown()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[Site]:
    """A host that is up with all that can be configured; each test leaves it up. An `up` takes seconds: few do it."""
    made = make_site(tmp_path_factory.mktemp("site"), "host-a", free_port())
    made.listen = f"127.0.0.1:{free_port()}"
    (made.folder / "hook").write_text(f"json://127.0.0.1:{receiver.port}/hook")
    (made.folder / "hook").chmod(0o600)
    made.configure(
        f"  more: {{paths: [{made.folder}/source], schedule: '*/7 * * * *'}}\n"
        f"  less: {{paths: [{made.folder}/source], schedule: '{NEVER}'}}\n",
        f"monitor: {{cron: '{NEVER}', listen: '{made.listen}', space_warning: 100%, space_critical: 100%}}\n"
        f"notify: [{{name: hook, url_file: {made.folder}/hook, runs: true, severity: critical}}]\n",
    )
    try:
        made.said = made.up()
        yield made
    finally:
        made.run("down", "--now")


def until(
    condition: Callable[[], Any], seconds: float = 60.0, every: float = 0.5, seen: Callable[[], str] = lambda: ""
) -> Any:
    """The first true answer. Fails after so many seconds, and tells what is `seen` then."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"it did not happen in {seconds:.0f} s; {seen()}"
        time.sleep(every)
    return answer
