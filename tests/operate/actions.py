"""What tests of operating do with a site: start runs that last, look at them, kill what carries them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

from tests.operate.conftest import Site, until

FINISHED = ("Completed", "Failed", "Crashed", "Cancelled")


def deployments(site: Site) -> dict[str, Any]:
    found: list[Any] = []
    with site.client() as client:
        while page := client.read_deployments(limit=200, offset=len(found)):
            found += page
        flows = {flow: client.read_flow(flow).name for flow in {deployment.flow_id for deployment in found}}
    return {f"{flows[deployment.flow_id]}/{deployment.name}": deployment for deployment in found}


def start(site: Site, name: str, **parameters: object) -> UUID:
    with site.client() as client:
        return UUID(str(client.create_flow_run_from_deployment(deployments(site)[name].id, parameters=parameters).id))


def state(site: Site, run: UUID) -> str:
    with site.client() as client:
        return str(client.read_flow_run(run).state.name)


def ended(site: Site, run: UUID, seconds: float = 90) -> str:
    return str(until(lambda: (s := state(site, run)) in FINISHED and s, seconds, seen=lambda: seen(site, run)))


def capturing(site: Site, run: UUID, seconds: float = 120) -> None:
    """Return when a run that `slow` holds up captures. Fails when it ended before that, or does not get there."""
    _working(site, run, lambda tasks: any(name.startswith("capture ") for name in tasks), seconds)


def working(site: Site, run: UUID, seconds: float = 120) -> None:
    """Return when any task of a run goes on. Fails when the run ended before that, or does not get there."""
    _working(site, run, bool, seconds)


def _working(site: Site, run: UUID, enough: Callable[[set[str]], bool], seconds: float) -> None:
    def reached() -> bool:
        assert state(site, run) not in FINISHED, f"the run ended too early; {seen(site, run)}"
        return enough({task.name for task in _tasks(site, run) if task.state_name == "Running"})

    until(reached, seconds, seen=lambda: seen(site, run))


def seen(site: Site, run: UUID) -> str:
    """What the server knows of a run, of its tasks and of the others of its queue: for who reads a failed test."""
    with site.client() as client:
        from prefect.client.schemas.sorting import FlowRunSort

        states = client.read_flow_run_states(run)
        others = [r for r in client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=12) if r.id != run]
    lines = [f"{s.timestamp:%H:%M:%S} {s.name} {s.message or ''}".strip() for s in states]
    lines += [f"task {task.name}: {task.state_name}" for task in _tasks(site, run)]
    lines += [f"beside it {r.name}: {r.state_name} since {r.state.timestamp:%H:%M:%S}" for r in others if r.state]
    return "\n".join([f"seen of the run {run}:", *lines, *site.state.tail("worker").splitlines()])


def _tasks(site: Site, run: UUID) -> list[Any]:
    with site.client() as client:
        from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

        return list(client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run]))))


def slow(site: Site, seconds: float) -> str:
    """A parameter-like way to have a run that lasts: the password is read from a pipe that gives it late."""
    pipe = site.folder / "slow password"
    if not pipe.exists():
        os.mkfifo(pipe, 0o600)
    config = site.folder / "slow.yaml"
    config.write_text(site.config.read_text().replace(f"{site.folder}/password", f'"{pipe}"'))
    return str(config)


def release(site: Site, *, awaited: bool = False) -> None:
    """Give the password to every run that waits for it; with `awaited` also to one that does not do so yet."""
    given = not awaited
    for _ in range(60):
        try:
            descriptor = os.open(site.folder / "slow password", os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            if given:
                return
        else:
            with os.fdopen(descriptor, "w") as pipe:
                pipe.write("correct horse")
            given = True
        time.sleep(0.5)


def runs_of(site: Site, name: str) -> list[Any]:
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId

    chosen = DeploymentFilter(id=DeploymentFilterId(any_=[deployments(site)[name].id]))
    with site.client() as client:
        return list(client.read_flow_runs(deployment_filter=chosen, limit=200))


def kill_worker(site: Site) -> None:
    worker = site.state.daemon("worker")
    assert worker is not None
    os.kill(worker.pid, signal.SIGKILL)
    until(lambda: site.state.daemon("worker") is None, every=0.1)


def children_with(run: str) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/environ", "rb") as file:
                    if f"PREFECT__FLOW_RUN_ID={run}".encode() in file.read():
                        found.append(int(name))
            except OSError:
                continue
    return found
