"""What is served follows the host: a stack that somebody labels is scheduled, and nothing is edited or restarted.

Rules upheld here:
- An engine that does not answer takes no schedule away. Where anything of the host depends on it, only what is missing
  is made until it answers: labels may say what the configuration alone does not.
- Following changes what `holdfast up` would change, and nothing else: an operator's pauses stay.
"""

from __future__ import annotations

from collections.abc import Callable

from prefect import flow, get_run_logger
from prefect.client.orchestration import SyncPrefectClient
from prefect.deployments.runner import RunnerDeployment

from deployments.operate.again import asking_client
from deployments.operate.catalog import LABELLED, deployment_of, deployments
from deployments.operate.reconcile import Changes, ensure_deployments, has_tagged, told
from holdfast.config.access import find_config
from holdfast.config.loading import load
from holdfast.config.models import Config
from holdfast.config.stack import Schedule
from holdfast.errors import ConfigError
from holdfast.services.discovery import served_stacks
from holdfast.services.stacks import needs_engine
from tasks.common import explained, tag_run

EVERY = "*/10 * * * *"
"""How often the host's labels are looked at; `holdfast up` looks at once."""


@flow(name="follow", flow_run_name="follow {host}", persist_result=False)
def follow(host: str, config: str = "") -> None:
    """Schedule the stacks that labels of this host enable, and no longer those that are gone.

    Args:
        host: The name of this host's queue.
        config: The configuration file on the worker; empty for the one that HOLDFAST_CONFIG names.
    """
    tag_run("follow")
    with explained():
        path = find_config(config or None)
        if path is None:
            raise ConfigError("no configuration is named", wanted="the parameter config, or HOLDFAST_CONFIG")
        with asking_client() as client:
            bring_up_to_date(client, load(path), config, host, get_run_logger().info)


def bring_up_to_date(
    client: SyncPrefectClient, config: Config, path: str, host: str, say: Callable[[str], None]
) -> list[RunnerDeployment]:
    """Make the deployments of a host what configuration and labels say; all that are wanted."""
    served = served_stacks(config)
    follows = deployment_of(follow, "labels", {"host": host, "config": path}, Schedule(cron=EVERY), host)
    wanted = [*deployments(served.config, path, host, served.labelled), follows]
    blind = not served.asked and (needs_engine(config) or has_tagged(client, host, LABELLED))
    changes: Changes = ensure_deployments(client, host, wanted, only_missing=blind)
    told(changes, say)
    if blind:
        say("the engine does not answer: what labels say is not known; nothing is changed or removed until it does")
    return wanted
