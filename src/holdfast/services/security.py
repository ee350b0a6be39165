"""What makes a backup worth less than it looks: findings about the host's containers and the files of secrets.

Rules upheld here:
- Facts, not opinions: each finding names the object, what was found there, and a remedy that can be carried out.
- It only looks. A sandbox's own containers are left out, and what a label of the container accepts.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from holdfast.config.labels import read_labels
from holdfast.model.monitor import Finding, Severity
from holdfast.policy.accepted import without_accepted

if TYPE_CHECKING:
    from holdfast.config.models import Config

_SOCKETS = ("docker.sock", "containerd.sock", "podman.sock")


def examine_containers(described: Iterable[Mapping[str, Any]]) -> Iterator[Finding]:
    """Running containers that own the host, of those that the engine describes."""
    from holdfast.engine.inventory import is_ours

    for container in described:
        running = (container.get("State") or {}).get("Running")
        if running and not is_ours(container["Config"].get("Labels") or {}):
            yield from judge_container(container)


def judge_container(container: Mapping[str, Any]) -> list[Finding]:
    """The findings about one container, as the engine describes it, that none of its labels accepts."""
    name = str(container["Name"]).lstrip("/")
    said = read_labels(container["Config"].get("Labels") or {}, "container", name).values
    return without_accepted(_about_container(container), [(kind, "*") for kind in said.get("accept", ())])


def _about_container(container: Mapping[str, Any]) -> Iterator[Finding]:
    name = str(container["Name"]).lstrip("/")
    host = container.get("HostConfig") or {}
    if host.get("Privileged"):
        yield _finding("container-privileged", name, "it runs privileged: it owns the host", "remove --privileged")
    for mount in container.get("Mounts") or ():
        source = str(mount.get("Source") or "")
        if source.endswith(_SOCKETS):
            text = f"it has the engine's socket {source}: whoever is in it owns the host"
            yield _finding("container-has-engine", name, text, "mount a proxy that allows only what it needs")
        elif mount.get("Type") == "bind" and mount.get("RW") and _is_root(container):
            text = f"it writes to {source} of the host as root"
            hint = "give it a user (--user) or mount it read-only"
            yield _finding("container-writes-as-root", name, text, hint, Severity.INFO)


def _is_root(container: Mapping[str, Any]) -> bool:
    return str((container.get("Config") or {}).get("User") or "").partition(":")[0] in ("", "0", "root")


def examine_secrets(config: Config) -> Iterator[Finding]:
    """Files of secrets that others may read. Those below /run/secrets are one container's own."""
    for path in sorted(_named(config.model_dump())):
        try:
            mode = os.stat(path).st_mode
        except OSError:
            continue  # `holdfast doctor` and every run that needs it say so
        if mode & stat.S_IROTH and not path.startswith("/run/secrets/"):
            text = f"every user of this machine may read it (mode {stat.S_IMODE(mode):o})"
            yield _finding("secret-readable", path, text, f"chmod 600 {path}", area="host")


def _named(value: object) -> Iterator[str]:
    """Every file that a configuration names for a secret."""
    if isinstance(value, dict):
        for key, held in value.items():
            if isinstance(held, str) and str(key).endswith("_file"):
                yield held
            yield from _named(held)
    elif isinstance(value, (list, tuple)):
        for held in value:
            yield from _named(held)


def _finding(
    kind: str, subject: str, found: str, hint: str, severity: Severity = Severity.WARNING, area: str = "engine"
) -> Finding:
    return Finding(kind=kind, subject=subject, severity=severity, found=found, hint=hint, area=area)
