"""How far work has come and how long it will still take, from what was done until now. Pure; the time is given.

Rules upheld here:
- What is expected is what it was last time: an estimate, said as one ("about"), and never shown as done before it is.
- Without a last time there is no share and no time left; what is known (files, bytes, rate) is told all the same.
"""

from __future__ import annotations

from collections.abc import Mapping

from holdfast.model.words import many, seconds, size

_SETTLED = 2.0
"""Seconds after which a rate says something."""

_ALMOST = 0.99


class Pace:
    """Counts what several parts of one run have done.

    Args:
        expected: bytes of each part by its name, as it was last time; parts without one have no estimate.
        started: when the run began, in seconds of any clock that the later calls use.
    """

    def __init__(self, expected: Mapping[str, int], started: float) -> None:
        self._expected, self._started = dict(expected), started
        self._files: dict[str, int] = {}
        self._bytes: dict[str, int] = {}

    def count(self, part: str, files: int, done: int) -> None:
        """What a part has done so far, in all."""
        self._files[part], self._bytes[part] = files, done

    @property
    def expected(self) -> Mapping[str, int]:
        """What is expected of each part."""
        return self._expected

    @property
    def share(self) -> float | None:
        """How much of it is done, from 0 to 1; None where nothing is expected."""
        total = sum(self._expected.values())
        if not total:
            return None
        done = sum(min(self._bytes.get(part, 0), most) for part, most in self._expected.items())
        return min(done / total, _ALMOST)

    def left(self, now: float) -> float | None:
        """Seconds that it will still take, at the rate until now; None while nobody can say."""
        done, share = sum(self._bytes.values()), self.share
        passed = now - self._started
        if share is None or not done or passed < _SETTLED:
            return None
        total = sum(self._expected.values())
        return max(0.0, total - done) / (done / passed)

    def words(self, now: float) -> str:
        """All of it, for people."""
        done, files = sum(self._bytes.values()), sum(self._files.values())
        total, passed, left = sum(self._expected.values()), now - self._started, self.left(now)
        total = total if total > done else 0  # more has come than last time: nobody knows how much more
        parts = [many(files, "file"), f"{size(done)} of about {size(total)}" if total else size(done)]
        if passed >= _SETTLED:
            parts.append(f"{size(done / passed)}/s")
        if left:
            parts.append(f"about {seconds(left)} left")
        return ", ".join(parts)
