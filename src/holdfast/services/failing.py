"""What fails alone: one source of a stack, one stack of several. The others are captured all the same.

Rules upheld here:
- The run ends as failed, with the first failure; its restore point stays, and counts as incomplete.
- What would fail for all of them (the store, the repository's lock) ends the run at once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from holdfast.errors import (
    ConfigError,
    DatabaseDenied,
    DatabaseUnavailable,
    EngineRefused,
    EngineUnavailable,
    HoldfastError,
    SourceError,
)

log = logging.getLogger(__name__)

_ALONE = (SourceError, EngineRefused, EngineUnavailable, DatabaseUnavailable, DatabaseDenied, ConfigError)


class Failing:
    """The failures of things that fail alone."""

    def __init__(self) -> None:
        self.first: HoldfastError | None = None

    @contextmanager
    def alone(self, what: str) -> Iterator[None]:
        """Let the block fail: what comes after it runs all the same. Every failure but the first is told here."""
        try:
            yield
        except _ALONE as error:
            if self.first is not None:
                log.warning("%s: %s", what, error)
            self.first = self.first or error

    def end(self, captured: int, of: int, what: str) -> None:
        """Raise the first failure, if there was one; before that tell what was captured nevertheless."""
        if self.first is not None:
            if captured:
                log.warning("%s: %d of %d were captured all the same", what, captured, of)
            raise self.first
