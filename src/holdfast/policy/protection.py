"""What is protected and what is not, as values: each thing of a stack, what is done with it, and which rule said so.

What is not protected comes first: it is what a reader must not overlook.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

State = Literal["unprotected", "protected", "covered", "ignored"]
"""`covered`: its data is in another source (a server's files in its dump); `ignored`: it holds nothing to lose."""

_ORDER: tuple[State, ...] = ("unprotected", "protected", "covered", "ignored")


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One volume, directory, database or command. `what` is its label, `rule` what decided, `hint` what would help."""

    what: str
    state: State
    how: str
    when: str = ""
    rule: str = ""
    hint: str | None = None


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One setting of a stack, its value in words, and which rule said so."""

    name: str
    value: str
    rule: str


class StackProtection(msgspec.Struct, frozen=True, kw_only=True):
    """What a stack consists of, and what is done for each part. `origin`: from the configuration, labels, or found."""

    stack: str
    origin: str
    enabled: bool
    items: tuple[Item, ...]
    settings: tuple[Setting, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def unprotected(self) -> int:
        """How many things of the stack would be lost."""
        return sum(item.state == "unprotected" for item in self.items)

    @property
    def unscheduled(self) -> bool:
        """Whether somebody enabled it and nothing backs it up by itself."""
        return self.enabled and any(each.name == "schedule" and each.value == "none" for each in self.settings)


def in_order(items: Iterable[Item]) -> tuple[Item, ...]:
    """What is not protected first, then what is; databases, volumes and paths in their own order within."""
    return tuple(sorted(items, key=lambda item: _ORDER.index(item.state)))
