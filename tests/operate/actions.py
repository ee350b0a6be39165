"""What tests of operating do with a site: start runs that last, look at them, kill what carries them."""

from __future__ import annotations

import os
import signal
import time
from typing import Any
from uuid import UUID

from tests.operate.conftest import Site, until


def deployments(site: Site) -> dict[str, Any]:
    with site.client() as client:
        found = client.read_deployments(limit=200)
        return {f"{client.read_flow(d.flow_id).name}/{d.name}": d for d in found}


def start(site: Site, name: str, **parameters: object) -> UUID:
    with site.client() as client:
        return UUID(str(client.create_flow_run_from_deployment(deployments(site)[name].id, parameters=parameters).id))


def state(site: Site, run: UUID) -> str:
    with site.client() as client:
        return str(client.read_flow_run(run).state.name)


def ended(site: Site, run: UUID, seconds: float = 90) -> str:
    finished = ("Completed", "Failed", "Crashed", "Cancelled")
    return str(until(lambda: (s := state(site, run)) in finished and s, seconds))


def running_tasks(site: Site, run: UUID) -> set[str]:
    with site.client() as client:
        from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

        found = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run])))
        return {task.name for task in found if task.state_name == "Running"}


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
