"""The store that fails on purpose does exactly what its plan says."""

from __future__ import annotations

import pytest

from holdfast.errors import StoreDenied, StoreUnavailable
from holdfast.store.base import Store
from tests.support.faulty_store import Crashes, Damaged, Fails, FaultyStore, Lost, Rule, SimulatedCrash, Truncated
from tests.support.memory_store import MemoryStore


@pytest.fixture
def memory() -> MemoryStore:
    return MemoryStore()


def test_without_a_plan_it_is_the_store_itself(memory: MemoryStore) -> None:
    store: Store = FaultyStore(memory)
    store.create()
    store.put("data/x", b"content")
    assert (store.get("data/x", offset=3), store.head("data/x").size) == (b"tent", 7)
    assert [info.key for info in store.list("data")] == ["data/x"]
    store.delete("data/x")
    store.close()
    assert store.location == memory.location
    assert list(memory.list("")) == []


def test_a_rule_counts_what_it_matches(memory: MemoryStore) -> None:
    store = FaultyStore(memory, Rule("put", "data/*", Fails(), at=2, times=2))
    store.put("data/1", b"")
    store.put("index/1", b"")
    for key in ("data/2", "data/3"):
        with pytest.raises(StoreUnavailable):
            store.put(key, b"")
    store.put("data/4", b"")
    assert sorted(info.key for info in memory.list("")) == ["data/1", "data/4", "index/1"]
    assert [key for _, key in store.calls] == ["data/1", "index/1", "data/2", "data/3", "data/4"]


def test_for_ever_and_with_an_error_of_ones_own(memory: MemoryStore) -> None:
    store = FaultyStore(memory, Rule("*", "*", Fails(lambda: StoreDenied("no")), times=None))
    for _ in range(3):
        with pytest.raises(StoreDenied):
            store.head("config")


def test_a_lost_answer_comes_after_the_work(memory: MemoryStore) -> None:
    store = FaultyStore(memory, Rule("put", "*", Lost()))
    with pytest.raises(StoreUnavailable):
        store.put("config", b"x")
    assert memory.get("config") == b"x"


def test_bytes_are_cut_and_changed(memory: MemoryStore) -> None:
    memory.put("config", b"content")
    store = FaultyStore(memory, Rule("get", "*", Truncated(3)), Rule("get", "*", Damaged(-1), at=2))
    assert store.get("config") == b"con"
    assert store.get("config") == b"contenu"
    assert store.get("config") == b"content"


@pytest.mark.parametrize("after", [False, True])
def test_a_crash_is_final_and_no_except_exception_survives_it(memory: MemoryStore, after: bool) -> None:
    store = FaultyStore(memory, Rule("put", "index/*", Crashes(after=after)))
    store.put("data/x", b"")
    with pytest.raises(SimulatedCrash) as caught:
        store.put("index/x", b"")
    assert not isinstance(caught.value, Exception)
    with pytest.raises(SimulatedCrash):
        store.delete("data/x")
    assert sorted(info.key for info in memory.list("")) == (["data/x", "index/x"] if after else ["data/x"])
