"""Whom to hold for a stack's directories: from the configuration and what runs now to a plan; and what was left held.

Rules upheld here:
- Every container that may write one of the directories is held, also one of another stack; they are held together.
- A label on a container decides over the stack's method for that container alone.
- Whoever shares the network or the processes of a container that is stopped is stopped and started with it.
- What an earlier run left held is let go before anything else is done.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from holdfast.config.effective import container_methods
from holdfast.config.sources import Directory, Volume
from holdfast.config.stack import Stack
from holdfast.engine.client import Engine, connect
from holdfast.engine.hold import HookCall, Target, let_go
from holdfast.engine.inventory import take_inventory
from holdfast.engine.journal import forget_journal, journals, note_loss, state_folder, taken_over
from holdfast.engine.still import remove_still
from holdfast.errors import EngineUnavailable, HoldfastError, SourceBusy
from holdfast.model.inventory import FoundContainer, FoundVolume, Inventory
from holdfast.policy.ordering import start_order, stopped_with, way_to_hold
from holdfast.policy.stacks import is_below, writers_of
from holdfast.services.holding import FreezePlan

log = logging.getLogger(__name__)


def plan_freeze(engine: Engine, name: str, stack: Stack, specs: Sequence[Volume | Directory]) -> FreezePlan:
    """Whom to hold for these sources. Raises: EngineUnavailable."""
    return freeze_plan(name, stack, specs, take_inventory(engine))


def freeze_plan(name: str, stack: Stack, specs: Sequence[Volume | Directory], inventory: Inventory) -> FreezePlan:
    """The same as a pure function of what there is."""
    methods: dict[str, str] = {}
    writers: dict[str, FoundContainer] = {}
    for spec in specs:
        for container in _writers(spec, inventory):
            writers[container.name] = container
            method = stack.quiesce_of(spec)
            # A container that writes two sources is held in the stronger way of the two.
            methods[container.name] = "stop" if "stop" in (method, methods.get(container.name)) else method
    methods |= {n: m for n, m in container_methods(tuple(writers.values())).items() if n in writers}
    methods = {name: way_to_hold(writers[name], method) for name, method in methods.items()}
    for container in stopped_with((c for c in writers.values() if methods[c.name] == "stop"), inventory.containers):
        writers[container.name], methods[container.name] = container, "stop"
    held = [c for c in reversed(start_order(list(writers.values()))) if methods[c.name] in ("pause", "stop")]
    return FreezePlan(
        stack=name,
        targets=tuple(Target(container, methods[container.name]) for container in held),
        hooks=tuple(
            HookCall(hook.container, tuple(hook.pre or ()), tuple(hook.post or ()), hook.user, hook.timeout)
            for hook in stack.hooks
        ),
        limit=float(stack.hold_limit),
        last=frozenset(server.container for server in stack.postgres if server.container),
    )


def _writers(spec: Volume | Directory, inventory: Inventory) -> list[FoundContainer]:
    if isinstance(spec, Volume):
        volume = next((v for v in inventory.volumes if v.name == spec.name), FoundVolume(spec.name))
        return writers_of(inventory, volume)
    return [
        container
        for container in inventory.containers
        if any(
            mount.kind == "bind"
            and not mount.read_only
            and (is_below(mount.source, spec.path) or is_below(spec.path, mount.source))
            and mount.source != "/"
            for mount in container.mounts
        )
    ]


def thaw_left(*, own: str | None = None) -> list[str]:
    """Let go what killed runs left held, on whichever engine; one line for each.

    Raises: the first failure, after all were tried. With `own`, an engine that is not this one may be out of reach.
    """
    lines: list[str] = []
    problems: list[HoldfastError] = []
    for path in journals(state_folder()):
        with taken_over(path) as record:
            if record is None:
                continue
            try:
                with connect(record.engine or None) as engine:
                    freed = let_go(engine, record)
                for snapshot in record.snapshots:
                    remove_still(snapshot)
            except EngineUnavailable as error:
                note_loss(path)
                if own is not None and record.engine != own:
                    log.warning("what was held on %s is not let go yet: %s", record.engine, error)
                    continue
                problems.append(error)
            except HoldfastError as error:
                problems.append(error)
            else:
                forget_journal(path)
                lines.append(f"{record.stack}: {', '.join(freed) or 'nothing was held any more'}")
    if problems:
        raise problems[0]
    return lines


@contextmanager
def alone(stack: str, place: str, *, wait: bool) -> Iterator[None]:
    """Be the only backup or restore of a stack on this host for the time of the block.

    `place` (`place_of`) tells stacks of one name apart.

    Raises: SourceBusy when another one runs and `wait` is off.
    """
    path = os.path.join(state_folder(), f"{stack}-{hashlib.sha256(place.encode()).hexdigest()[:12]}.lock")
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise SourceBusy(
                "another backup, or a restore, of this stack is running",
                which=stack,
                found=f"process {holder}",
                hint="wait for it to end, or set when_busy: wait",
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
        yield
    finally:
        with contextlib.suppress(OSError):
            os.ftruncate(fd, 0)
        os.close(fd)
