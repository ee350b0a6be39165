"""The worker of a host: started after what the last one left is cleared up, stopped only when nothing runs under it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import WorkerFilter, WorkerFilterStatus
from prefect.client.schemas.objects import WorkQueue

from deployments.local.machine import REPOSITORY_ROOT
from deployments.operate.folder import Daemon, Folder
from deployments.operate.reconcile import POOL
from deployments.operate.runs import GOING, crash_orphans, runs_of, skip_missed
from holdfast.errors import OperateError

NAME = "worker"
DRAINED = "drained"
ONLINE_SECONDS = 60.0


def ensure_worker(
    folder: Folder, client: SyncPrefectClient, host: str, env: dict[str, str], say: Callable[[str], None]
) -> Daemon:
    """The host's worker, started when it does not run. Before that, orphaned and missed runs are cleared up."""
    running = folder.daemon(NAME)
    if running is not None and running.url != env["PREFECT_API_URL"]:
        raise OperateError(
            "the worker of this host works for another server",
            which=running.url,
            wanted=env["PREFECT_API_URL"],
            hint="holdfast down, then holdfast up",
        )
    if running is not None:
        return running
    clear_up(client, host, say)
    argv = [sys.executable, "-m", "prefect", "worker", "start", "--type", "process", "--pool", POOL]
    argv += ["--work-queue", host, "--name", host, "--install-policy", "never"]
    return folder.start(NAME, argv, env, cwd=str(REPOSITORY_ROOT), url=env["PREFECT_API_URL"])


def clear_up(client: SyncPrefectClient, host: str, say: Callable[[str], None]) -> None:
    """Tell the server what became of runs that nobody carries on."""
    for run in crash_orphans(client, host):
        say(f"its process is gone, now marked as crashed: {run.name}")
    missed = skip_missed(client, host, now=datetime.now(UTC))
    if missed:
        say(f"missed while no worker was there, replaced by later runs of the same: {len(missed)}")


def wait_until_online(folder: Folder, client: SyncPrefectClient, worker: Daemon, host: str) -> None:
    """Return when the server knows the worker. Raises: OperateError."""
    deadline = time.monotonic() + ONLINE_SECONDS
    online = WorkerFilter(status=WorkerFilterStatus(any_=["ONLINE"]))
    while host not in {found.name for found in client.read_workers_for_work_pool(POOL, worker_filter=online)}:
        if not worker.alive or time.monotonic() > deadline:
            what = "the worker does not come online" if worker.alive else "the worker ended"
            raise OperateError(what, which=host, found=folder.tail(NAME), hint=f"less {folder.log(NAME)}")
        time.sleep(0.3)


def resume(folder: Folder, client: SyncPrefectClient, queue: WorkQueue) -> None:
    """Open the queue again when it was a drain of ours that closed it; an operator's pause stays."""
    if folder.marked(DRAINED):
        client.update_work_queue(queue.id, is_paused=False)
        folder.mark(DRAINED, present=False)


def drain(folder: Folder, client: SyncPrefectClient, host: str, *, seconds: float, say: Callable[[str], None]) -> None:
    """Let no new run start, and wait until none is going. Raises: OperateError when some still are after `seconds`."""
    queue = client.read_work_queue_by_name(host, work_pool_name=POOL)
    if not queue.is_paused:
        folder.mark(DRAINED, present=True)
        client.update_work_queue(queue.id, is_paused=True)
    deadline = time.monotonic() + seconds
    told: set[str] = set()
    while going := runs_of(client, host, GOING):
        for run in going:
            if run.name not in told:
                told.add(run.name)
                say(f"waiting for: {run.name}")
        if folder.daemon(NAME) is None:  # nobody carries them on
            crash_orphans(client, host)
        if time.monotonic() > deadline:
            raise OperateError(
                "runs are still going; nothing was stopped, and no new one starts",
                which=", ".join(run.name for run in going),
                wanted=f"none after {seconds:.0f} s",
                hint="wait longer: holdfast drain --timeout SECONDS; or kill them: holdfast down --now",
            )
        time.sleep(1.0)
