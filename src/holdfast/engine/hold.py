"""Holding containers for a moment, and letting them go: pause or stop, hooks before and after.

Rules upheld here:
- The journal has the intent before anything is done; what was not running before is neither held nor ever started.
- A stop whose answer was not seen may still be going on in the engine, which would end the container after it was let
  go: it is waited for, last of all, and the container started again.
- An engine that died while containers were held has perhaps ended them, when it came back: they are started again, too.
- Letting go looks at what is: a container that goes on already is left alone, so that two may let go at once.
- Everything is let go, also after the first failure; the failure is told in the end.
- Holdfast never holds the container that it runs in itself.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from holdfast.engine.client import Engine
from holdfast.engine.discovery import Container, parse_container
from holdfast.engine.exec import ContainerRunner, read_all
from holdfast.engine.journal import Held, HookRun, Journal, Line, Record
from holdfast.engine.timing import Deadline
from holdfast.errors import CommandFailed, EngineRefused, HoldfastError, SourceNotFound, SourceUnreadable
from holdfast.model.inventory import FoundContainer

log = logging.getLogger(__name__)

_SKEW = 2.0
"""Seconds by which the engine's clock may lag behind ours when it tells since when a container is stopped."""


@dataclass(frozen=True, slots=True)
class Target:
    """A container to hold, and how: pause or stop."""

    container: FoundContainer
    method: str


@dataclass(frozen=True, slots=True)
class HookCall:
    """Commands in a container around the hold."""

    container: str
    pre: tuple[str, ...] = ()
    post: tuple[str, ...] = ()
    user: str | None = None
    timeout: int = 60


@dataclass(slots=True)
class Holding:
    """What is held, and for how long it was: seconds by the container's name, once it is let go."""

    seconds: dict[str, float] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    since: dict[str, float] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)

    def add(self, more: Holding) -> None:
        """What is held besides."""
        self.since.update(more.since)
        self.ids.update(more.ids)
        self.skipped.update(more.skipped)


def take_hold(engine: Engine, journal: Journal, targets: Sequence[Target], hooks: Sequence[HookCall]) -> Holding:
    """Run the hooks, then hold the containers in this order. What fails raises; the caller lets go in every case.

    Raises: CommandFailed (a hook), SourceNotFound, SourceUnreadable, EngineRefused, EngineUnavailable.
    """
    holding = Holding()
    for hook in hooks:
        found = _named(engine, hook.container)
        journal.add(
            Line(
                hook=HookRun(
                    container=found.id, name=hook.container, post=hook.post, user=hook.user, timeout=hook.timeout
                )
            )
        )
        if hook.pre:
            run_hook(engine, hook.container, hook.pre, hook.user, hook.timeout)
    wanted = []
    for target in targets:
        status = _status(engine, target.container.id)
        if status == "running" and not is_own(target.container.id):
            wanted.append(target)
        else:
            holding.skipped[target.container.name] = status
    for target in wanted:
        each = Held(container=target.container.id, name=target.container.name, method=target.method)
        journal.add(Line(held=each))
        holding.since[each.name], holding.ids[each.name] = time.monotonic(), each.container
        _hold(engine, each)
        if each.method == "stop":
            journal.add(Line(done=each.container))
    return holding


def going_on(engine: Engine, holding: Holding) -> list[str]:
    """Which of those that are held are not any more: somebody else let them go. Raises: EngineUnavailable."""
    if not holding.ids:
        return []
    with engine.asking("cannot list the containers that are held"):
        found = engine.api.containers(filters={"id": list(holding.ids.values()), "status": ["running", "restarting"]})
    running = {each["Id"] for each in found}
    return [name for name, identity in holding.ids.items() if identity in running]


def let_go(engine: Engine, record: Record, holding: Holding | None = None, *, ran: set[int] | None = None) -> list[str]:
    """Let everything of a journal go, last held first, and run what is to follow; the names of those that were held.

    `ran` are hooks that ran already, by their place in the journal: whoever tries again gives the same set.
    Raises: the first failure, after everything was tried.
    """
    freed: list[str] = []
    problems: list[HoldfastError] = []
    ran = set() if ran is None else ran
    backwards = record.held[::-1]
    for each in sorted(backwards, key=lambda held: _in_doubt(held, record)):
        try:
            if _release(engine, each, record):
                freed.append(each.name)
        except HoldfastError as error:
            problems.append(error)
        if holding is not None and each.name in holding.since:
            holding.seconds[each.name] = time.monotonic() - holding.since[each.name]
    for place, hook in reversed(list(enumerate(record.hooks))):
        if not hook.post or place in ran:
            continue
        try:
            run_hook(engine, hook.name, hook.post, hook.user, hook.timeout)
            ran.add(place)
            freed.append(f"post of {hook.name}")
        except SourceNotFound:
            log.warning("container %s is gone: its post hook was not run", hook.name)
        except HoldfastError as error:
            problems.append(error)
    if problems:
        raise problems[0]
    return freed


