"""What the command prints: columns, sizes, times and progress, in plain text.

Rules upheld here:
- Results go to stdout, everything else to stderr. Progress is drawn only on a terminal.
- JSON is one document per command, its fields those of the report values; bytes of a name that are not UTF-8 are the
  lone surrogates that Python makes of them, escaped, so that they can be made bytes again.
"""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from holdfast.model.words import files as files
from holdfast.model.words import many as many
from holdfast.model.words import moment as moment
from holdfast.model.words import seconds as seconds
from holdfast.model.words import size as size


def age(when: datetime) -> str:
    """How long ago a moment was."""
    return f"{seconds(max(0.0, (datetime.now(UTC) - when).total_seconds()))} ago"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns padded to their widest cell. On a terminal the last is wrapped, or goes below where it has no room."""
    lines = [tuple(heads), *(tuple(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads) - 1)]
    indent = sum(width + 2 for width in widths)
    below = terminal_width() - indent < _ROOM
    text = []
    for line in lines:
        before = "".join(cell.ljust(width + 2) for cell, width in zip(line, widths, strict=False))
        last = _wrapped(line[-1], _INDENT if below else indent)
        text += [before, *last] if below else [before + last[0].lstrip(), *last[1:]]
    return "\n".join(line.rstrip() for line in text)


_ROOM, _INDENT = 20, 4


def _wrapped(text: str, indent: int) -> list[str]:
    space = " " * indent
    lines = textwrap.wrap(
        text,
        terminal_width(),
        initial_indent=space,
        subsequent_indent=space,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return lines or [""]


def terminal_width() -> int:
    """The columns of the terminal that results go to; beyond any line where they go to a file or a program."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize


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
    click.echo(json_text(document))


def json_text(document: Any) -> str:
    """Plain values as JSON."""
    try:
        return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()
    except UnicodeEncodeError:
        return json.dumps(document, indent=2)


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
