"""The Prefect server: one that is there already, or one of this host with its own SQLite database.

Rules upheld here:
- Nothing is sent to anybody: analytics and promotions are off, and the UI is the one that makes no external request.
- It listens on the loopback address unless told otherwise: whoever reaches its API can start a restore.
- SQLite serves one host. Several hosts share a server on PostgreSQL, which deployments/production/compose.yaml has.
"""

from __future__ import annotations

import os
import socket
import sys
import time
import urllib.request
from collections.abc import Mapping

from deployments.local.machine import REPOSITORY_ROOT
from deployments.operate.folder import Folder
from holdfast.errors import OperateError

NAME = "server"
PROGRAM = "deployments.operate.prefect_server"
PORT = 4200
READY_SECONDS = 120.0
QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_V2_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
    "PREFECT_CLI_COLORS": "false",
    "PREFECT_CLI_PROMPT": "false",
}
SLOTS = {
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_SERVER_SERVICES_REPOSSESSOR_ENABLED": "false",
}
"""The one slot of a deployment is a run's until that run ends, whatever becomes of the server meanwhile.

In memory, as Prefect keeps them, a restart loses the leases, and the engine ends a run whose lease cannot be renewed: a
backup, for a server that it does not need. By time they would be taken from every run when the server was away for more
than five minutes. And a killed run's slot would be given back twice, the second time for a run that came after it.
"""


def ensure_server(folder: Folder, *, host: str, port: int) -> str:
    """The URL of this host's own server (without `/api`), started when it does not run; it may not answer yet.

    Raises: OperateError when the port belongs to somebody else.
    """
    running = folder.daemon(NAME)
    if running is not None:
        return running.url
    _require_free(host, port)
    url = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"  # noqa: S104  compared, not bound
    argv = [sys.executable, "-m", PROGRAM, "server", "start", "--host", host, "--port", str(port)]
    # Else its pages ask the usual port, and what it sends has no links.
    env = {**server_environment(folder), "PREFECT_UI_API_URL": f"{url}/api", "PREFECT_UI_URL": url}
    folder.start(NAME, argv, env, cwd=str(folder.path), url=url)
    return url


def server_environment(folder: Folder, env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of this host's own server: settings that point to another server are left out."""
    kept = {name: value for name, value in env.items() if name not in ("PREFECT_API_URL", "PREFECT_PROFILE")}
    own = {"PREFECT_HOME": str(folder.path / "prefect"), "PYTHONPATH": str(REPOSITORY_ROOT)}
    return {**kept, **QUIET, **SLOTS, **own}


def client_environment(folder: Folder, api: str, env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of what talks to the server, and of the flow runs that a worker starts."""
    own = "127.0.0.1,localhost"
    around = ",".join(filter(None, [env.get("NO_PROXY"), own]))
    return {
        **server_environment(folder, env),
        "PREFECT_API_URL": api,
        "NO_PROXY": around,
        "no_proxy": around,
        "HOLDFAST_STATE": str(folder.path),
        "PREFECT_LOGGING_EXTRA_LOGGERS": "holdfast",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        # One arena of the C library for all threads of a run, from its first one on: see holdfast.services.memory.
        "MALLOC_ARENA_MAX": "1",
        # A server that is down for a while is waited for (about half an hour), and told then.
        "PREFECT_CLIENT_MAX_RETRIES": "10",
    }


def wait_for_server(folder: Folder, url: str, *, seconds: float = READY_SECONDS) -> None:
    """Return when the server answers. Raises: OperateError when it ended, or does not in time."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + seconds
    own = folder.daemon(NAME)
    while True:
        try:
            with opener.open(f"{url}/api/health", timeout=5):
                return
        except OSError as error:
            ended = own is not None and not own.alive
            if ended or time.monotonic() > deadline:
                found = folder.tail(NAME) if ended else str(error)
                hint = f"less {folder.log(NAME)}" if own is not None else f"curl {url}/api/health"
                what = "the Prefect server ended" if ended else "the Prefect server does not answer"
                raise OperateError(what, which=url, found=found, hint=hint) from error
        time.sleep(0.2)


def _require_free(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise OperateError(
                "the server's port is taken",
                which=f"{host}:{port}",
                found=error.strerror,
                hint=f"holdfast up --port {port + 1}; or, if a Prefect server listens there: holdfast up --server "
                f"http://{host}:{port}/api",
            ) from error
