"""What the server itself watches over, made from code and found again by name.

Rules upheld here:
- A run whose process stopped to give signs of life (its host died, it was killed) does not stay `Running`.
- A run that failed or crashed makes the monitor look at once, instead of at its next time.
- No secret is given to the server: the monitor on the host tells people, by its own ways out.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, RunDeployment
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

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
        trigger=EventTrigger(
            expect={f"{_RUN}Failed", f"{_RUN}Crashed"},
            match=ResourceSpecification({"prefect.resource.id": f"{_RUN}*"}),
            match_related=ResourceSpecification(
                {"prefect.resource.id": [f"prefect.tag.{watched(host)}"], "prefect.resource.role": ["tag"]}
            ),
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(0),
        ),
        actions=[RunDeployment(source="selected", deployment_id=monitor, parameters=None, job_variables=None)],
    )
