"""Flow runs that nobody carries on: left `Running` by a killed worker, or late after a downtime.

Rules upheld here:
- A run is called crashed only when its process is surely gone: it was of this host's queue, and no process here carries
  its id in the environment. A flow whose worker died may live on, and ends by itself.
- Of the runs that a downtime made late, the newest of each deployment is kept: five missed backups are one backup.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from datetime import datetime, timedelta

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterNextScheduledStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkQueueFilter,
    WorkQueueFilterName,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Cancelled, Crashed

GOING = (StateType.RUNNING, StateType.PENDING, StateType.CANCELLING)
_PAGE = 200
LATE = timedelta(seconds=30)


def runs_of(client: SyncPrefectClient, host: str, states: tuple[StateType, ...]) -> list[FlowRun]:
    """The runs of a host's queue in these states."""
    return list(_pages(client, host, FlowRunFilter(state=_in(states))))


def next_runs(client: SyncPrefectClient, host: str) -> list[FlowRun]:
    """The scheduled runs that come first, one page of them: with many stacks there are thousands."""
    chosen = FlowRunFilter(state=_in((StateType.SCHEDULED,)))
    return list(itertools.islice(_pages(client, host, chosen), _PAGE))


def crash_orphans(client: SyncPrefectClient, host: str) -> list[FlowRun]:
    """Tell the server of the runs whose processes are gone; those runs. No worker of the host may be running."""
    alive = set(_running_here())
    gone = [run for run in runs_of(client, host, GOING) if str(run.id) not in alive]
    for run in gone:
        state: State[object] = Crashed(
            message="Its process on this host is gone: the worker or the host was stopped while it ran."
        )
        client.set_flow_run_state(run.id, state, force=True)
    return gone


def skip_missed(client: SyncPrefectClient, host: str, *, now: datetime) -> list[FlowRun]:
    """Cancel the late scheduled runs that a newer late one of the same deployment replaces; those that were."""
    late = FlowRunFilter(
        state=_in((StateType.SCHEDULED,)),
        next_scheduled_start_time=FlowRunFilterNextScheduledStartTime(before_=now - LATE),  # type: ignore[arg-type]  # any datetime will do,
    )
    newest: dict[object, FlowRun] = {}
    missed = []
    found = [run for run in _pages(client, host, late) if run.auto_scheduled]
    for run in sorted(found, key=lambda run: str(run.expected_start_time)):
        if run.deployment_id in newest:
            missed.append(newest[run.deployment_id])
        newest[run.deployment_id] = run
    for run in missed:
        state: State[object] = Cancelled(
            message="Missed while no worker was there; a later run of the same deployment replaces it."
        )
        client.set_flow_run_state(run.id, state, force=True)
    return missed


def _in(states: tuple[StateType, ...]) -> FlowRunFilterState:
    return FlowRunFilterState(type=FlowRunFilterStateType(any_=list(states)))


def _pages(client: SyncPrefectClient, host: str, chosen: FlowRunFilter) -> Iterator[FlowRun]:
    offset = 0
    queue = WorkQueueFilter(name=WorkQueueFilterName(any_=[host]))
    while page := client.read_flow_runs(
        flow_run_filter=chosen,
        work_queue_filter=queue,
        sort=FlowRunSort.EXPECTED_START_TIME_ASC,
        limit=_PAGE,
        offset=offset,
    ):
        offset += len(page)
        yield from page


def _running_here() -> Iterator[str]:
    """The ids of the flow runs that processes of this machine carry in their environment."""
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb") as file:
            for line in file.read().split(b"\0"):
                if line.startswith(b"PREFECT__FLOW_RUN_ID="):
                    yield line.partition(b"=")[2].decode()
