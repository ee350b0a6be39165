"""Bad days of operating: whatever is killed, stopped or lost, runs end and are told of, on a real server and worker."""

from __future__ import annotations

import json
import os
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from deployments.operate.automations import SILENT
from tests.operate.actions import (
    capturing,
    children_with,
    deployments,
    ended,
    kill_worker,
    release,
    seen,
    slow,
    start,
    state,
    working,
)
from tests.operate.conftest import NEVER, Site, until


@pytest.mark.soak
def test_a_drain_lets_the_going_run_end_and_no_other_start(site: Site) -> None:
    run = start(site, "backup/docs@host-a", config=slow(site, 5))
    until(lambda: state(site, run) == "Running")
    assert "still going" in site.run("drain", "--timeout", "1", code=63)
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
    capturing(site, run)
    kill_worker(site)
    release(site)
    # The process of the run outlives the worker, and tells the server itself how it ends.
    assert ended(site, run) in ("Crashed", "Completed")
    site.up()

    captures = start(site, "backup/docs@host-a", config=slow(site, 60))
    plans = start(site, "restore/docs@host-a", config=slow(site, 60))
    capturing(site, captures)
    working(site, plans)
    pids = [pid for run in (captures, plans) for pid in children_with(str(run))]
    assert len(pids) >= 2
    kill_worker(site)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert {state(site, run) for run in (captures, plans)} == {"Running"}
    assert site.up().count("its process is gone") == 2
    assert {state(site, run) for run in (captures, plans)} == {"Crashed"}

    begun = start(site, "backup/docs@host-a")
    until(lambda: state(site, begun) not in ("Scheduled", "Late"), 120, every=0.1, seen=lambda: seen(site, begun))
    kill_worker(site)
    for pid in children_with(str(begun)):
        os.kill(pid, signal.SIGKILL)
    site.up()
    assert ended(site, begun) in ("Crashed", "Completed")
    assert ended(site, start(site, "backup/docs@host-a")) == "Completed"


@pytest.mark.soak
def test_a_run_of_which_nobody_is_left_is_crashed_by_the_server_itself(site: Site) -> None:
    """The host is gone, and nobody calls `up`: `pytest -m soak tests/operate`; about four minutes, 150 s of silence."""
    run = start(site, "backup/docs@host-a", config=slow(site, 60))
    capturing(site, run)
    kill_worker(site)
    for pid in children_with(str(run)):
        os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    until(lambda: not children_with(str(run)))
    assert state(site, run) == "Running"
    until(lambda: state(site, run) == "Crashed", SILENT.total_seconds() + 120)
    assert time.monotonic() - killed > SILENT.total_seconds() - 40  # not before five heartbeats are missing
    with site.client() as client:
        assert "No sign of life" in client.read_flow_run(run).state.message
    site.up()
    assert ended(site, start(site, "backup/docs@host-a")) == "Completed"


def test_a_server_that_goes_down_during_a_backup_learns_of_it_later(site: Site) -> None:
    run = start(site, "backup/docs@host-a", config=slow(site, 60))
    capturing(site, run)
    server = site.state.daemon("server")
    assert server is not None
    before = len(list(site.repository.glob("snapshots/*")))
    lease = _lease(site, run)
    site.state.stop(server)
    assert lease.exists()  # else a run that goes on for longer than this one would be ended for it
    release(site, awaited=True)
    until(lambda: len(list(site.repository.glob("snapshots/*"))) > before)  # the backup is made all the same
    site.up()
    assert ended(site, run) == "Completed"


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_long_backup_outlives_a_server_that_is_long_away(site: Site) -> None:
    """`pytest -m soak tests/operate`; about eight minutes: the server is away for longer than any lease (300 s)."""
    run = start(site, "backup/docs@host-a", config=slow(site, 60))
    capturing(site, run)
    server = site.state.daemon("server")
    assert server is not None
    site.state.stop(server)
    time.sleep(320)
    site.up()
    until(lambda: _renewed(site, run), 180, seen=lambda: seen(site, run))
    assert ended(site, start(site, "backup/docs@host-a")) == "Cancelled"  # the slot is held all the time
    assert state(site, run) == "Running"
    release(site)
    assert ended(site, run) == "Completed"
    # The worker asks the server ever more seldom while it does not answer.
    assert ended(site, start(site, "backup/docs@host-a"), 300) == "Completed"


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


def _renewed(site: Site, run: UUID) -> bool:
    """Whether a run renewed its lease a moment ago."""
    lease = json.loads(_lease(site, run).read_text())
    return datetime.fromisoformat(lease["expiration"]) > datetime.now(UTC) + timedelta(seconds=200)


def _lease(site: Site, run: UUID) -> Path:
    """Where the server keeps the lease that a run has on the slot of its deployment."""
    with site.client() as client:
        state = client.read_flow_run(run).state
    assert state is not None
    lease = state.state_details.deployment_concurrency_lease_id
    return site.folder / "state" / "prefect" / "concurrency_leases" / f"{lease}.json"


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
