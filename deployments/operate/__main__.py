"""`holdfast up`, `down` and `drain`: `python -m deployments.operate COMMAND`."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time

import click

from deployments.operate.endpoint import NAME as ENDPOINT
from deployments.operate.endpoint import ensure_endpoint
from deployments.operate.folder import Folder
from deployments.operate.server import NAME as SERVER
from deployments.operate.server import PORT, client_environment, ensure_server, wait_for_server
from holdfast.cli.failure import report, report_usage
from holdfast.config.access import no_config
from holdfast.config.loading import load
from holdfast.config.models import Config
from holdfast.errors import HoldfastError, OperateError

SCHEDULED_SECONDS = 60.0

_config = click.option(
    "--config",
    envvar="HOLDFAST_CONFIG",
    metavar="FILE",
    help="Configuration file. [env: HOLDFAST_CONFIG]",
)
_state = click.option(
    "--state",
    metavar="DIR",
    help="Where records, logs and the server's database are kept. [env: HOLDFAST_STATE]",
)
_server = click.option(
    "--server",
    metavar="URL",
    help="A Prefect server that is there already: http://host:4200/api. [env: PREFECT_API_URL]",
)


@click.group()
def main() -> None:
    """Run Holdfast: server, schedules, worker."""


@main.command(context_settings={"help_option_names": ["-h", "--help"]})
@_config
@_state
@_server
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="The address that an own server listens on.",
)
@click.option("--port", default=PORT, show_default=True, metavar="PORT", help="The port that an own server listens on.")
@click.option("--at-once", default=2, show_default=True, metavar="N", help="How many runs this host has at once.")
def up(config: str | None, state: str | None, server: str | None, host: str, port: int, at_once: int) -> None:
    """Start server and worker, and bring the deployments to what the configuration says. Safe to repeat."""
    started = time.monotonic()
    if config is None:
        raise no_config()
    path = os.path.abspath(config)
    loaded = load(path)
    folder = Folder.at(state)
    with folder.locked():
        given = server or os.environ.get("PREFECT_API_URL")
        url = given.rstrip("/").removesuffix("/api") if given else ensure_server(folder, host=host, port=port)
        env = {**client_environment(folder, f"{url}/api"), "HOLDFAST_CONFIG": path}
        _adopt(env)
        from deployments.operate.start import start  # Prefect: it reads the environment when it is imported

        wait = lambda: wait_for_server(folder, url)  # noqa: E731  handed over: imports go on while the server starts
        ensure_endpoint(folder, loaded.monitor.listen)
        upcoming = start(folder, loaded, host_of(loaded), env, wait, at_once, _say)
    _say(f"UI:      {url}")
    if loaded.monitor.listen:
        _say(f"status:  http://{loaded.monitor.listen} (and /metrics)")
    _say(f"logs:    {folder.path}")
    for line in upcoming:
        _say(line)
    _say(f"ready after {time.monotonic() - started:.1f} s; to stop: holdfast down")


@main.command(context_settings={"help_option_names": ["-h", "--help"]})
@_config
@_state
@_server
@click.option("--at-once", default=2, show_default=True, metavar="N", help="How many runs this host has at once.")
@click.option(
    "--timeout", default=1500, show_default=True, metavar="SECONDS", help="How long to wait when asked to stop."
)
@click.pass_context
def work(
    context: click.Context, config: str | None, state: str | None, server: str | None, at_once: int, timeout: int
) -> None:
    """Be the worker of this host until asked to stop (SIGTERM), then drain: for containers and systemd."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if not (server or os.environ.get("PREFECT_API_URL")):
        raise click.UsageError("name the Prefect server: --server URL or PREFECT_API_URL")
    context.invoke(up, config=config, state=state, server=server, host="", port=0, at_once=at_once)
    folder = Folder.at(state)
    while not stop.wait(1.0):
        if folder.daemon("worker") is None:
            raise OperateError("the worker ended by itself", which=str(folder.path), found=folder.tail("worker"))
    _say("asked to stop: no new run starts, waiting for those that are going")
    with folder.locked():
        _drain(folder, timeout)


@main.command(context_settings={"help_option_names": ["-h", "--help"]})
@_state
@click.option("--timeout", default=600, show_default=True, metavar="SECONDS", help="How long to wait for runs to end.")
def drain(state: str | None, timeout: int) -> None:
    """Let no new run start on this host, wait for those that are going, then stop the worker.

    `holdfast up` starts it again.
    """
    folder = Folder.at(state)
    with folder.locked():
        _drain(folder, timeout)


@main.command(context_settings={"help_option_names": ["-h", "--help"]})
@_state
@click.option("--timeout", default=600, show_default=True, metavar="SECONDS", help="How long to wait for runs to end.")
@click.option("--now", is_flag=True, help="Do not wait: runs that are going are killed.")
def down(state: str | None, timeout: int, now: bool) -> None:
    """Drain, then stop the worker and this host's own server. What was backed up needs neither."""
    folder = Folder.at(state)
    with folder.locked():
        worker = folder.daemon("worker")
        if worker is None and folder.daemon(SERVER) is None:
            _say("nothing runs here")
            return
        if now and worker is not None:
            folder.stop(worker)
        elif not now:
            _drain(folder, timeout)
        endpoint = folder.daemon(ENDPOINT)
        if endpoint is not None:
            folder.stop(endpoint)
        server = folder.daemon(SERVER)
        if server is not None:
            folder.stop(server)
            _say("the server has stopped; its history stays in " + str(folder.path / "prefect"))
    _say("down")


def _drain(folder: Folder, seconds: float) -> None:
    worker = folder.daemon("worker")
    if worker is None:
        _say("no worker runs here")
        return
    env = client_environment(folder, worker.url)
    try:
        wait_for_server(folder, worker.url.removesuffix("/api"), seconds=30)
    except OperateError as error:
        hint = "holdfast up starts an own server again; holdfast down --now does not ask what is going"
        raise OperateError("cannot ask what is going", which=error.which, found=error.found, hint=hint) from error
    _adopt(env)
    from prefect.client.orchestration import get_client

    from deployments.operate.worker import drain as drain_queue

    with get_client(sync_client=True) as client:
        drain_queue(folder, client, _queue_of(worker.pid), seconds=seconds, say=_say)
    folder.stop(worker)
    _say("the worker has stopped; no run was going")


def _queue_of(pid: int) -> str:
    """The queue that a worker was started for, from its arguments."""
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        words = file.read().decode().split("\0")
    return words[words.index("--work-queue") + 1]


def host_of(config: Config) -> str:
    """The name of this host's queue and deployments."""
    return (config.hostname or socket.gethostname()).lower()


def _adopt(env: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(env)
    os.environ["PREFECT_LOGGING_TO_API_ENABLED"] = "false"


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        main(prog_name="holdfast", standalone_mode=False)
    except HoldfastError as error:
        report(error)
        sys.exit(error.exit_code)
    except click.ClickException as problem:
        report_usage(problem)
        sys.exit(problem.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
