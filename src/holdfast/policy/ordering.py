"""In which order the containers of a stack stop and start: what others depend on stops last and starts first. Pure.

A container depends on the services that its Compose label names, and on those whose network or processes it shares.
A container that goes when it stops is never stopped to be held; who shares with one that is stopped is stopped, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from holdfast.model.inventory import DEPENDS_ON, FoundContainer


def start_order(containers: Sequence[FoundContainer]) -> list[FoundContainer]:
    """Containers, each after those that it depends on. A circle is cut where it is met."""
    by_service: dict[str, list[FoundContainer]] = {}
    services = {key: container.service for container in containers for key in (container.id, container.name)}
    for container in containers:
        by_service.setdefault(container.service, []).append(container)
    ordered: list[FoundContainer] = []
    visited: set[str] = set()

    def visit(service: str) -> None:
        if service in visited:
            return
        visited.add(service)
        for container in by_service[service]:
            for needed in (*dependencies(container), *(services.get(joined, "") for joined in container.joins)):
                if needed in by_service:
                    visit(needed)
        ordered.extend(sorted(by_service[service], key=lambda container: container.name))

    for service in sorted(by_service):
        visit(service)
    return ordered


def dependencies(container: FoundContainer) -> list[str]:
    """The services that a container's label says it depends on: `db:service_healthy:false,cache:service_started`."""
    said = container.labels.get(DEPENDS_ON, "")
    return [part.partition(":")[0].strip() for part in said.split(",") if part.strip()]


def way_to_hold(container: FoundContainer, method: str) -> str:
    """How a container is held for which a method was chosen: one that would be gone once it stops is paused."""
    return "pause" if method == "stop" and container.goes_when_stopped else method


def stopped_with(stopped: Iterable[FoundContainer], all_of_them: Sequence[FoundContainer]) -> list[FoundContainer]:
    """The running containers that share with those that are stopped: alone they would go on without a network."""
    found: dict[str, FoundContainer] = {}
    names = {key for container in stopped for key in (container.id, container.name)}
    while more := [c for c in all_of_them if c.running and c.name not in found and names.intersection(c.joins)]:
        found |= {container.name: container for container in more}
        names |= {key for container in more for key in (container.id, container.name)}
    return list(found.values())
