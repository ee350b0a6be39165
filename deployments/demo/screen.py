"""What the demo shows while it works: a line per step, with its time; on a terminal a sign of life."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape


class Screen:
    """Numbers the steps and times them."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._number = 0
        self.started = time.monotonic()

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """One step of the story."""
        self._number += 1
        self._console.print(f"[bold]{self._number:>2}  {escape(title)}[/bold]")
        started = time.monotonic()
        if self._console.is_terminal:
            with self._console.status(escape(title)):
                yield
        else:
            yield
        self.say(f"({time.monotonic() - started:.1f} s)")

    def say(self, line: str) -> None:
        """A line below the present step."""
        self._console.print(f"    {escape(line)}")

    def verdict(self, lines: list[str], *, good: bool) -> None:
        """The end of the story."""
        colour = "green" if good else "red"
        self._console.print()
        for line in lines:
            self._console.print(f"[{colour}]{escape(line)}[/{colour}]")
