"""What the demo says while it works: one line per step, drawn live on a terminal, plain lines elsewhere.

Rules upheld here:
- Every step shows when it begins and how long it took; nothing is said to be done before it is.
- Without a terminal there is no colour and no line that is written over.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

from rich.console import Console


class Teller:
    """Speaks on standard output."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._started

    def heading(self, text: str) -> None:
        """A part of the story begins."""
        self._say(f"\n{text}", style="bold")

    def line(self, text: str = "") -> None:
        """A finding, below its step."""
        self._say(f"           {text}".rstrip())

    def verdict(self, text: str, *, good: bool) -> None:
        """How it ended."""
        self._say(text, style="bold green" if good else "bold red")

    @contextlib.contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Something that takes a while."""
        started = time.monotonic()
        if self._console.is_terminal:
            with self._console.status(text):
                yield
            self._say(f"{self._stamp()} {text}: {time.monotonic() - started:.1f} s")
        else:
            self._say(f"{self._stamp()} {text} ...")
            yield
            self.line(f"done in {time.monotonic() - started:.1f} s")

    def _stamp(self) -> str:
        return f"[{self.seconds:6.1f} s]"

    def _say(self, text: str, style: str | None = None) -> None:
        self._console.print(text, style=style, markup=False)
        sys.stdout.flush()
