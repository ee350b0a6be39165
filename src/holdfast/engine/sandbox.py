"""Sandboxes: volumes, networks and containers for one drill, labelled so that they can always be found and removed.

Rules upheld here:
- Everything carries the label of its own run. A removal looks at the object's label once more and refuses anything
  without it: nothing that is not a sandbox's can be removed from here, whatever a name or a filter says.
- The network is internal: what runs in a sandbox reaches nothing but the sandbox. No port is published, and what can be
  set of a container is listed: no privilege, capability, device or namespace of the host is among it.
- What a killed drill left carries its owner (host, process, start of the process): `reap` removes what has none alive.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from docker.errors import NotFound

from holdfast.engine.client import Engine
from holdfast.engine.volumes import Volume, create_volume
from holdfast.errors import EngineRefused, HoldfastError

log = logging.getLogger(__name__)

LABEL = "holdfast.sandbox"
OWNER = "holdfast.sandbox.owner"
CREATED = "holdfast.sandbox.created"
"""When it was made, in Unix seconds: what a host left that is no more has no owner who could be asked."""


_WITHOUT_HOST = {"com.docker.network.bridge.inhibit_ipv4": "true"}
"""The host has no address in the network: else its own services would be reached at every address that it has."""
_SETTINGS = frozenset({"command", "entrypoint", "environment", "user", "working_dir"})
_LIMITS = frozenset(
    {
        *("cap_drop", "init", "mem_limit", "nano_cpus", "pids_limit"),
        *("read_only", "security_opt", "shm_size", "tmpfs"),
    }
)


class Sandbox:
    """The disposable things of one drill. Use it as a context manager: leaving it destroys everything in it."""

    def __init__(self, engine: Engine, run: str | None = None) -> None:
        self.run = run or secrets.token_hex(6)
        self._engine = engine
        self._labels = {LABEL: self.run, OWNER: present_owner(), CREATED: str(int(time.time()))}
        self._network: str | None = None

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.destroy()

    @property
    def name(self) -> str:
        """What the sandbox is called, on the engine and in proofs."""
        return f"holdfast-sandbox-{self.run}"

    def volume(self, title: str) -> Volume:
        """An empty scratch volume. Raises: EngineRefused, EngineUnavailable."""
        return create_volume(self._engine, f"{self.name}-{title}-{secrets.token_hex(3)}", self._labels)

    def container(
        self,
        title: str,
        image: str,
        *,
        settings: Mapping[str, Any] | None = None,
        limits: Mapping[str, Any] | None = None,
        binds: Iterable[tuple[str, str]] = (),
        names: Sequence[str] = (),
    ) -> str:
        """Start a container on the sandbox's own network; its name.

        Args:
            title: what it is for, in its name.
            image: its image; it is not pulled.
            settings: environment, command and the like, by the words of the SDK's `create_container`.
            limits: temporary filesystems, memory and the like, by the words of its `create_host_config`.
            binds: the sandbox's volumes, by name, or places in them, and the paths inside.
            names: what other containers of the sandbox call it.

        Raises: SourceNotFound when the image is not there, EngineRefused, EngineUnavailable.
        """
        api = self._engine.api
        name = f"{self.name}-{title}-{secrets.token_hex(3)}"
        network = self._own_network()
        with self._engine.asking("cannot start a container in the sandbox", f"{name} of image {image}"):
            created = api.create_container(
                image,
                **_only(settings or {}, _SETTINGS),
                name=name,
                labels=self._labels,
                host_config=api.create_host_config(
                    **_only(limits or {}, _LIMITS),
                    network_mode=network,
                    binds=[f"{source}:{path}:rw" for source, path in binds],
                ),
                networking_config={"EndpointsConfig": {network: api.create_endpoint_config(aliases=list(names))}},
            )
            api.start(created["Id"])
        return name

    def destroy(self) -> None:
        """Remove everything of this run. Raises: EngineRefused, EngineUnavailable."""
        _remove(self._engine, {"label": f"{LABEL}={self.run}"}, self._labels)

    def _own_network(self) -> str:
        if self._network is None:
            with self._engine.asking("cannot make the sandbox's network", self.name):
                self._engine.api.create_network(
                    self.name, driver="bridge", internal=True, options=_WITHOUT_HOST, labels=self._labels
                )
            self._network = self.name
        return self._network


def _only(given: Mapping[str, Any], allowed: frozenset[str]) -> dict[str, Any]:
    """Nothing that would let a container out of its sandbox, whoever asks for it."""
    if strange := given.keys() - allowed:
        raise EngineRefused("a container of a sandbox cannot have this", which=", ".join(sorted(strange)))
    return dict(given)


def container_log(engine: Engine, name: str) -> str:
    """What a container said, its last 2,000 lines. Raises: SourceNotFound, EngineUnavailable."""
    with engine.asking("cannot read the log of a container", name):
        data: bytes = engine.api.logs(name, tail=2000)
        return data.decode(errors="replace")


def reap(engine: Engine, *, older_than: float | None = None) -> list[str]:
    """Remove what killed drills left; the names of their sandboxes.

    Args:
        engine: where to look.
        older_than: also those of other hosts that are older than so many seconds: a worker in a container has another
            host name after every start. None leaves them alone, since their drill may be going on.

    Raises: EngineUnavailable. What cannot be removed now is told in the log, and tried again by the next.
    """
    with engine.asking("cannot list sandboxes"):
        things = [
            *engine.api.containers(all=True, filters={"label": LABEL}),
            *(engine.api.volumes(filters={"label": LABEL})["Volumes"] or ()),
            *engine.api.networks(filters={"label": LABEL}),
        ]
    left = {}
    for thing in things:
        labels = thing.get("Labels") or {}
        if LABEL in labels and (owner_is_gone(labels.get(OWNER, "")) or _abandoned(labels, older_than)):
            left[labels[LABEL]] = {LABEL: labels[LABEL], OWNER: labels.get(OWNER, "")}
    for run, labels in left.items():
        log.warning("removing the sandbox %s: the drill that made it was killed", run)
        try:
            _remove(engine, {"label": f"{LABEL}={run}"}, labels)
        except EngineRefused as error:
            log.warning("the sandbox %s cannot be removed: %s", run, error)
    return sorted(left)


def _abandoned(labels: Mapping[str, str], older_than: float | None) -> bool:
    """Whether a sandbox of another host is old enough."""
    created = labels.get(CREATED, "")
    mine = labels.get(OWNER, "").startswith(f"{socket.gethostname()}/")
    if older_than is None or mine or not created.isdigit():
        return False
    return time.time() - int(created) > older_than


def wait_for_container(engine: Engine, name: str, seconds: float) -> tuple[int | None, str]:
    """The exit code and the output of a container once it ended; None while it still runs after so many seconds.

    Raises: SourceNotFound, EngineRefused, EngineUnavailable.
    """
    deadline = time.monotonic() + seconds
    with engine.asking("cannot ask for a container of the sandbox", name):
        while (state := engine.api.inspect_container(name)["State"])["Running"] and time.monotonic() < deadline:
            time.sleep(0.2)
        output = engine.api.logs(name, stdout=True, stderr=True, tail=200)
    return None if state["Running"] else int(state["ExitCode"]), bytes(output).decode("utf-8", "replace")


def present_owner() -> str:
    """This process: `host/pid/start`, so that a reused number is not taken for us."""
    return f"{socket.gethostname()}/{os.getpid()}/{_start_of(os.getpid())}"


def owner_is_gone(owner: str) -> bool:
    """Whether the process is surely gone: it was on this host, and is no more."""
    host, _, process = owner.rpartition("/")[0].rpartition("/")
    start = owner.rpartition("/")[2]
    if host != socket.gethostname() or not process.isdigit():
        return False
    return _start_of(int(process)) != start


def _start_of(pid: int) -> str:
    """The process's start in clock ticks since boot (proc(5), field 22); "" when there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[19].decode()
    except OSError:
        return ""


