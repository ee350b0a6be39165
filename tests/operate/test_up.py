"""`holdfast up`, `drain`, `down` on a real server with a real worker: to scheduled runs, and on bad days."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from deployments.demo.ports import free_port
from deployments.local.engine import PrivateEngine
from deployments.operate.server import server_environment
from holdfast.engine.client import connect
from holdfast.engine.volumes import create_volume, remove_volume
from tests.operate.conftest import HOLDFAST, NEVER, Receiver, Site, make_site, until


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


def test_what_is_configured_is_scheduled_and_runs(site: Site) -> None:
    assert "a failed run on host-a is told to hook" in site.said
    assert site.listen in site.said
    assert "next: " in site.said
    # The browser asks the API where this says.
    assert json.loads(site.get(f"{site.url}/ui-settings"))["api_url"] == f"{site.url}/api"
    assert set(deployments(site)) == {
        "verify/repository@host-a",
        "monitor/monitor@host-a",
        "canary/canary@host-a",
        "follow/labels@host-a",
        *(f"{flow}/{stack}@host-a" for flow in ("backup", "drill", "restore") for stack in ("docs", "more", "less")),
    }
    until(lambda: len(runs_of(site, "backup/more@host-a")) >= 2)
    assert ended(site, start(site, "backup/docs@host-a")) == "Completed"
    assert ended(site, start(site, "drill/docs@host-a")) == "Completed"
    assert "proven" in site.run("proofs")
    # The monitor says the truth, in the terminal, as metrics and as a page.
    assert "backup-missing" in site.run("monitor", code=53)  # two stacks were never backed up
    assert 'holdfast_proven_time_seconds{stack="docs"}' in site.get(f"http://{site.listen}/metrics")
    assert "backup-missing" in site.get(f"http://{site.listen}/")


def test_a_failed_run_is_told_by_the_server_and_makes_the_monitor_look(site: Site, receiver: Receiver) -> None:
    run = start(site, "backup/docs@host-a", stack="dosc")
    assert ended(site, run) == "Failed"
    told = until(lambda: [text for text in receiver.got if "back up dosc Failed" in text], 120)[0]
    assert "docs@host-a" in told
    assert f"{site.url}/runs/flow-run/{run}" in told
    until(lambda: "Completed" in {run.state_name for run in runs_of(site, "monitor/monitor@host-a")}, 120)
    assert str(receiver.port) not in site.state.log("worker").read_text()


def test_up_again_changes_nothing_and_keeps_what_was_paused(site: Site) -> None:
    before = deployments(site)
    with site.client() as client:
        for name in ("backup/more@host-a", "backup/less@host-a"):
            client.update_deployment_schedule(before[name].id, before[name].schedules[0].id, active=False)
        client.pause_deployment(before["verify/repository@host-a"].id)
    said = site.up()
    assert "as they should be: 13 deployments" in said
    assert "made" not in said
    assert "automation" not in said
    assert "no schedule comes" in said
    # A changed cron expression is taken over, and the pause stays. What is gone from the configuration is gone from the
    # server; its backups stay.
    site.configure(f"  more: {{paths: [{site.folder}/source], schedule: '*/9 * * * *'}}\n")
    said = site.up()
    assert "changed: backup/more@host-a" in said
    assert "backup/less@host-a" in said.partition("removed: ")[2]
    assert "removed: Holdfast: a failed run on host-a is told to hook" in said
    after = deployments(site)
    assert after["verify/repository@host-a"].paused
    (schedule,) = after["backup/more@host-a"].schedules
    assert (schedule.schedule.cron, schedule.active) == ("*/9 * * * *", False)
    assert not [name for name in after if "less" in name]


@pytest.mark.soak
def test_a_drain_lets_the_going_run_end_and_no_other_start(site: Site) -> None:
    run = start(site, "backup/docs@host-a", config=slow(site, 5))
    until(lambda: state(site, run) == "Running")
    assert "still going" in site.run("drain", "--timeout", "1", code=60)
    assert site.state.daemon("worker") is not None
    later = start(site, "verify/repository@host-a")
    release(site)
    site.run("drain", "--timeout", "60")
    assert state(site, run) == "Completed"
    assert site.state.daemon("worker") is None
    assert state(site, later) in ("Scheduled", "Late", "Pending")
    site.up()
    assert ended(site, later) == "Completed"


def test_whatever_is_killed_no_run_stays_running(site: Site) -> None:
    """The worker alone while a backup captures; all of the host while one captures and one plans; one just begun."""
    run = start(site, "backup/docs@host-a", config=slow(site, 60))
    until(lambda: f"capture path:{site.folder}/source" in running_tasks(site, run))
    kill_worker(site)
    release(site)
    # The process of the run outlives the worker, and tells the server itself how it ends.
    assert ended(site, run) in ("Crashed", "Completed")
    site.up()

    captures = start(site, "backup/docs@host-a", config=slow(site, 60))
    plans = start(site, "restore/docs@host-a", config=slow(site, 60))
    until(lambda: f"capture path:{site.folder}/source" in running_tasks(site, captures))
    until(lambda: running_tasks(site, plans))
    pids = [pid for run in (captures, plans) for pid in _children_with(str(run))]
    assert len(pids) >= 2
    kill_worker(site)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert {state(site, run) for run in (captures, plans)} == {"Running"}
    assert site.up().count("its process is gone") == 2
    assert {state(site, run) for run in (captures, plans)} == {"Crashed"}

    begun = start(site, "backup/docs@host-a")
    until(lambda: state(site, begun) != "Scheduled", every=0.1)
    kill_worker(site)
    for pid in _children_with(str(begun)):
        os.kill(pid, signal.SIGKILL)
    site.up()
    assert ended(site, begun) in ("Crashed", "Completed")
    assert ended(site, start(site, "backup/docs@host-a")) == "Completed"


def kill_worker(site: Site) -> None:
    worker = site.state.daemon("worker")
    assert worker is not None
    os.kill(worker.pid, signal.SIGKILL)
    until(lambda: site.state.daemon("worker") is None, every=0.1)


@pytest.mark.soak
def test_two_schedulers_and_two_ups_at_once_make_nothing_twice(site: Site) -> None:
    """A second server on the same database, as a failover leaves it: `pytest -m soak tests/operate`."""
    site.configure(f"  more: {{paths: [{site.folder}/source], schedule: '*/7 * * * *'}}\n")
    port = free_port()
    env = {**server_environment(site.state, site.env), "PREFECT_UI_API_URL": f"http://127.0.0.1:{port}/api"}
    argv = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with open(site.folder / "second.log", "wb") as log:
        second = subprocess.Popen(argv, env=env, stdout=log, stderr=log)
    try:
        until(lambda: answers(site, f"http://127.0.0.1:{port}/api/health"), 120)
        ups = [subprocess.Popen([HOLDFAST, "up", "--port", str(site.port)], env=site.env) for _ in range(2)]
        assert [process.wait(120) for process in ups] == [0, 0]
        until(lambda: len(runs_of(site, "backup/more@host-a")) >= 5)
        time.sleep(11)  # two turns of either scheduler
        times = [run.expected_start_time for run in runs_of(site, "backup/more@host-a") if run.auto_scheduled]
        assert len(times) == len(set(times)) >= 5
    finally:
        second.terminate()
        second.wait(30)
        site.configure()
        site.up()


def answers(site: Site, address: str) -> bool:
    try:
        return bool(site.get(address))
    except OSError:
        return False


def test_a_server_that_goes_down_during_a_backup_learns_of_it_later(site: Site) -> None:
    run = start(site, "backup/docs@host-a", config=slow(site, 60))
    until(lambda: f"capture path:{site.folder}/source" in running_tasks(site, run))
    server = site.state.daemon("server")
    assert server is not None
    before = len(list(site.repository.glob("snapshots/*")))
    site.state.stop(server)
    release(site, awaited=True)
    until(lambda: len(list(site.repository.glob("snapshots/*"))) > before)  # the backup is made all the same
    site.up()
    assert ended(site, run) == "Completed"


@pytest.mark.soak
def test_prefects_database_may_be_lost(site: Site) -> None:
    proven = site.run("proofs")
    site.run("down")
    (site.folder / "state" / "prefect" / "prefect.db").unlink()
    assert "backup/docs@host-a" in site.up()
    assert site.run("proofs") == proven
    assert ended(site, start(site, "backup/docs@host-a")) == "Completed"


@pytest.mark.soak
def test_after_a_downtime_only_the_newest_missed_run_comes(site: Site) -> None:
    site.run("drain")
    late = []
    with site.client() as client:
        deployment = deployments(site)["backup/docs@host-a"].id
        from prefect.client.schemas.objects import StateType
        from prefect.states import Scheduled

        for minutes in (50, 40, 30, 20):
            when = datetime.now(UTC) - timedelta(minutes=minutes)
            made = client.create_flow_run_from_deployment(deployment, state=Scheduled(scheduled_time=when))
            client.request("PATCH", f"/flow_runs/{made.id}", json={})
            late.append(made.id)
        assert StateType.SCHEDULED
    _call_them_scheduled_by_the_server(site, late)
    assert "replaced by later runs of the same: 3" in site.up()
    assert [ended(site, run) for run in late] == ["Cancelled", "Cancelled", "Cancelled", "Completed"]


def test_the_port_of_somebody_else_is_not_taken(site: Site, tmp_path: Any) -> None:
    other = make_site(tmp_path, "host-b", site.port)
    assert "the server's port is taken" in other.run("up", "--port", str(site.port), code=60)
    assert "nothing runs here" in other.run("down")


@pytest.mark.engine
def test_two_hosts_with_an_engine_each_work_on_one_server(site: Site, engine_socket: str, tmp_path: Any) -> None:
    """Each its own engine, worker and queue; the second host's worker runs as systemd or a container would run it."""
    other = make_site(tmp_path, "host-b", site.port)
    with ExitStack() as stack:
        for place, url in ((site, engine_socket), (other, stack.enter_context(PrivateEngine()).url)):
            with connect(url) as opened:
                volume = create_volume(opened, "shop-data")
                (Path(volume.mountpoint) / "name").write_text(place.host)
            place.configure("  shop: {volumes: [shop-data]}\n", engine=url)
        process = stack.enter_context(other.working(f"{site.url}/api"))
        until(lambda: "backup/shop@host-b" in deployments(site) and other.state.daemon("worker"))
        site.up()
        assert "backup/docs@host-b" in deployments(site)  # what one host does to its own does not touch the other's
        runs = [(place, start(site, f"backup/shop@{place.host}")) for place in (site, other)]
        for place, run in runs:
            assert ended(site, run) == "Completed"
            assert place.run("cat", "latest", "name", "--source", "volume:shop-data") == place.host
        with site.client() as client:
            queues = {client.read_flow_run(run).work_queue_name for _, run in runs}
        assert queues == {"host-a", "host-b"}
        # Asked to stop, the worker lets its run end and starts no other.
        last = start(site, "backup/docs@host-b", config=slow(other, 60))
        until(lambda: f"capture path:{other.folder}/source" in running_tasks(site, last))
        process.terminate()
        release(other)
        assert process.wait(60) == 0
        assert state(site, last) == "Completed"
    with connect(engine_socket) as opened:
        remove_volume(opened, "shop-data")
    site.configure()


def _children_with(run: str) -> list[int]:
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


def _call_them_scheduled_by_the_server(site: Site, runs: list[UUID]) -> None:
    """Only the server itself can say of a run that its scheduler made it: in its database."""
    import sqlite3

    with sqlite3.connect(site.folder / "state" / "prefect" / "prefect.db", timeout=30) as database:
        marks = ",".join("?" * len(runs))
        done = database.execute(
            f"UPDATE flow_run SET auto_scheduled = 1 WHERE id IN ({marks})",  # noqa: S608  question marks only
            [str(run) for run in runs],
        )
        assert done.rowcount == len(runs)


@pytest.fixture(scope="module", autouse=True)
def _quiet_end(site: Site) -> Any:
    yield
    release(site) if (site.folder / "slow password").exists() else None
    assert NEVER in site.config.read_text()
