"""Serve every flow for every stack of a configuration: `python -m deployments.serve --config FILE`.

Rules upheld here:
- The deployments are those of `deployments.operate.catalog`, for the stacks of the configuration and for those that
  labels enable. A stack that is labelled later is served without a restart; none is taken away while this runs.
- The process that serves must not be stopped while a flow holds something: see docs/prefect.md, "Stopping".
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys

import click
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import TerminationSignal
from prefect.runner import Runner

from deployments.operate.catalog import deployments
from holdfast.config.loading import load
from holdfast.errors import HoldfastError
from holdfast.services.discovery import served_stacks

log = logging.getLogger(__name__)


@click.command()
@click.option("--config", required=True, envvar="HOLDFAST_CONFIG", type=click.Path(dir_okay=False))
@click.option(
    "--look-every", default=600, show_default=True, metavar="SECONDS", help="How often newly labelled stacks are found."
)
def main(config: str, look_every: int) -> None:
    """Serve the flows of a configuration, and of what labels enable, until stopped."""
    path = os.path.abspath(config)
    os.environ.setdefault("PREFECT_LOGGING_EXTRA_LOGGERS", "holdfast")
    try:
        asyncio.run(_serve(path, look_every))
    except HoldfastError as error:
        lines = [f"holdfast: error: {error}", *(f"  {line}" for line in getattr(error, "problems", ()))]
        sys.stderr.write("\n".join(lines) + "\n")
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, TerminationSignal):
        sys.stdout.write("stopped\n")


async def _serve(path: str, look_every: float) -> None:
    runner = Runner()
    known: set[str] = set()
    await _add_new(runner, path, known)
    following = asyncio.create_task(_follow(runner, path, known, look_every))
    try:
        await runner.start()
    finally:
        following.cancel()


async def _follow(runner: Runner, path: str, known: set[str], look_every: float) -> None:
    while True:
        await asyncio.sleep(look_every)
        try:
            await _add_new(runner, path, known)
        except HoldfastError as error:
            log.warning("what labels enable was not looked at: %s", error)


async def _add_new(runner: Runner, path: str, known: set[str]) -> None:
    """Serve what is not served yet. Raises: HoldfastError (configuration, engine)."""
    for deployment in await asyncio.to_thread(_wanted, path):  # inside the loop Prefect would make coroutines of them
        if deployment.full_name not in known:
            await runner.aadd_deployment(deployment)
            known.add(deployment.full_name)
            sys.stdout.write(f"serving {deployment.full_name}\n")
            sys.stdout.flush()


def _wanted(path: str) -> list[RunnerDeployment]:
    served = served_stacks(load(path))
    return deployments(served.config, path, labelled=served.labelled)


if __name__ == "__main__":
    main()
