"""What is wrong with a configuration: every problem at once, each with its place.

Rules upheld here:
- One `InvalidConfig` carries all problems of one file, in the order of their lines.
- A problem tells its place (file, line, column, dotted path), what is wrong, what was wanted and what was found. It
  never repeats a value that may be a secret.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from holdfast.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. Lines and columns count from 1, as editors do."""

    source: str
    line: int
    column: int
    path: str
    what: str
    wanted: str | None = None
    found: str | None = None
    hint: str | None = None

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}: {self.text}"

    @property
    def text(self) -> str:
        """All but the place in the file."""
        line = f"{self.path}: {self.what}" if self.path else self.what
        details = [f"{label} {text}" for label, text in (("wanted", self.wanted), ("found", self.found)) if text]
        line = f"{line}: {', '.join(details)}" if details else line
        return f"{line} ({self.hint})" if self.hint else line


class InvalidConfig(ConfigError):
    """The configuration file is wrong. `str()` is one line, as of every error; `report()` has one for each problem."""

    def __init__(self, source: str, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.line, problem.column, problem.path)))
        count = len(self.problems)
        super().__init__(
            f"the configuration has {count} problems" if count > 1 else "the configuration is not valid",
            which=source,
            hint=f"holdfast config check {shlex.quote(source)}",
        )
        self.source = source

    def __str__(self) -> str:
        listed = "; ".join(f"{problem.line}:{problem.column}: {problem.text}" for problem in self.problems)
        return " ".join(f"{self.what}: {self.source}: {listed}".split())

    def __reduce__(self) -> tuple[Any, ...]:
        return InvalidConfig, (self.source, self.problems)

    def report(self) -> str:
        """One line for each problem, the way compilers write them, so that editors can jump there."""
        return "\n".join(str(problem) for problem in self.problems)

    def as_dict(self) -> dict[str, object]:
        """The error as plain data."""
        return {**super().as_dict(), "problems": [asdict(problem) for problem in self.problems]}
