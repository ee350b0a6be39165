"""A run that is cancelled in Prefect's UI lets go what it holds, at once: on a real server, worker and engine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.operate.actions import ended, start
from tests.operate.conftest import NEVER, Site, until

pytestmark = pytest.mark.engine

STUBBORN = ["sh", "-c", "trap '' TERM; while :; do sleep 1; done"]


@pytest.fixture
def held(site: Site, engine_socket: str, engine_client: docker.DockerClient, blank_image: str) -> Iterator[Any]:
    """A stack of which one container is paused, and then, for as long as the Engine waits, another one stopped."""
    project = {"com.docker.compose.project": "cart"}
    volume = engine_client.volumes.create("cart_data", labels={**project, "holdfast.enable": "true"})
    Path(volume.attrs["Mountpoint"], "item").write_text("1")

    def container(service: str, command: list[str], method: str, after: str = "") -> Any:
        labels = {**project, "com.docker.compose.service": service, "holdfast.quiesce": method}
        return engine_client.containers.run(
            blank_image,
            command,
            name=f"cart-{service}-1",
            detach=True,
            network_mode="none",
            labels=labels | ({"com.docker.compose.depends_on": f"{after}:service_started:false"} if after else {}),
            volumes={"cart_data": {"bind": "/data"}},
        )

    made = [container("db", STUBBORN, "stop"), container("app", ["sleep", "100000"], "pause", after="db")]
    site.configure(f"  cart: {{discover: true, quiesce: pause, schedule: {NEVER}}}\n", engine=engine_socket)
    yield made
    site.configure()
    site.up()
    for each in made:
        each.remove(force=True)
    volume.remove(force=True)


def test_cancelled_while_containers_are_held(site: Site, held: Any) -> None:
    db, app = held

    def status(container: Any) -> str:
        container.reload()
        return str(container.status)

    site.up()
    began = db.attrs["State"]["StartedAt"]
    run = start(site, "backup/cart@host-a")
    until(lambda: status(app) == "paused", every=0.1)
    asked = time.monotonic()
    with site.client() as client:
        from prefect.states import Cancelling

        client.set_flow_run_state(run, Cancelling())
    until(lambda: status(app) == "running", 15, every=0.1)
    assert time.monotonic() - asked < 5  # 0.2 s on an idle machine
    assert ended(site, run) == "Cancelled"
    # The Engine ends what it was asked to stop, although nobody waits: it is started again after that.
    until(lambda: status(db) == "running" and db.attrs["State"]["StartedAt"] != began, 40)
    time.sleep(2)
    assert (status(app), status(db)) == ("running", "running")
    assert not list((site.folder / "state").glob("*.hold"))
    assert "cart" not in site.run("list")
