"""Trying again: how often, how long to wait between, and what is worth it.

Rules upheld here:
- Only an error that calls itself transient is tried again; the last one is raised, and says how often it was tried.
- Waits grow twofold up to a limit, each shortened by chance to between half and all of it, so that many clients of one
  server that comes back do not knock at the same instant.

The SDK's own retries are not used: its waits start at 50 ms and change between versions, and it knows nothing of a body
that breaks off while it is read.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from holdfast.errors import HoldfastError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Retry:
    """How often and how patiently.

    The default waits 8 to 16 seconds in all, on top of the time that the attempts themselves take.

    Args:
        attempts: how many times at most, the first one included.
        first: the wait before the second attempt, in seconds.
        longest: no wait is longer, in seconds.
        sleep: waits; replaced in tests.
    """

    attempts: int = 6
    first: float = 0.5
    longest: float = 20.0
    sleep: Callable[[float], None] = time.sleep

    def run(self, work: Callable[[], T]) -> T:
        """What `work` gives, after as many attempts as it takes. Raises: the last attempt's error."""
        for attempt in range(1, self.attempts):
            try:
                return work()
            except HoldfastError as error:
                if not error.transient:
                    raise
            self.sleep(self._wait(attempt))
        try:
            return work()
        except HoldfastError as error:
            if error.transient and self.attempts > 1:
                error.found = f"{error.found or 'no success'}, in the last of {self.attempts} attempts"
            raise

    def _wait(self, attempt: int) -> float:
        ceiling = min(self.longest, self.first * 2.0 ** (attempt - 1))
        return ceiling * random.uniform(0.5, 1.0)  # noqa: S311 - spreads waits, guards nothing
