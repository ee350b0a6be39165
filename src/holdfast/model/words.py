"""Sizes, lengths of time, moments and names, as people read them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def size(count: float) -> str:
    """Bytes for people: `1.4 GiB`."""
    unit = 0
    while count >= 1024 and unit < len(_UNITS) - 1:
        count /= 1024
        unit += 1
    return f"{count:.0f} {_UNITS[unit]}" if unit == 0 else f"{count:.1f} {_UNITS[unit]}"


def count(number: float) -> str:
    """How many, for people: `12,345`."""
    return f"{number:,.0f}"


def many(number: int, noun: str) -> str:
    """A number of things: `1 file`, `12,345 files`, `3 entries`."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def files(number: int) -> str:
    """A number of files: `1 file`, `12 files`."""
    return many(number, "file")


def growth(per_day: float | None, words: Callable[[float], str] = size) -> str:
    """What a size in bytes, or what `words` says otherwise, gains in a day, for people; a word while nobody knows."""
    if per_day is None:
        return "not known yet"
    if abs(per_day) < 1:
        return "none"
    return f"{'+' if per_day > 0 else '-'}{words(abs(per_day))} a day"


def seconds(count: float) -> str:
    """A length of time for people: `0.4 s`, `3 min 20 s`, `5 h 2 min`, `3 d 4 h`."""
    if count < 60:
        return f"{count:.1f} s"
    whole = round(count)
    for large, small, big, little in ((86400, 3600, "d", "h"), (3600, 60, "h", "min"), (60, 1, "min", "s")):
        if whole >= large:
            return f"{whole // large} {big} {whole % large // small} {little}"
    return f"{whole} s"


def moment(when: datetime) -> str:
    """A moment in the local zone, to the second."""
    return f"{when.astimezone():%Y-%m-%d %H:%M:%S}"


def printable(name: str) -> str:
    """A name of a file may hold anything, control characters and bytes that are no text, too: these are escaped."""
    return "".join(char if char.isprintable() else _escaped(char) for char in name)


def _escaped(char: str) -> str:
    if "\udc80" <= char <= "\udcff":  # a byte that is not UTF-8, as os.fsdecode gives it
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode()
