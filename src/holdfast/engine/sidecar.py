"""A sidecar: a container of another container's image, in its network, with one folder of the host.

Rules upheld here:
- It carries a label and its owner: what a killed run left is replaced by the next, and nothing else ever is.
- It has no volume: one that its image declares would stay behind, and look like data that nobody protects.
- It runs as the user of this process, so that what it writes into the folder is ours to read and remove.
- The server's container is looked up by its exact name each time: after a restart the network is another one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from docker.errors import NotFound

from holdfast.engine.client import Engine
from holdfast.engine.discovery import find_running
from holdfast.engine.sandbox import present_owner
from holdfast.errors import EngineRefused

LABEL = "holdfast.sidecar"
OWNER = "holdfast.sidecar.owner"


class Sidecar:
    """One program beside a container.

    Args:
        engine: where the container runs.
        container: the container that it stands beside.
        name: the sidecar's own name.
        argv: the program with its arguments.
        folder: a path of the host.
        mount: where it is inside.
        env: the environment; secrets belong here.
    """

    def __init__(
        self,
        engine: Engine,
        container: str,
        *,
        name: str,
        argv: Sequence[str],
        folder: str,
        mount: str,
        env: Mapping[str, str],
    ) -> None:
        self.name = name
        self._engine, self._container = engine, container
        self._argv, self._folder, self._mount, self._env = list(argv), folder, mount, dict(env)

    def start(self) -> None:
        """Begin. Raises: SourceNotFound, SourceUnreadable (not running), EngineRefused, EngineUnavailable."""
        self.stop()
        beside = find_running(self._engine, self._container)
        api = self._engine.api
        with self._engine.asking("cannot start the sidecar", self.name):
            image: dict[str, Any] = api.inspect_image(beside.image_id)  # type: ignore[no-untyped-call]  # the stubs lack it
            declared = image["Config"].get("Volumes") or {}
            created = api.create_container(
                beside.image_id,
                command=self._argv[1:],
                entrypoint=self._argv[:1],
                name=self.name,
                user=f"{os.getuid()}:{os.getgid()}",
                environment={"LC_ALL": "C", **self._env},
                labels={LABEL: self._container, OWNER: present_owner()},
                host_config=api.create_host_config(
                    binds={self._folder: {"bind": self._mount, "mode": "rw"}},
                    network_mode=f"container:{beside.id}",
                    tmpfs=dict.fromkeys(declared, ""),
                ),
            )
            api.start(created["Id"])

    def alive(self) -> bool:
        """Whether it runs. Raises: EngineUnavailable."""
        with self._engine.asking("cannot look at the sidecar", self.name):
            try:
                return bool(self._engine.api.inspect_container(self.name)["State"]["Running"])
            except NotFound:
                return False

    def said(self) -> str:
        """The end of what it said."""
        with self._engine.asking("cannot read the sidecar's log", self.name):
            try:
                data: bytes = self._engine.api.logs(self.name, tail=20)
            except NotFound:
                return ""
            return " ".join(data.decode(errors="replace").split())[-1000:]

    def stop(self) -> None:
        """Remove it. Raises: EngineRefused for a container of this name that is no sidecar; EngineUnavailable."""
        api = self._engine.api
        with self._engine.asking("cannot remove the sidecar", self.name):
            try:
                labels = api.inspect_container(self.name)["Config"].get("Labels") or {}
            except NotFound:
                return
            if labels.get(LABEL) != self._container:
                raise EngineRefused(
                    "a container that is no sidecar of ours has this name",
                    which=self.name,
                    wanted=f"label {LABEL}={self._container}",
                    found=labels.get(LABEL) or "no such label",
                )
            try:
                api.stop(self.name, timeout=5)
                api.remove_container(self.name, v=True, force=True)
            except NotFound:
                return