def _remove(engine: Engine, filters: dict[str, str], labels: Mapping[str, str]) -> None:
    problems: list[HoldfastError] = []
    with engine.asking("cannot list a sandbox", labels[LABEL]):
        containers = engine.api.containers(all=True, filters=filters)
        volumes = engine.api.volumes(filters=filters)["Volumes"] or []
        networks = engine.api.networks(filters=filters)
    steps: list[tuple[str, Any]] = [
        *((thing["Id"], lambda t: engine.api.remove_container(t["Id"], force=True, v=True)) for thing in containers),
        *((thing["Name"], lambda t: engine.api.remove_volume(t["Name"])) for thing in volumes),
        *((thing["Id"], lambda t: engine.api.remove_network(t["Id"])) for thing in networks),
    ]
    for thing, (name, remove) in zip([*containers, *volumes, *networks], steps, strict=True):
        refuse_stranger(name, thing.get("Labels") or {}, labels[LABEL])
        try:
            with engine.asking("cannot remove a part of a sandbox", name):
                try:
                    remove(thing)
                except NotFound:
                    continue  # somebody was quicker
        except HoldfastError as error:
            problems.append(error)
    if problems:
        raise problems[0]


def refuse_stranger(name: str, labels: Mapping[str, str], run: str) -> None:
    """Raise unless something is part of this very sandbox. Raises: EngineRefused."""
    if labels.get(LABEL) != run:
        raise EngineRefused(
            "refusing to remove what is no part of the sandbox",
            which=name,
            wanted=f"label {LABEL}={run}",
            found=labels.get(LABEL) or "no such label",
        )
