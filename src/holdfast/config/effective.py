"""What holds for each stack: the configuration over labels over defaults, merged with what is there. Pure.

Rules upheld here:
- What one stack of the configuration names is no other's to capture, or to report.
- Every stack that is found stands in the result; `enabled` tells which of them are backed up unasked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from holdfast.config.account import account_of, container_methods, settings_of, stack_from
from holdfast.config.draft import PathKind, drafted
from holdfast.config.holding import hold_as_labelled
from holdfast.config.models import Config
from holdfast.config.stack import Stack
from holdfast.model.inventory import Inventory
from holdfast.policy.protection import StackProtection
from holdfast.policy.stacks import FoundStack, find_stacks, mounts

__all__ = ["Effective", "PathKind", "container_methods", "effective"]


@dataclass(frozen=True, slots=True)
class Effective:
    """A configuration in which every stack stands, found ones too; which of them are backed up unasked; the account."""

    config: Config
    enabled: frozenset[str]
    protection: tuple[StackProtection, ...]
    found: Mapping[str, FoundStack]


def effective(config: Config, inventory: Inventory, kind_of: Callable[[str], PathKind]) -> Effective:
    """Merge configuration, labels and what is there. `kind_of` tells what a path of the host is."""
    found = {stack.name: stack for stack in find_stacks(inventory)}
    by_stack: dict[str, FoundStack] = {}
    for name, declared in config.stacks.items():
        by_stack[name] = _belonging(found.pop(declared.project or name, FoundStack(name)), declared, inventory)
    by_stack.update(found)
    _claim_declared(config, by_stack)
    stacks, enabled, protection = dict(config.stacks), set(config.stacks), []
    for name, stack in by_stack.items():
        draft = drafted(name, stack, config.stacks.get(name), kind_of)
        settings = settings_of(draft)
        hold_as_labelled(draft, settings["quiesce"])
        protection.append(account_of(draft, settings))
        if name and (draft.specs or name in config.stacks):
            stacks[name] = stack_from(draft, settings)
            if draft.enabled:
                enabled.add(name)
    whole = config.model_copy(update={"stacks": stacks})
    ordered = tuple(sorted(protection, key=lambda p: (not p.unprotected, not p.stack, p.stack)))
    return Effective(whole, frozenset(enabled), ordered, by_stack)


def _belonging(found: FoundStack, declared: Stack, inventory: Inventory) -> FoundStack:
    """The stack with the containers that its declared sources bring in, where no project does.

    A project that is down has volumes and no containers: its volumes stay the stack's.
    """
    if found.containers:
        return found
    wanted = {s.container for s in declared.postgres} | {c.container for c in declared.commands}
    names = {spec.name for spec in declared.volumes} | {volume.name for volume in found.volumes}
    volumes = [volume for volume in inventory.volumes if volume.name in names]
    containers = tuple(
        c
        for c in inventory.containers
        if c.name in wanted or any(mounts(mount, volume) for mount in c.mounts for volume in volumes)
    )
    return replace(found, containers=containers, volumes=tuple(volumes))


def _claim_declared(config: Config, by_stack: dict[str, FoundStack]) -> None:
    """What one stack of the configuration names is no other's to report."""
    taken = {(name, spec.label) for name, stack in config.stacks.items() for spec in stack.sources}
    servers = {s.container for stack in config.stacks.values() for s in stack.postgres}
    for name, found in by_stack.items():
        others = {label for stack, label in taken if stack != name}
        by_stack[name] = _without(found, others, servers if name not in config.stacks else set())


def _without(found: FoundStack, labels: set[str], servers: set[str | None]) -> FoundStack:
    return replace(
        found,
        volumes=tuple(v for v in found.volumes if f"volume:{v.name}" not in labels),
        binds=tuple(b for b in found.binds if f"path:{b.path}" not in labels),
        databases=tuple(d for d in found.databases if d.container not in servers),
    )
