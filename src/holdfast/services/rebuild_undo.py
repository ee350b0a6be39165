"""What a restore of a stack has done so far, written down before it is done, and how each thing is undone.

Rules upheld here:
- Each step is in the journal, and on the disk, before it is taken: who undoes need not know whether it was. Undoing
  looks at what is there, and what was undone already is left alone.
- Undone is in reverse, everything, also after the first failure.
- A stop that was asked for last may still be going on in the engine, and would end the container after it was started
  again: it is waited for.
- Once the journal says that the new stack is whole, nothing is undone any more: what was kept of the old one goes.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import cast

from holdfast.engine import rebuild as make
from holdfast.engine.client import Engine
from holdfast.engine.exec import ContainerRunner
from holdfast.engine.journal import Record, Undo
from holdfast.engine.volumes import MADE_BY, find_volume, remove_volume
from holdfast.errors import HoldfastError, RestoreError, SourceNotFound
from holdfast.postgres.facts import databases
from holdfast.postgres.load import ASIDE, bring_back, drop_aside
from holdfast.postgres.server import Server, container_server
from holdfast.services.placement import discard, swap_back
from holdfast.services.sandboxes import wait_until_ready

_SKEW = 2.0


def undo_all(engine: Engine | None, steps: Sequence[Undo]) -> list[str]:
    """Undo everything, last first; what could not be undone, in words."""
    problems = _each(engine, [step for step in steps[-1:] if step.kind == "stopped"], {"stopped": _started})
    return [*problems, *_each(engine, reversed(steps), _UNDO)]


def finish(engine: Engine | None, steps: Sequence[Undo]) -> list[str]:
    """Remove what was kept of the old stack; what could not be removed, in words."""
    return _each(engine, steps, _FINISH)


def settle(engine: Engine | None, record: Record) -> list[str]:
    """Bring a restore whose process died to one of its two ends; what could not be done, in words."""
    return finish(engine, record.undos) if record.committed else undo_all(engine, record.undos)


def _each(engine: Engine | None, steps: Iterable[Undo], how: Mapping[str, Callable[[Engine, Undo], None]]) -> list[str]:
    problems = []
    for step in steps:
        try:
            # Where no engine is at hand, no step was taken that needs one.
            how.get(step.kind, _nothing)(cast("Engine", engine), step)
        except (HoldfastError, OSError) as error:
            problems.append(f"{step.kind} {step.name}: {error}")
    return problems


def _nothing(engine: Engine, step: Undo) -> None:
    """Of this kind nothing has to be done."""


def _network(engine: Engine, step: Undo) -> None:
    if step.name in make.network_names(engine):
        make.remove_network(engine, step.name)


def _volume(engine: Engine, step: Undo) -> None:
    try:
        ours = MADE_BY in find_volume(engine, step.name).labels
    except SourceNotFound:
        return
    if ours:
        remove_volume(engine, step.name)


def _file(_: Engine, step: Undo) -> None:
    """What somebody wrote there since is not ours to remove."""
    if os.path.isfile(step.name) and not os.path.islink(step.name):
        with open(step.name, "rb") as file:
            data = file.read()
        if not data or hashlib.sha256(data).hexdigest() == step.digest:
            os.unlink(step.name)


def _folder(_: Engine, step: Undo) -> None:
    if os.path.isdir(step.name) and not os.listdir(step.name):
        os.rmdir(step.name)


def _tree(_: Engine, step: Undo) -> None:
    discard(step.new)


def _swap(_: Engine, step: Undo) -> None:
    swap_back(step.name, new=step.new, old=step.old, was=step.was)


def _stopped(engine: Engine, step: Undo) -> None:
    if make.container_state(engine, step.name) not in ("running", None):
        make.start_container(engine, step.name)


def _started(engine: Engine, step: Undo) -> None:
    if make.container_state(engine, step.name) in ("running", "paused", "restarting"):
        make.stop_container(engine, step.name)


def _container(engine: Engine, step: Undo) -> None:
    created = make.container_created(engine, step.name)
    if created is not None and datetime.fromisoformat(created[:19] + "+00:00").timestamp() + 1 > step.written - _SKEW:
        make.remove_container(engine, step.name)


def _databases(engine: Engine, step: Undo) -> None:
    """The databases that were there have their names again, and what was loaded is gone."""
    if make.container_state(engine, step.name) is None:
        return
    server = _server(engine, step)
    with server.session() as session:
        present = databases(session)
    for aside, name in _asides(present, step).items():
        bring_back(server, name, aside)
        present = [each for each in present if each not in (aside, name)]
    for name in set(present) - set(step.before):
        bring_back(server, name, None)


def _drop_asides(engine: Engine, step: Undo) -> None:
    server = _server(engine, step)
    with server.session() as session:
        present = databases(session)
    for aside in _asides(present, step):
        drop_aside(server, aside)


def _asides(present: Sequence[str], step: Undo) -> dict[str, str]:
    """The databases that were set aside since, with the names that they had."""
    found = {}
    for aside in set(present) - set(step.before):
        if match := re.fullmatch(ASIDE, aside):
            names = [name for name in step.before if name[:40] == match.group(1)]
            gone = [name for name in names if name not in present] or names
            if gone:
                found[aside] = gone[0]
    return found


def _server(engine: Engine, step: Undo) -> Server:
    """The server of a step, started where it does not run. Raises: RestoreError."""
    if make.container_state(engine, step.name) != "running":
        make.start_container(engine, step.name)
    runner = ContainerRunner(engine, step.name)
    try:
        wait_until_ready(runner, step.user)
    except HoldfastError as error:
        raise RestoreError("the database server does not answer", which=step.name, found=str(error)) from error
    return container_server(runner, user=step.user, password=None, image=None)


def _old_tree(_: Engine, step: Undo) -> None:
    discard(step.old)
    discard(step.new)  # where entries were swapped it is left, empty


_UNDO: dict[str, Callable[[Engine, Undo], None]] = {
    "network": _network,
    "volume": _volume,
    "file": _file,
    "folder": _folder,
    "tree": _tree,
    "swap": _swap,
    "stopped": _stopped,
    "started": _started,
    "container": _container,
    "databases": _databases,
}
_FINISH: dict[str, Callable[[Engine, Undo], None]] = {"tree": _tree, "swap": _old_tree, "databases": _drop_asides}
