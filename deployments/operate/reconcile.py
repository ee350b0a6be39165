"""Bring a Prefect server to what the configuration says: pool, queue, deployments, automations. Nothing twice.

Rules upheld here:
- A deployment that is already as it should be is not touched: its scheduled runs stay. Whether it is, tells the digest
  in its version.
- A schedule or a deployment that an operator paused stays paused.
- A deployment of this host whose stack or schedule is gone goes, too; those of other hosts stay.
- Where it is not known what is wanted of what is there, it stays as it is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.objects import WorkQueue
from prefect.client.schemas.responses import DeploymentResponse
from prefect.deployments.runner import RunnerDeployment
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

POOL = "holdfast"
TAG = "holdfast"
_PAGE = 200
_TOLD_EVERY = 100
_SHOWN = 20


@dataclass(frozen=True)
class Changes:
    """What had to be done, by deployment name."""

    made: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    kept: int


def ensure_pool(client: SyncPrefectClient, host: str, *, runs_at_once: int) -> WorkQueue:
    """The pool of all hosts and this host's queue in it, with how many runs the host has at once."""
    try:
        client.read_work_pool(POOL)
    except ObjectNotFound:
        try:
            client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
        except ObjectAlreadyExists:  # another host was quicker
            client.read_work_pool(POOL)
    try:
        queue = client.read_work_queue_by_name(host, work_pool_name=POOL)
    except ObjectNotFound:
        queue = client.create_work_queue(name=host, work_pool_name=POOL)
    if queue.concurrency_limit != runs_at_once:
        client.update_work_queue(queue.id, concurrency_limit=runs_at_once)
    return queue


def ensure_deployments(
    client: SyncPrefectClient,
    host: str,
    wanted: Sequence[RunnerDeployment],
    say: Callable[[str], None] = lambda _: None,
    *,
    only_missing: bool = False,
) -> Changes:
    """Make, change and remove this host's deployments; with `only_missing` none is changed or removed.

    What takes long (the server needs a twentieth of a second for each) is told.
    """
    names: dict[object, str] = {}
    present: dict[str, DeploymentResponse] = {}
    for found in _of_host(client, host):
        name = names.get(found.flow_id) or names.setdefault(found.flow_id, _flow_name(client, found))
        present[f"{name}/{found.name}"] = found
    made: list[str] = []
    changed: list[str] = []
    flows: dict[str, UUID] = {}
    for number, deployment in enumerate(wanted):
        if number and number % _TOLD_EVERY == 0 and (made or changed):
            say(f"deployments: {number} of {len(wanted)}")
        old = present.pop(deployment.full_name, None)
        version = _version(deployment)
        if old is not None and (only_missing or old.version == version):
            continue
        (changed if old else made).append(deployment.full_name)
        if deployment.flow_name not in flows:
            flows[deployment.flow_name or ""] = client.create_flow_from_name(deployment.flow_name or "")
        _store(client, deployment, flows[deployment.flow_name or ""], host, version, old)
    gone = {} if only_missing else present
    for left in gone.values():
        client.delete_deployment(left.id)
    kept = len(wanted) - len(made) - len(changed) + len(present) - len(gone)
    return Changes(tuple(made), tuple(changed), tuple(sorted(gone)), kept)


def ensure_automations(client: SyncPrefectClient, wanted: Sequence[AutomationCore]) -> list[str]:
    """Make or update automations by their names; the names of those that were made or changed."""
    touched = []
    for automation in wanted:
        found = client.read_automations_by_name(automation.name)
        if not found:
            client.create_automation(automation)
        elif _essence(found[0]) != _essence(automation):
            client.update_automation(found[0].id, automation.model_copy(update={"enabled": found[0].enabled}))
        else:
            continue
        touched.append(automation.name)
    return touched


def remove_automations(client: SyncPrefectClient, beginning: str, wanted: Sequence[AutomationCore]) -> list[str]:
    """Remove the automations whose names begin so and that nobody wants any more; their names."""
    names = {automation.name for automation in wanted}
    gone = [a for a in client.read_automations() if a.name.startswith(beginning) and a.name not in names]
    for automation in gone:
        client.delete_automation(automation.id)
    return [automation.name for automation in gone]


def _essence(automation: AutomationCore) -> str:
    """What an automation does, but for what the server adds of its own (ids of triggers)."""

    def bare(value: object) -> object:
        if isinstance(value, dict):
            return {k: bare(v) for k, v in value.items() if k not in ("id", "enabled", "created", "updated") and v}
        if not isinstance(value, list):
            return value
        # Names are sets in Prefect's model, and come in another order from each process.
        return sorted(value) if all(isinstance(item, str) for item in value) else [bare(item) for item in value]

    fields = automation.model_dump(mode="json", include={"name", "description", "trigger", "actions"})
    return json.dumps(bare(fields), sort_keys=True)


def _of_host(client: SyncPrefectClient, host: str) -> list[DeploymentResponse]:
    found: list[DeploymentResponse] = []
    chosen = DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG, host]))
    while page := client.read_deployments(deployment_filter=chosen, limit=_PAGE, offset=len(found)):
        found.extend(page)
    return [deployment for deployment in found if deployment.work_queue_name == host]


def has_tagged(client: SyncPrefectClient, host: str, tag: str) -> bool:
    """Whether a deployment of this host carries the tag."""
    return any(tag in deployment.tags for deployment in _of_host(client, host))


def _flow_name(client: SyncPrefectClient, deployment: DeploymentResponse) -> str:
    return str(client.read_flow(deployment.flow_id).name)


def _store(
    client: SyncPrefectClient,
    wanted: RunnerDeployment,
    flow: UUID,
    host: str,
    version: str,
    old: DeploymentResponse | None,
) -> None:
    paused = {s.slug for s in (old.schedules if old else ()) if not s.active}
    schedules = [
        s.model_copy(update={"active": s.slug not in paused})
        for s in wanted.schedules or ()
        if isinstance(s, DeploymentScheduleCreate)
    ]
    client.create_deployment(
        flow_id=flow,
        name=wanted.name,
        version=version,
        schedules=schedules,
        concurrency_limit=wanted.concurrency_limit,
        concurrency_options=wanted.concurrency_options,
        parameters=wanted.model_dump(mode="json", include={"parameters"})["parameters"],
        description=wanted.description,
        work_pool_name=POOL,
        work_queue_name=host,
        tags=wanted.tags,
        path=".",
        entrypoint=wanted.entrypoint,
        parameter_openapi_schema=wanted._parameter_openapi_schema.model_dump(exclude_unset=True),
        enforce_parameter_schema=True,
        paused=old.paused if old else None,
        pull_steps=[],
        job_variables={},
    )


def _version(deployment: RunnerDeployment) -> str:
    """A digest over everything that a deployment says."""
    said = deployment.model_dump(mode="json", exclude={"version", "version_type", "storage"})
    said["form"] = deployment._parameter_openapi_schema.model_dump(mode="json", exclude_unset=True)
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()[:12]


def told(changes: Changes, say: Callable[[str], None]) -> None:
    """Say what was changed, one line per kind."""
    for word, names in (("made", changes.made), ("changed", changes.changed), ("removed", changes.removed)):
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            say(f"{word}: {', '.join(names[:_SHOWN])}{more}")
    if changes.kept:
        say(f"as they should be: {changes.kept} deployments")
