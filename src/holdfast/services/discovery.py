"""Finding stacks: the engine's inventory and the configuration, merged into what holds.

Rules upheld here:
- An engine that does not answer is an error only where something depends on it: directories need none.
- What is found is looked at anew for every backup: a stack's new volume is in the next restore point.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from holdfast.config.effective import Effective, PathKind, effective
from holdfast.config.models import Config
from holdfast.errors import ConfigError, EngineUnavailable
from holdfast.model.inventory import Inventory
from holdfast.services.stacks import engine_of, in_docker, stack_of

if TYPE_CHECKING:
    from holdfast.engine.client import Engine

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Served:
    """A configuration of the stacks that are backed up unasked: its own, and those that labels enable (`labelled`).

    `asked` tells whether the engine answered: without it, what labels enable, and what they say of the stacks of the
    configuration, is not known.
    """

    config: Config
    labelled: frozenset[str]
    asked: bool

    @property
    def known_labelled(self) -> frozenset[str] | None:
        """The stacks that only labels enable; None while that is not known."""
        return self.labelled if self.asked else None


def discover(config: Config) -> Effective:
    """What holds for every stack of the configuration and of the engine. Raises: EngineUnavailable, EngineRefused."""
    with engine_of(config) as engine:
        return discover_on(config, engine)


def discover_on(config: Config, engine: Engine) -> Effective:
    """`discover` with the engine given."""
    from holdfast.engine.inventory import take_inventory

    local = engine.same_machine()
    return effective(config, take_inventory(engine), kind_of_path if local else lambda _: "directory")


def with_found_stacks(config: Config, *names: str) -> Config:
    """The configuration with every stack that can be found; as it is where no engine answers and none is needed.

    Raises: EngineUnavailable when a stack of these names, or of the configuration, has to be found.
    """
    return _found(config, names).config


def chosen_stacks(
    config: Config, names: Sequence[str], *, command: str = "holdfast backup"
) -> tuple[Config, list[str]]:
    """The configuration with every stack that can be found, and those that are meant: the named, else the enabled.

    `command` is what can be run again with a name. Raises: ConfigError that names what there is; EngineUnavailable when
    a stack has to be found.
    """
    found = _found(config, names)
    for name in names:
        stack_of(found.config, name)
    chosen = list(names) or sorted(found.enabled)
    if not chosen:
        others = ", ".join(sorted(found.config.stacks))
        raise ConfigError(
            "no stack is meant",
            wanted="a stack's name, stacks in a configuration, or a label holdfast.enable",
            found=f"without being enabled: {others}" if others else "no stack",
            hint=f"{command} --stack {others.partition(',')[0]}" if others else "holdfast backup --path DIR",
        )
    for protection in found.protection:
        for line in protection.warnings if protection.stack in chosen else ():
            log.warning("%s", line)
    return found.config, chosen


def served_stacks(config: Config) -> Served:
    """The configuration with the stacks that are to be scheduled and watched; without an engine as it is."""
    asked = True
    try:
        found = discover(config)
    except EngineUnavailable:
        found, asked = effective(config, Inventory(), kind_of_path), False
    for protection in found.protection:
        for line in protection.warnings if protection.stack in found.enabled else ():
            log.warning("%s", line)
    stacks = {name: stack for name, stack in found.config.stacks.items() if name in found.enabled}
    labelled = found.enabled - set(config.stacks)
    return Served(found.config.model_copy(update={"stacks": stacks}), labelled, asked)


def _found(config: Config, names: Sequence[str] = ()) -> Effective:
    """What holds; without an engine, where none is needed, what the configuration says by itself."""
    declared = [config.stacks[name] for name in names if name in config.stacks]
    # A name that is nearly one of the configuration's is a slip, and no stack to be found.
    known = all(name in config.stacks or get_close_matches(name, config.stacks, 1) for name in names)
    if names and len(declared) == len(names) and not any(stack.discover or in_docker(stack) for stack in declared):
        return effective(config, Inventory(), kind_of_path)
    try:
        return discover(config)
    except EngineUnavailable:
        if not known or not config.stacks or any(stack.discover for stack in declared or config.stacks.values()):
            raise  # what is meant has to be found
        return effective(config, Inventory(), kind_of_path)


def kind_of_path(path: str) -> PathKind:
    """What a path of this machine is."""
    if os.path.isdir(path):
        return "directory"
    return "file" if os.path.exists(path) else "missing"
