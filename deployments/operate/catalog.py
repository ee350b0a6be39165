"""The deployments of a configuration: one per flow and stack, scheduled as the configuration says.

Rules upheld here:
- A run that comes while one of the same deployment is going is cancelled: after downtime not all of them start at once.
- Entrypoints are modules, never files: a file would put its own folder first on the import path.
- A schedule has a slug and no `active`: whoever paused it finds it paused after the next `up`.
- What only labels enable is tagged so: while the engine does not answer, its deployments stay as they are.
- What is started by hand has forms of its own that begin harmless: a restore begins as a dry run.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from prefect import Flow
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import RunnerDeployment
from prefect.schedules import Cron, Schedule
from prefect.types.entrypoint import EntrypointType

from deployments.operate.automations import watched
from flows.backup import backup
from flows.canary import canary
from flows.drill import drill
from flows.monitor import monitor
from flows.restore import restore
from flows.retention import retention
from flows.verify import verify
from flows.wal import wal
from holdfast.config import stack as stacks
from holdfast.config.models import Config

WAL_EVERY = "*/5 * * * *"
"""How often a stack's WAL archive is looked after; `holdfast wal run` looks each minute."""

LABELLED = "enabled-by-labels"
"""The tag of deployments whose stack no configuration names."""


def deployments(
    config: Config, path: str, host: str | None = None, labelled: frozenset[str] = frozenset()
) -> list[RunnerDeployment]:
    """Every deployment of a configuration.

    Args:
        config: the configuration, with the stacks that labels enable (`services.discovery.served_stacks`).
        path: where it lies on the worker; "" for the file that HOLDFAST_CONFIG names there.
        host: named in each deployment where several hosts share a server; None where there is one.
        labelled: the stacks that only labels enable.
    """
    share = {"read_data_percent": 100 * config.verify.share} if config.verify else {}
    found = [deployment_of(verify, "repository", {"config": path, **share}, config.verify, host)]
    found.append(deployment_of(monitor, "monitor", {"config": path}, config.monitor, host))
    found.append(deployment_of(canary, "canary", {"config": path}, config.canary, host))
    for name, stack in config.stacks.items():
        made = list(_of_stack(name, stack, {"stack": name, "config": path}, host))
        for deployment in made if name in labelled else ():
            deployment.tags.append(LABELLED)
        found.extend(made)
    return found


def _of_stack(
    name: str, stack: stacks.Stack, parameters: dict[str, Any], host: str | None
) -> Iterator[RunnerDeployment]:
    point = "random" if stack.drill and stack.drill.point == "random" else "latest"
    yield deployment_of(backup, name, parameters, stack.schedule, host)
    yield deployment_of(drill, name, {**parameters, "point": point}, stack.drill, host)
    yield deployment_of(restore, name, parameters, None, host)
    if any(server.wal is not None for server in stack.postgres):
        yield deployment_of(wal, name, parameters, stacks.Schedule(cron=WAL_EVERY), host)
    if stack.retention is not None:
        yield deployment_of(retention, name, parameters, stack.retention.schedule, host)


def deployment_of(
    flow: Flow[..., Any], name: str, parameters: dict[str, Any], schedule: stacks.Schedule | None, host: str | None
) -> RunnerDeployment:
    """A flow as all of them are deployed: named, tagged, one run at a time."""
    return _template(flow).model_copy(
        update={
            "name": f"{name}@{host}" if host else name,
            "parameters": parameters,
            "schedules": [DeploymentScheduleCreate.from_schedule(_cron(schedule))] if schedule else [],
            "tags": ["holdfast", name, *(_host_tags(flow, host) if host else ())],
        }
    )


@cache
def _template(flow: Flow[..., Any]) -> RunnerDeployment:
    """What all deployments of a flow have in common: with 200 stacks, making each anew takes 7 s."""
    made = flow.to_deployment(
        name="template",
        concurrency_limit=ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW),
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    assert isinstance(made, RunnerDeployment)  # noqa: S101  a coroutine only inside an event loop
    return made


def _host_tags(flow: Flow[..., Any], host: str) -> tuple[str, ...]:
    return (host,) if flow is monitor else (host, watched(host))


def _cron(schedule: stacks.Schedule) -> Schedule:
    return Cron(schedule.cron, timezone=schedule.timezone, slug="configured")
