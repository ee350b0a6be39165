"""Runs services of a Compose file on an engine as Compose would: as much of it as our file uses, and nothing else.

Where Compose itself is not at hand, this is how a test sees that what the file says works. A key that it does not know
is an error: then the file says something that no test has seen.
"""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import docker
import yaml

KNOWN = {"image", "build", "entrypoint", "environment", "secrets", "volumes", "ports"}
KNOWN |= {"depends_on", "healthcheck", "stop_grace_period", "restart"}
_VARIABLE = re.compile(r"\$\$|\$\{(\w+):-([^}]*)\}")


class Composed:
    """The services of one file. `variables` are those that the file asks for; images are those that it names."""

    def __init__(self, client: docker.DockerClient, file: Path, variables: Mapping[str, str]) -> None:
        def value(found: re.Match[str]) -> str:
            return "$" if found.group(0) == "$$" else variables.get(found.group(1), found.group(2))

        self._client, self._folder = client, file.parent
        self._document = yaml.safe_load(_VARIABLE.sub(value, file.read_text()))
        self._network = client.networks.create(self._document["name"])
        self.containers: dict[str, Any] = {}

    def start(self, name: str) -> Any:
        """Start a service, after those that it depends on are well."""
        service = self._document["services"][name]
        assert set(service) <= KNOWN, set(service) - KNOWN
        for other in service.get("depends_on", {}):
            if other not in self.containers:
                self.wait(other)
        ports = [published.rsplit(":", 2) for published in service.get("ports", ())]
        made = self._client.containers.create(
            service["image"],
            name=name,
            network=self._network.name,
            entrypoint=service.get("entrypoint"),
            environment=service["environment"],
            volumes=[*map(self._volume, service.get("volumes", ())), *map(self._secret, service.get("secrets", ()))],
            ports={f"{inside}/tcp": (address, int(outside)) for address, outside, inside in ports},
            healthcheck=self._health(service.get("healthcheck")),
            detach=True,
        )
        made.start()
        self.containers[name] = made
        return made

    def wait(self, name: str, seconds: float = 150.0) -> Any:
        """A service that is well. Fails with its log."""
        container = self.containers.get(name) or self.start(name)
        deadline = time.monotonic() + seconds
        while True:
            container.reload()
            state = container.attrs["State"]
            if state.get("Health", {}).get("Status") == "healthy":
                return container
            assert state["Running"], container.logs().decode()[-3000:]
            assert time.monotonic() < deadline, container.logs().decode()[-3000:]
            time.sleep(1)

    def run(self, name: str, command: str) -> str:
        """What a command in a service's container says. Fails when it fails."""
        code, said = self.containers[name].exec_run(shlex.split(command))
        assert code == 0, said.decode()
        return str(said.decode())

    def down(self) -> None:
        """Remove all of it."""
        for container in self.containers.values():
            container.remove(force=True, v=True)
        for name in self._document["volumes"]:
            for volume in self._client.volumes.list(filters={"name": f"{self._document['name']}_{name}"}):
                volume.remove()
        self._network.remove()

    def _volume(self, text: str) -> str:
        source, _, rest = text.partition(":")
        return text if source.startswith("/") else f"{self._document['name']}_{source}:{rest}"

    def _secret(self, name: str) -> str:
        return f"{self._document['secrets'][name]['file']}:/run/secrets/{name}:ro"

    def _health(self, said: dict[str, Any] | None) -> dict[str, Any] | None:
        if said is None:
            return None
        seconds = int(said["interval"].removesuffix("s"))
        return {"test": said["test"], "interval": seconds * 10**9, "retries": said["retries"]}