def run_hook(engine: Engine, container: str, argv: Sequence[str], user: str | None, timeout: float) -> None:
    """Run a command in a container. Raises: CommandFailed with its exit status, or when it takes too long."""
    stream = ContainerRunner(engine, container, user=user, shell=has_shell(engine, container)).stream(argv)
    with Deadline(timeout, stream.close) as deadline:
        try:
            read_all(stream)
        except HoldfastError as error:
            if deadline.passed:
                raise CommandFailed(
                    "a hook took too long and was stopped",
                    which=f"{argv[0]} in container {container}",
                    wanted=f"at most {timeout:.0f} s",
                    hint="give it more time with `timeout`, or look at what it waits for",
                ) from error
            raise


def is_own(container: str) -> bool:
    """Whether this process runs in that container: holding it would hold Holdfast."""
    if len(container) >= 12 and socket.gethostname() == container[:12]:
        return True
    for path in ("/proc/self/cgroup", "/proc/self/mountinfo"):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                if any(f"/{container}" in line for line in file):
                    return True
        except OSError:
            continue
    return False


def _hold(engine: Engine, held: Held) -> None:
    with engine.asking(f"cannot {held.method} a container", held.name):
        if held.method == "pause":
            engine.api.pause(held.container)
        else:
            engine.api.stop(held.container, timeout=_stop_timeout(engine, held.container))


def _release(engine: Engine, held: Held, record: Record) -> bool:
    """Let one container go; whether there was something to do."""
    try:
        state = _raw(engine, held.container)["State"]
        if _in_doubt(held, record) and state["Status"] == "running":
            with engine.asking("cannot wait until a container has stopped", held.name):
                engine.api.stop(held.container, timeout=_stop_timeout(engine, held.container))
            state = _raw(engine, held.container)["State"]
    except SourceNotFound:
        return False
    if held.method == "pause" and state["Status"] == "paused":
        return _undo(engine, held, "unpause")
    ended = state["Status"] == "exited" and _since(state["FinishedAt"]) >= record.written - _SKEW
    if ended and (held.method == "stop" or record.lost):
        return _undo(engine, held, "start")
    return False


def _in_doubt(held: Held, record: Record) -> bool:
    """Whether the engine was asked to stop it, and perhaps still does."""
    return held.method == "stop" and held.container not in record.done


def _undo(engine: Engine, held: Held, verb: str) -> bool:
    try:
        with engine.asking(f"cannot {verb} a container", held.name):
            getattr(engine.api, verb)(held.container)
    except EngineRefused:
        if parse_container(_raw(engine, held.container)).running:
            return False  # somebody else was quicker
        raise
    return True


def _since(text: str) -> float:
    """When a container ended, in seconds since the epoch (RFC 3339 with nanoseconds)."""
    try:
        return datetime.fromisoformat(text[:19] + "+00:00").timestamp() + 1.0
    except ValueError:
        return 0.0


def _stop_timeout(engine: Engine, container: str) -> int:
    found = _raw(engine, container)["Config"].get("StopTimeout")
    return int(found) if found is not None else 10


def _named(engine: Engine, name: str) -> Container:
    from holdfast.engine.discovery import find_running

    return find_running(engine, name)


def _status(engine: Engine, container: str) -> str:
    try:
        return parse_container(_raw(engine, container)).status
    except SourceNotFound:
        return "gone"  # what is not there any more writes nothing


def _raw(engine: Engine, container: str) -> dict[str, Any]:
    with engine.asking("cannot inspect a container", container):
        return dict(engine.api.inspect_container(container))


def has_shell(engine: Engine, container: str) -> bool:
    """Whether /bin/sh is there: a hook needs none, but its output is known to be whole only with one."""
    from docker.errors import APIError

    try:
        with engine.asking("cannot look into a container", container):
            try:
                engine.api.get_archive(container, "/bin/sh")[0].close()
            except APIError as error:
                if error.status_code == 404:
                    return False
                raise
    except (SourceUnreadable, EngineRefused):
        return True
    return True
