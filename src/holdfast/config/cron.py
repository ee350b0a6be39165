"""Cron expressions: five fields, checked before a scheduler sees them.

Rules upheld here:
- Accepted is the core that every scheduler knows: `*`, numbers, names of months and days, ranges, lists, steps.
  Seconds, years, `@daily`, `L`, `#`, `?` and wrapped ranges are refused, with what to write instead.
- An expression that never fires (30 February) or that says more than it does (`*/90` minutes) is refused.

Source: crontab(5); as there, a day matches when either of the two day fields does, if both are restricted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_MONTHS = {
    name: at
    for at, name in enumerate(
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], start=1
    )
}
_DAYS = {name: at for at, name in enumerate(["sun", "mon", "tue", "wed", "thu", "fri", "sat"])}
_LONGEST = (0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)

_ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    low: int
    high: int
    names: Mapping[str, int]

    def parse(self, text: str) -> frozenset[int]:
        """The values that the field matches. Raises: ValueError saying what is wrong."""
        return frozenset(value for part in text.split(",") for value in self._part(part))

    def _part(self, part: str) -> range:
        found = re.fullmatch(r"(?:\*|(\w+)(?:-(\w+))?)(?:/(\d{1,4}))?", part, re.ASCII)
        if not found:
            raise ValueError(f"{part!r} is no {self.name}")
        first, last, step = found.groups()
        low = self.low if first is None else self._number(first)
        high = self.high if first is None else self._number(last or first)
        if low > high:
            raise ValueError(f"the {self.name}s {part} run backwards: write two ranges with a comma")
        if step is None:
            return range(low, high + 1)
        if first is not None and last is None:
            raise ValueError(f"{part!r} has a step without a range: write {first}-{self.high}/{step}")
        if not 0 < int(step) <= high - low:
            raise ValueError(f"the step of {part!r} is not from 1 to {high - low}: it would match only once")
        return range(low, high + 1, int(step))

    def _number(self, text: str) -> int:
        number = self.names.get(text.lower(), int(text) if text.isdecimal() else -1)
        if not self.low <= number <= self.high:
            raise ValueError(f"{text} is no {self.name}: wanted {self.low} to {self.high}")
        return number


_FIELDS = (
    _Field("minute", 0, 59, {}),
    _Field("hour", 0, 23, {}),
    _Field("day of the month", 1, 31, {}),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of the week", 0, 7, _DAYS),
)


def check_cron(text: str) -> str:
    """The expression with single spaces between its fields. Raises: ValueError saying what is wrong."""
    words = text.split()
    if len(words) == 1 and words[0].startswith("@"):
        instead = _ALIASES.get(words[0].lower())
        raise ValueError(f"{words[0]} is not accepted" + (f": write {instead}" if instead else ""))
    if len(words) != len(_FIELDS):
        raise ValueError(f"{len(words)} fields instead of 5 (minute, hour, day of the month, month, day of the week)")
    _, _, days, months, _ = (field.parse(word) for field, word in zip(_FIELDS, words, strict=True))
    if words[4] == "*" and min(days) > max(_LONGEST[month] for month in months):
        raise ValueError(f"it never fires: no such month has a day {min(days)}")
    return " ".join(words)
