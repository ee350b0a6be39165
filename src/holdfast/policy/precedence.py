"""Which of several answers holds: the first that says anything, and the rule that it came from.

The order is always the same: what was asked for on the command line, the configuration, labels, the default.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Choice(Generic[T]):
    """A value, and which rule said so."""

    value: T
    rule: str


def choose(*candidates: Choice[T | None], default: Choice[T]) -> Choice[T]:
    """The first candidate that has a value, else the default. Candidates come in the order of their precedence."""
    for candidate in candidates:
        if candidate.value is not None:
            return Choice(candidate.value, candidate.rule)
    return default
