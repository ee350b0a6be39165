"""Trying again: only what is transient, no more often than said, with growing waits."""

from __future__ import annotations

import pytest

from holdfast.errors import HoldfastError, StoreDenied, StoreUnavailable
from holdfast.store.retry import Retry


class Work:
    """Raises the given errors in turn, then succeeds."""

    def __init__(self, *errors: HoldfastError) -> None:
        self.errors = [*errors]
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def down(number: int = 1) -> StoreUnavailable:
    return StoreUnavailable(f"down {number}")


def test_success_needs_one_attempt() -> None:
    waits: list[float] = []
    assert Retry(sleep=waits.append).run(Work()) == "done"
    assert waits == []


def test_a_transient_error_is_tried_again() -> None:
    waits: list[float] = []
    work = Work(down(), down())
    assert Retry(sleep=waits.append).run(work) == "done"
    assert (work.calls, len(waits)) == (3, 2)


def test_the_last_error_is_raised_as_it_came() -> None:
    work = Work(*(down(number) for number in range(1, 9)))
    with pytest.raises(StoreUnavailable, match="down 4"):
        Retry(attempts=4, sleep=lambda _: None).run(work)
    assert work.calls == 4


def test_an_error_that_is_not_transient_ends_it() -> None:
    work = Work(down(), StoreDenied("no"))
    with pytest.raises(StoreDenied):
        Retry(sleep=lambda _: None).run(work)
    assert work.calls == 2


def test_waits_double_up_to_the_longest() -> None:
    waits: list[float] = []
    with pytest.raises(StoreUnavailable):
        Retry(attempts=7, first=1.0, longest=5.0, sleep=waits.append).run(Work(*(down() for _ in range(9))))
    ceilings = [1.0, 2.0, 4.0, 5.0, 5.0, 5.0]
    assert len(waits) == len(ceilings)
    assert all(ceiling / 2 <= wait <= ceiling for wait, ceiling in zip(waits, ceilings, strict=True))


def test_one_attempt_never_waits() -> None:
    work = Work(down())
    with pytest.raises(StoreUnavailable):
        Retry(attempts=1, sleep=lambda _: pytest.fail("waited")).run(work)
    assert work.calls == 1
