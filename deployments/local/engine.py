"""A Docker Engine to work with: one that can be reached, or a private one that is ours to fill and to destroy.

Rules upheld here:
- A private engine shares nothing with another: own socket, data, containerd and control group, no configuration file,
  no default bridge, no iptables rules, no change of IP forwarding. It is gone, with all it held, after `stop` or our
  death.
- Containers on it have a network only if one was created for them: user-defined bridges work, among each other, from
  this machine to the container's address, and through published ports. Nothing is routed beyond this machine.
- Only an engine that was started here may be treated roughly: `find_engine` finds other people's.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from deployments.local.kept import Command, Kept, Stopping
from deployments.local.machine import (
    CAP_NET_ADMIN,
    CAP_SYS_ADMIN,
    CannotProvide,
    find_tool,
    has_capability,
    is_root,
)
from deployments.local.packages import ensure_tool
from holdfast.errors import EngineUnavailable

PACKAGES = ("docker.io", "iptables")  # iptables: the engine's name server inside containers needs it
TRUST_KEY = "/etc/docker/key.json"  # engines before 23 write it, whatever they are told


@dataclass(frozen=True)
class EngineSearch:
    """What looking for an engine gave: its URL, or the reasons why there is none."""

    url: str | None
    reasons: tuple[str, ...] = ()


def find_engine() -> EngineSearch:
    """Which engine can be reached: the one that DOCKER_HOST names and no other, or one at a usual socket."""
    named = os.environ.get("DOCKER_HOST")
    rootless = f"unix://{os.environ.get('XDG_RUNTIME_DIR', f'/run/user/{os.getuid()}')}/docker.sock"
    reasons = []
    for url in [named] if named else ["unix:///var/run/docker.sock", rootless]:
        reason = why_no_answer(url)
        if reason is None:
            return EngineSearch(url)
        reasons.append(f"{url}: {reason}")
    return EngineSearch(None, tuple(reasons))


def why_no_answer(url: str, *, seconds: float = 5.0) -> str | None:
    """None when an engine answers at this URL, otherwise why not."""
    import docker
    import requests

    if url.startswith("unix://") and not os.path.exists(url.removeprefix("unix://")):
        return "no such socket"
    try:
        with contextlib.closing(docker.APIClient(base_url=url, timeout=int(seconds), version="auto")) as client:
            client.ping()
    except (docker.errors.DockerException, requests.RequestException, ValueError) as error:
        return " ".join(str(error).split())
    return None


def ensure_docker_installed() -> None:
    """Have `dockerd` and its helpers on this machine.

    Raises:
        CannotProvide: they are missing and cannot be installed.
    """
    for tool in ("dockerd", "containerd", "runc"):
        ensure_tool(tool, PACKAGES)


def private_engine_is_possible() -> str | None:
    """None when a private engine can be started here (perhaps after installing one), otherwise the reason why not."""
    if not is_root():
        return "a private Docker Engine needs root"
    if not (has_capability(CAP_SYS_ADMIN) and has_capability(CAP_NET_ADMIN)):
        return "this container has not the privileges that a Docker Engine needs (CAP_SYS_ADMIN, CAP_NET_ADMIN)"
    return None


class PrivateEngine(Stopping):
    """A Docker Engine of our own; use it in a `with` block."""

    def __init__(self) -> None:
        self._kept: Kept | None = None

    @property
    def folder(self) -> str:
        """The folder that holds all of it; its name is the engine's, too."""
        if self._kept is None:
            raise EngineUnavailable("the private engine is not running", hint="call start() first")
        return self._kept.folder

    @property
    def url(self) -> str:
        """The engine's address, `unix:///.../docker.sock`."""
        return f"unix://{self.folder}/docker.sock"

    def start(self, *, seconds: float = 60.0) -> Self:
        """Install the engine if need be, start it, and wait until it answers.

        Raises:
            CannotProvide: it cannot run here; `found` is the reason, such as the end of its log.
        """
        reason = private_engine_is_possible()
        if reason is not None:
            raise CannotProvide("no private Docker Engine", found=reason, hint="run as root, or start Docker")
        ensure_docker_installed()
        self._kept = Kept()
        with _one_at_a_time():
            had_key = os.path.lexists(TRUST_KEY)
            try:
                self._kept.start(_commands(self._kept))
                self._wait(self._kept, time.monotonic() + seconds)
            except BaseException:
                self.stop()
                raise
            if not had_key and os.path.lexists(TRUST_KEY):
                os.unlink(TRUST_KEY)
        return self

    def stop(self) -> None:
        """Stop the engine and remove all that it held; does nothing when it is not running.

        Raises:
            CannotProvide: it had died before, or something of it could not be removed.
        """
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.stop()

    def _wait(self, kept: Kept, deadline: float) -> None:
        while (reason := why_no_answer(self.url)) is not None:
            kept.require_alive()
            if time.monotonic() > deadline:
                raise CannotProvide("the private Docker Engine does not answer", which=self.url, found=reason)
            time.sleep(0.1)

    def __enter__(self) -> Self:
        return self.start()


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Two engines that start at once would take the same key, which is their identity, and leave it behind."""
    folder = os.open(os.path.dirname(os.path.dirname(TRUST_KEY)), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _commands(kept: Kept) -> list[Command]:
    """A containerd of its own (a dockerd would otherwise join the one of another engine), then dockerd."""
    with open(kept.path("containerd.toml"), "w", encoding="utf-8") as file:
        file.write(
            "version = 2\n"
            f"root = {json.dumps(kept.path('containerd-root'))}\n"
            f"state = {json.dumps(kept.path('containerd-state'))}\n"
            'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
            f"[grpc]\naddress = {json.dumps(kept.path('containerd.sock'))}\n"
        )
    with open(kept.path("daemon.json"), "w", encoding="utf-8") as file:
        file.write("{}")
    containerd = (_tool("containerd"), "--config", kept.path("containerd.toml"))
    return [
        Command("containerd", containerd, ends_with_keeper=False),  # dockerd needs it to end its containers
        Command("dockerd", _dockerd(kept), grace=15.0),
    ]


def _dockerd(kept: Kept) -> tuple[str, ...]:
    # A random range: two engines that create a network at the same instant do not see each other's yet.
    ranges = (f"base=10.{192 + secrets.randbelow(64)}.0.0/16,size=24", "base=172.16.0.0/12,size=20")
    options = {
        "--config-file": kept.path("daemon.json"),
        "--host": f"unix://{kept.path('docker.sock')}",
        "--data-root": kept.path("data"),
        "--exec-root": kept.path("exec"),
        "--pidfile": kept.path("dockerd.pid"),
        "--containerd": kept.path("containerd.sock"),
        "--bridge": "none",
        "--exec-opt": "native.cgroupdriver=cgroupfs",  # works with and without systemd, version 1 and 2
        "--cgroup-parent": f"/{os.path.basename(kept.folder)}",
    }
    switches = ("--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false")
    pools = [word for pool in ranges for word in ("--default-address-pool", pool)]
    return (_tool("dockerd"), *(word for pair in options.items() for word in pair), *switches, *pools)


def _tool(name: str) -> str:
    path = find_tool(name)
    if path is None:
        raise CannotProvide(f"{name} is missing")
    return path


def engine_version() -> str:
    """The version of the installed `dockerd`, in its own words."""
    done = subprocess.run([_tool("dockerd"), "--version"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or done.stderr.strip()
