"""What the server itself watches over, made from code and found again by name.

Rules upheld here:
- A run whose process stopped to give signs of life (its host died, it was killed) does not stay `Running`.
- A run that failed or crashed makes the monitor look at once, instead of at its next time.
- People are told by the monitor on the host, by its own ways out. Only a channel that asks for it (`runs: true`) is
  told of failed runs by the server, too; its URL is then kept there, as a block.
"""

from __future__ import annotations

import re
from datetime import timedelta
from uuid import UUID

from prefect.blocks.notifications import SlackWebhook
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, RunDeployment, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from pydantic import SecretStr

from holdfast.config.monitor import Channel

SILENT = timedelta(seconds=150)
"""Five heartbeats of 30 seconds."""

_RUN = "prefect.flow-run."
_ENDS = ("Completed", "Failed", "Crashed", "Cancelled")


def zombies() -> AutomationCore:
    """Runs without a sign of life are crashed."""
    return AutomationCore(
        name="Holdfast: a run without a sign of life has crashed",
        description="A killed process tells nobody. After five missing heartbeats its run is marked as crashed.",
        trigger=EventTrigger(
            after={f"{_RUN}heartbeat"},
            expect={f"{_RUN}heartbeat", *(f"{_RUN}{end}" for end in _ENDS)},
            match=ResourceSpecification({"prefect.resource.id": f"{_RUN}*"}),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=SILENT,
        ),
        actions=[
            ChangeFlowRunState(
                name=None,
                state=StateType.CRASHED,
                message="No sign of life: its process or its host is gone.",
                force=False,
            )
        ],
    )


def watched(host: str) -> str:
    """The tag of the runs whose failure starts the monitor: not the monitor's own, which would start itself."""
    return f"watched-{host}"


def look_at_failures(host: str, monitor: UUID) -> AutomationCore:
    """A failed run of a host starts that host's monitor. Runs of the monitor itself do not."""
    return AutomationCore(
        name=f"Holdfast: a failed run on {host} makes its monitor look at once",
        description="So that people learn of it now, and not at the monitor's next time.",
        trigger=_failure(watched(host)),
        actions=[RunDeployment(source="selected", deployment_id=monitor, parameters=None, job_variables=None)],
    )


def telling(host: str) -> str:
    """How the names of the automations begin by which a host's channels are told."""
    return f"Holdfast: a failed run on {host} is told to "


def tell_of_failures(host: str, channel: str, block: UUID) -> AutomationCore:
    """A run of a host that failed or crashed is told to a channel, whatever became of the host."""
    return AutomationCore(
        name=f"{telling(host)}{channel}",
        description="By the server itself: it also works while the host's monitor does not run.",
        trigger=_failure(host),
        actions=[
            SendNotification(
                block_document_id=block,
                subject=f"Holdfast on {host}: {{{{ flow_run.name }}}} {{{{ flow_run.state.name }}}}",
                body="{{ deployment.name }}: {{ flow_run.state.message }}\n{{ flow_run|ui_url or '' }}",
            )
        ],
    )


def store_channel(host: str, channel: Channel) -> UUID:
    """The block that sends to a channel, made or changed. Raises: ConfigError.

    Of Prefect's blocks this one hands any URL that it does not know as Slack's to Apprise as it is.
    """
    name = re.sub(r"[^a-z0-9]+", "-", f"holdfast-{host}-{channel.name}".lower()).strip("-")
    block = SlackWebhook(url=SecretStr(channel.url().reveal()), notify_type="failure")
    return UUID(str(block.save(name, overwrite=True)))


def _failure(tag: str) -> EventTrigger:
    """One event for each run with this tag that fails or crashes."""
    return EventTrigger(
        expect={f"{_RUN}Failed", f"{_RUN}Crashed"},
        match=ResourceSpecification({"prefect.resource.id": f"{_RUN}*"}),
        match_related=ResourceSpecification(
            {"prefect.resource.id": [f"prefect.tag.{tag}"], "prefect.resource.role": ["tag"]}
        ),
        posture=Posture.Reactive,
        threshold=1,
        within=timedelta(0),
    )
