"""The values of labels: how each kind is read from its text.

Rules upheld here:
- What is wrong is a ValueError whose text says what was wanted, or names the nearest word.
- Where the configuration has the same setting, its rules hold.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Callable, Iterable
from typing import Any

from pydantic import TypeAdapter, ValidationError

from holdfast.config.cron import check_cron
from holdfast.config.fields import DatabaseName, Exclusion
from holdfast.config.stack import Retention, Schedule
from holdfast.policy.accepted import ACCEPTABLE

YES = frozenset({"true", "yes", "1", "on"})
NO = frozenset({"false", "no", "0", "off", "none", "never"})
_WORDS = {"hourly": "0 * * * *", "daily": "0 3 * * *", "weekly": "0 3 * * sun", "monthly": "0 3 1 * *"}
_QUIESCE = ("none", "pause", "stop", "hooks")
_SECONDS = re.compile(r"([1-9][0-9]{0,4})\s*(s|m)?")
_KEEP = re.compile(r"(last|hourly|daily|weekly|monthly|yearly|within)=([0-9a-z]+)")


def truth(text: str) -> bool:
    """Whether it is wanted. Raises: ValueError."""
    word = text.strip().lower()
    if word not in YES | NO:
        raise ValueError(_nearest(word, ("true", "false", "yes", "no")) or "wanted true or false")
    return word in YES


def schedule(text: str) -> Schedule:
    """When: a cron expression, or a word for one. Raises: ValueError."""
    word = text.strip().lower()
    if len(word.split()) == 1 and word not in _WORDS and (near := _nearest(word, _WORDS)):
        raise ValueError(near)
    return Schedule(cron=_WORDS.get(word) or check_cron(text))


def quiesce(text: str) -> str:
    """How containers are held. Raises: ValueError."""
    word = text.strip().lower()
    if word not in _QUIESCE:
        raise ValueError(_nearest(word, _QUIESCE) or f"wanted one of {', '.join(_QUIESCE)}")
    return word


def patterns(text: str) -> tuple[str, ...]:
    """What is left out. Raises: ValueError."""
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    try:
        return TypeAdapter(tuple[Exclusion, ...]).validate_python(found)
    except ValidationError as error:
        raise ValueError(error.errors()[0]["msg"]) from None


def command(text: str) -> tuple[str, ...]:
    """The words of a command. Raises: ValueError."""
    words = tuple(shlex.split(text))
    if not words:
        raise ValueError("it is empty")
    return words


def seconds(text: str) -> int:
    """A length of time, in seconds. Raises: ValueError."""
    found = _SECONDS.fullmatch(text.strip())
    if not found:
        raise ValueError("wanted seconds, such as 30 or 30s, or minutes, such as 5m")
    return int(found.group(1)) * (60 if found.group(2) == "m" else 1)


def retention(text: str) -> Retention:
    """The rules that keep restore points. Raises: ValueError."""
    rules: dict[str, Any] = {}
    for part in re.split(r"[,\s]+", text.strip()):
        found = _KEEP.fullmatch(part)
        if not found:
            raise ValueError(f"{part!r} is no rule: wanted daily=7,weekly=5 and the like")
        rule, value = found.groups()
        rules[f"keep_{rule}"] = value if rule == "within" else int(value) if value.isdecimal() else value
    try:
        return Retention(**rules)
    except ValidationError as error:
        raise ValueError(error.errors()[0]["msg"]) from None


def text_of(text: str) -> str:
    """Any text that is not empty. Raises: ValueError."""
    if not text.strip():
        raise ValueError("it is empty")
    return text.strip()


def spelled(wanted: Any) -> Callable[[str], str]:
    """Reads a text as the configuration would; what it gives raises ValueError."""

    def read(text: str) -> str:
        try:
            return str(TypeAdapter(wanted).validate_python(text.strip()))
        except ValidationError as error:
            raise ValueError(error.errors()[0]["msg"]) from None

    return read


def size(text: str) -> int:
    """A number of bytes. Raises: ValueError."""
    if not text.strip().isdecimal():
        raise ValueError("wanted a number of bytes")
    return int(text)


def accepted(text: str) -> tuple[str, ...]:
    """Kinds of findings that are meant to be so. Raises: ValueError."""
    kinds = tuple(part.strip() for part in text.split(",") if part.strip())
    for kind in kinds:
        if kind not in ACCEPTABLE:
            raise ValueError(_nearest(kind, ACCEPTABLE) or f"wanted some of {', '.join(ACCEPTABLE)}")
    return kinds


def databases(text: str) -> Any:
    """Which databases: `all`, or their names. Raises: ValueError."""
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    return "all" if found == ("all",) else tuple(spelled(DatabaseName)(name) for name in found)


def _nearest(word: str, known: Iterable[str]) -> str | None:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {near[0]}?" if near else None
