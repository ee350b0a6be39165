"""The bandwidth limit: over time the rate holds, and nobody overtakes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from holdfast.store.throttle import Account, ThrottledStore
from tests.support.memory_store import MemoryStore


@given(st.lists(st.tuples(st.integers(0, 10_000), st.floats(0, 5)), min_size=1))
def test_the_rate_holds(moves: list[tuple[int, float]]) -> None:
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    account = Account(1000, clock=lambda: now, sleep=sleep)
    paid, started = 0, None
    for size, pause in moves:
        now += pause
        account.pay(size)
        started = now if started is None else started
        # All but the object that moves right now was paid for by the time that passed.
        assert paid <= 1000 * (now - started) + 1e-3
        paid += size


def test_without_a_limit_nobody_waits() -> None:
    account = Account(None, sleep=lambda _: (_ for _ in ()).throw(AssertionError("waited")))
    account.pay(1 << 40)


def test_both_ways_have_their_own_account() -> None:
    store = ThrottledStore(MemoryStore(), upload=1 << 30)
    store.put("a", b"x" * 1000)
    assert store.get("a", offset=10, length=5) == b"xxxxx"
    assert [info.size for info in store.list("")] == [1000]
