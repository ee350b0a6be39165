"""A stack that only labels enable is scheduled, runs, and goes again: on a real server, worker and engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.operate.actions import deployments, ended, start
from tests.operate.conftest import Site, until

pytestmark = pytest.mark.engine


@pytest.fixture
def labelled(site: Site, engine_socket: str) -> Iterator[Site]:
    """The host with an engine, whose configuration does not name what this test labels."""
    site.configure(engine=engine_socket)
    yield site
    site.configure()


def test_a_labelled_stack_appears_runs_and_goes(
    labelled: Site, engine_client: docker.DockerClient, engine_socket: str
) -> None:
    compose = {"com.docker.compose.project": "wiki"}
    volume = engine_client.volumes.create(
        "wiki_pages", labels={**compose, "backup": "daily", "holdfast.retention": "daily=7"}
    )
    try:
        Path(volume.attrs["Mountpoint"], "page").write_text("hello")
        # Nothing is edited, nothing is restarted: the next look finds it. (It comes every ten minutes.)
        # One that comes while the scheduled one runs is cancelled: that one does the same.
        until(lambda: ended(labelled, start(labelled, "follow/labels@host-a")) == "Completed")
        found = deployments(labelled)
        (schedule,) = found["backup/wiki@host-a"].schedules
        assert schedule.schedule.cron == "0 3 * * *"
        assert "enabled-by-labels" in found["backup/wiki@host-a"].tags
        assert ended(labelled, start(labelled, "backup/wiki@host-a")) == "Completed"
        assert "wiki" in labelled.run("list")
        # An engine that does not answer takes no schedule away.
        labelled.configure()
        assert "does not answer" in labelled.up()
        assert "backup/wiki@host-a" in deployments(labelled)
        # Nor what labels say of a stack that the configuration names, and an operator's pause with it.
        named = "  wiki: {discover: true}\n"
        labelled.configure(named, engine=engine_socket)
        labelled.up()
        before = deployments(labelled)["backup/wiki@host-a"]
        assert "enabled-by-labels" not in before.tags
        with labelled.client() as client:
            client.update_deployment_schedule(before.id, before.schedules[0].id, active=False)
        labelled.configure(named)
        assert "nothing is changed or removed" in labelled.up()
        (schedule,) = deployments(labelled)["backup/wiki@host-a"].schedules
        assert (schedule.schedule.cron, schedule.active) == ("0 3 * * *", False)
        assert "retention/wiki@host-a" in deployments(labelled)
    finally:
        volume.remove(force=True)
    labelled.configure(engine=engine_socket)
    assert "removed: backup/wiki@host-a" in labelled.up()
