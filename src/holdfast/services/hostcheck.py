"""What doctor looks at on a Docker host: what nobody protects, what a killed run left held, how fast its disk answers.

Rules upheld here:
- Where an engine answers, what nobody protects on it is told. Holding matters only where a stack lives in Docker.
- An engine that does not answer was told already, where one is needed.
- What is slow or unprotected is a warning: nothing is broken, and somebody should know.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from holdfast.errors import HoldfastError
from holdfast.model.words import size
from holdfast.services.discovery import discover
from holdfast.services.doctor_speed import examine_speed
from holdfast.services.finding import Finding
from holdfast.services.stacks import engine_of, in_docker

if TYPE_CHECKING:
    from holdfast.config.models import Config
    from holdfast.config.stack import SourceSpec, Stack
    from holdfast.policy.protection import StackProtection

_SYNC_SECONDS = 0.5
"""A journal line takes one fsync: slower than this, holding a container costs more than reading what changed."""

_SPOOL_BYTES = 1 << 30
_SHOWN = 5


def examine_host(config: Config) -> Iterator[Finding]:
    """The findings of this host."""
    try:
        found = discover(config)
    except HoldfastError:
        found = None  # the engine's own finding says so
    if found is not None:
        yield from _unprotected(found.protection)
    stacks = found.config.stacks if found else config.stacks
    enabled = [stack for name, stack in stacks.items() if found is None or name in found.enabled]
    if any(in_docker(stack) for stack in enabled):
        yield from _held()
        yield _slow()
        yield _spool()
        yield from examine_speed(config)
        yield from _grounds(config, enabled)


def _unprotected(found: Sequence[StackProtection]) -> Iterator[Finding]:
    lost = [item.what for stack in found for item in stack.items if item.state == "unprotected"]
    more = f" and {len(lost) - _SHOWN} more" if len(lost) > _SHOWN else ""
    yield Finding(
        check="protection",
        verdict="warn" if lost else "ok",
        found=f"not protected: {', '.join(lost[:_SHOWN])}{more}" if lost else "everything that was found is protected",
        hint="holdfast plan says why, and what to do" if lost else None,
    )
    by_hand = sorted(p.stack for p in found if p.origin == "labels" and p.unscheduled)
    if by_hand:
        yield Finding(
            check="schedule",
            verdict="warn",
            found=f"enabled by labels, and no schedule backs it up: {', '.join(by_hand)}",
            hint="label one of its volumes or containers holdfast.schedule=daily",
        )
    for stack in found:
        for line in stack.warnings:
            yield Finding(check=f"labels of {stack.stack or 'no stack'}", verdict="warn", found=line)


def _grounds(config: Config, stacks: Sequence[Stack]) -> Iterator[Finding]:
    """What the directories lie on whose writers are held: it decides for how long."""
    from holdfast.engine.ground import ground_of

    held = [spec for stack in stacks for spec in stack.sources if stack.quiesce_of(spec) != "none"]
    lying: dict[str, list[str]] = {}
    for spec in held:
        path = _path(config, spec)
        if path is not None:
            lying.setdefault(ground_of(path).words, []).append(spec.label)
    for words, labels in sorted(lying.items()):
        yield Finding(check="filesystem", verdict="ok", found=f"{', '.join(labels)}: {words}")


def _path(config: Config, spec: SourceSpec) -> str | None:
    from holdfast.config.sources import Directory, Volume
    from holdfast.engine.volumes import find_volume, readable_directly

    if isinstance(spec, Directory):
        return spec.path if os.path.isdir(spec.path) else None
    if not isinstance(spec, Volume):
        return None
    try:
        with engine_of(config) as engine:
            volume = find_volume(engine, spec.name)
            return volume.mountpoint if readable_directly(engine, volume) is None else None
    except HoldfastError:
        return None  # what is missing is a finding of its own


def _held() -> Iterator[Finding]:
    from holdfast.engine.journal import RESTORES, journals, state_folder, taken_over

    left: list[str] = []
    for path in journals(state_folder(), RESTORES):
        with taken_over(path) as record:
            left.extend([f"{record.stack}, half restored"] if record is not None else [])
    for path in journals(state_folder()):
        with taken_over(path) as record:
            if record is not None:
                left.extend(held.name for held in record.held)
    yield Finding(
        check="held",
        verdict="fail" if left else "ok",
        found=f"a killed run left held: {', '.join(left)}" if left else "no killed run left anything held",
        hint="holdfast thaw" if left else None,
    )


def _slow() -> Finding:
    from holdfast.engine.journal import state_folder

    started = time.monotonic()
    with tempfile.TemporaryFile(dir=state_folder()) as file:
        file.write(b"x" * 4096)
        os.fsync(file.fileno())
    seconds = time.monotonic() - started
    slow = seconds > _SYNC_SECONDS
    return Finding(
        check="disk",
        verdict="warn" if slow else "ok",
        found=f"a synced write to {state_folder()} takes {seconds * 1000:.0f} ms",
        hint="containers are held at least that long: put HOLDFAST_STATE on a quicker disk" if slow else None,
    )


def _spool() -> Finding:
    folder = tempfile.gettempdir()
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    little = free < _SPOOL_BYTES
    return Finding(
        check="spool",
        verdict="warn" if little else "ok",
        found=f"{size(free)} free in {folder}, where what changes during a backup is copied to",
        hint="set TMPDIR to a folder with more room" if little else None,
    )
