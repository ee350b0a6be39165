"""`holdfast up` on a real server with a real worker: from a configuration to scheduled runs, on one host and on two."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from deployments.demo.ports import free_port
from deployments.local.engine import PrivateEngine
from deployments.operate.server import PROGRAM, server_environment
from holdfast.engine.client import connect
from holdfast.engine.volumes import create_volume, remove_volume
from tests.operate.actions import capturing, deployments, ended, release, runs_of, slow, start, state
from tests.operate.conftest import HOLDFAST, Receiver, Site, make_site, until


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
    said = site.run("doctor")
    assert f"{site.url}/api answers, Prefect 3." in said
    assert "host-a is online" in said
    assert "runs are scheduled" in said


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
def test_two_schedulers_and_two_ups_at_once_make_nothing_twice(site: Site) -> None:
    """A second server on the same database, as a failover leaves it: `pytest -m soak tests/operate`."""
    site.configure(f"  more: {{paths: [{site.folder}/source], schedule: '*/7 * * * *'}}\n")
    port = free_port()
    env = {**server_environment(site.state, site.env), "PREFECT_UI_API_URL": f"http://127.0.0.1:{port}/api"}
    argv = [sys.executable, "-m", PROGRAM, "server", "start", "--host", "127.0.0.1", "--port", str(port)]
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


def test_the_port_of_somebody_else_is_not_taken(site: Site, tmp_path: Any) -> None:
    other = make_site(tmp_path, "host-b", site.port)
    assert "the server's port is taken" in other.run("up", "--port", str(site.port), code=63)
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
        capturing(site, last)
        process.terminate()
        release(other)
        assert process.wait(60) == 0
        assert state(site, last) == "Completed"
    with connect(engine_socket) as opened:
        remove_volume(opened, "shop-data")
    site.configure()
