"""Serve every flow for every stack of a configuration: `python -m deployments.serve --config FILE`.

Rules upheld here:
- Each stack has a deployment per flow, scheduled as the configuration says; a run that comes while one is going is
  cancelled, so that after downtime not all of them start at once.
- Entrypoints are modules, never files: a file would put its own folder first on the import path.
- The process that serves must not be stopped while a flow holds something: see docs/prefect.md, "Stopping".
"""

from __future__ import annotations

import os
import sys
from typing import Any

import click
from prefect import Flow, serve
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import RunnerDeployment
from prefect.schedules import Cron, Schedule
from prefect.types.entrypoint import EntrypointType

from flows.backup import backup
from flows.drill import drill
from flows.restore import restore
from flows.retention import retention
from flows.verify import verify
from holdfast.config import stack as stacks
from holdfast.config.loading import load
from holdfast.config.models import Config
from holdfast.errors import HoldfastError
from holdfast.services.discovery import chosen_stacks


def deployments(config: Config, path: str) -> list[RunnerDeployment]:
    """Every deployment of a configuration."""
    found = [_deployment(verify, "repository", {"config": path, **_share(config)}, config.verify)]
    for name, stack in config.stacks.items():
        parameters = {"stack": name, "config": path}
        found.append(_deployment(backup, name, parameters, stack.schedule))
        found.append(_deployment(drill, name, parameters, stack.drill))
        found.append(_deployment(restore, name, parameters, None))
        if stack.retention is not None:
            found.append(_deployment(retention, name, parameters, stack.retention.schedule))
    return found


def _deployment(
    flow: Flow[..., Any], name: str, parameters: dict[str, Any], schedule: stacks.Schedule | None
) -> RunnerDeployment:
    made = flow.to_deployment(
        name=name,
        parameters=parameters,
        schedules=[_cron(schedule)] if schedule else [],
        tags=["holdfast", name],
        concurrency_limit=ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW),
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    assert isinstance(made, RunnerDeployment)  # noqa: S101  a coroutine only inside an event loop
    return made


def _cron(schedule: stacks.Schedule) -> Schedule:
    return Cron(schedule.cron, timezone=schedule.timezone)


def _with_labelled(config: Config) -> Config:
    """The configuration with the stacks that labels enable, as they are now: serve again when labels change."""
    found, enabled = chosen_stacks(config, ())
    return found.model_copy(update={"stacks": {name: found.stacks[name] for name in enabled}})


def _share(config: Config) -> dict[str, float]:
    return {"read_data_percent": 100 * config.verify.share} if config.verify else {}


@click.command()
@click.option("--config", required=True, envvar="HOLDFAST_CONFIG", type=click.Path(dir_okay=False))
def main(config: str) -> None:
    """Serve the flows of a configuration until stopped."""
    path = os.path.abspath(config)
    try:
        made = deployments(_with_labelled(load(path)), path)
    except HoldfastError as error:
        lines = [f"holdfast: error: {error}", *(f"  {line}" for line in getattr(error, "problems", ()))]
        sys.stderr.write("\n".join(lines) + "\n")
        sys.exit(error.exit_code)
    os.environ.setdefault("PREFECT_LOGGING_EXTRA_LOGGERS", "holdfast")
    serve(*made)


if __name__ == "__main__":
    main()
