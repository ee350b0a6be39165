"""From a server that starts to scheduled runs: the steps of `up` that speak to Prefect."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from cronsim import CronSim
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import RunnerDeployment
from prefect.events.schemas.automations import AutomationCore

from deployments.operate.again import asking_client
from deployments.operate.automations import look_at_failures, store_channel, tell_of_failures, telling, zombies
from deployments.operate.folder import Folder
from deployments.operate.follow import bring_up_to_date, follow
from deployments.operate.reconcile import ensure_automations, ensure_pool, remove_automations
from deployments.operate.runs import next_runs
from deployments.operate.worker import ensure_worker, resume, wait_until_online
from holdfast.config.models import Config

SCHEDULED_SECONDS = 60.0
_SHOWN = 5
_SOON = timedelta(days=30)
"""What the server's scheduler surely looks ahead (100 days, PREFECT_SERVER_SERVICES_SCHEDULER_MAX_SCHEDULED_TIME)."""


def start(
    folder: Folder,
    config: Config,
    host: str,
    env: dict[str, str],
    wait_for_server: Callable[[], None],
    runs_at_once: int,
    say: Callable[[str], None],
) -> list[str]:
    """Pool, queue, deployments, automations, worker; what runs next, in words. Raises: OperateError."""
    wait_for_server()
    with asking_client() as client:
        queue = ensure_pool(client, host, runs_at_once=runs_at_once)
        wanted = bring_up_to_date(client, config, "", host, say)
        automations = _automations(client, host, config)
        for name in ensure_automations(client, automations):
            say(f"automation: {name}")
        for name in remove_automations(client, telling(host), automations):
            say(f"automation removed: {name}")
        worker = ensure_worker(folder, client, host, env, say)
        resume(folder, client, queue)
        wait_until_online(folder, client, worker, host)
        return _upcoming(client, host, [deployment for deployment in wanted if deployment.flow_name != follow.name])


def _automations(client: SyncPrefectClient, host: str, config: Config) -> list[AutomationCore]:
    monitor = client.read_deployment_by_name(f"monitor/monitor@{host}")
    told = [channel for channel in config.notify if channel.runs]
    tellers = [tell_of_failures(host, channel.name, store_channel(host, channel)) for channel in told]
    return [zombies(), look_at_failures(host, monitor.id), *tellers]


def _upcoming(client: SyncPrefectClient, host: str, wanted: Sequence[RunnerDeployment]) -> list[str]:
    """The next runs. That the scheduler made some is the proof that it works: with a wrong library it makes none."""
    if not any(deployment.schedules for deployment in wanted):
        return ["no schedule is configured: runs are started by hand only"]
    if not any(_is_active(client, deployment) for deployment in wanted if deployment.schedules):
        return [f"no schedule comes in the next {_SOON.days} days, or all are paused"]
    deadline = time.monotonic() + SCHEDULED_SECONDS
    # Looking at labels comes all the time, and is not what anybody waits for.
    looking = client.read_deployment_by_name(f"{follow.name}/labels@{host}").id
    while True:
        runs = [run for run in next_runs(client, host) if run.expected_start_time and run.deployment_id != looking]
        if runs or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    if not runs:
        return [f"WARNING: the server scheduled no run in {SCHEDULED_SECONDS:.0f} s; its log may say why"]
    first: dict[UUID, datetime] = {}
    for run in runs:
        if run.deployment_id is not None and run.expected_start_time is not None:
            first.setdefault(run.deployment_id, run.expected_start_time)
    nearest = sorted(first.items(), key=lambda item: item[1])[:_SHOWN]
    lines = [f"next:    {when.astimezone():%Y-%m-%d %H:%M}  {_full_name(client, key)}" for key, when in nearest]
    return [*lines, f"{len(runs)} runs are scheduled" if len(runs) < 200 else "200 runs and more are scheduled"]


def _is_active(client: SyncPrefectClient, deployment: RunnerDeployment) -> bool:
    """Whether the scheduler will make a run of it now: it may be paused, and what comes once a year is made later."""
    found = client.read_deployment_by_name(f"{deployment.flow_name}/{deployment.name}")
    return not found.paused and any(schedule.active and _is_soon(schedule.schedule) for schedule in found.schedules)


def _is_soon(schedule: object) -> bool:
    if not isinstance(schedule, CronSchedule):
        return True
    now = datetime.now(ZoneInfo(schedule.timezone or "UTC"))
    return next(CronSim(schedule.cron, now)) < now + _SOON


def _full_name(client: SyncPrefectClient, deployment: UUID) -> str:
    found = client.read_deployment(deployment)
    return f"{client.read_flow(found.flow_id).name} {found.name}"
