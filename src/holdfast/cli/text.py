"""What the command prints: columns, sizes, times and progress, in plain text.

Rules upheld here:
- Results go to stdout, everything else to stderr. Progress is drawn only on a terminal.
- JSON is one document per command, its fields those of the report values.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from holdfast.model.words import files as files
from holdfast.model.words import moment as moment
from holdfast.model.words import seconds as seconds
from holdfast.model.words import size as size


def age(when: datetime) -> str:
    """How long ago a moment was."""
    return f"{seconds(max(0.0, (datetime.now(UTC) - when).total_seconds()))} ago"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns padded to their widest cell; the last one is not padded."""
    lines = [tuple(heads), *(tuple(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads) - 1)]
    text = []
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=False)]
        text.append("  ".join((*cells, line[-1])).rstrip())
    return "\n".join(text)


def show(text: str) -> None:
    """A result, to stdout."""
    click.echo(text)


def tell(text: str) -> None:
    """A word on the way, to stderr."""
    click.echo(text, err=True)


def show_json(value: Any) -> None:
    """A result as JSON, to stdout; properties that a report computes are part of it."""
    document = msgspec.to_builtins(value)
    if isinstance(value, msgspec.Struct):
        computed = {
            name: getattr(value, name)
            for name, member in vars(type(value)).items()
            if isinstance(member, property) and not name.startswith("_")
        }
        document = {**document, **msgspec.to_builtins(computed)}
    click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())


class Progress:
    """One line on a terminal that is written over, at most four times a second; nothing elsewhere."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._active = not quiet and sys.stderr.isatty()
        self._shown_at = 0.0

    def update(self, text: str) -> None:
        """Show where the work is."""
        now = time.monotonic()
        if self._active and now - self._shown_at >= 0.25:
            self._shown_at = now
            sys.stderr.write(f"\r\033[K{text}")
            sys.stderr.flush()

    def clear(self) -> None:
        """Take the line away."""
        if self._active and self._shown_at:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
