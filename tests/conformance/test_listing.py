"""Listings: whole, of one folder and never its neighbour's, however many pages they take."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from holdfast.store.base import Store
from tests.conformance.conftest import OpenStore


def keys(store: Store, prefix: str) -> list[str]:
    return sorted(info.key for info in store.list(prefix))


@pytest.fixture
def filled(store: Store) -> Store:
    for key in ("config", "wal/app/1", "wal/app/2/3", "wal/app2/1", "wal/app.history", "data/ab/one", "data/cd/two"):
        store.put(key, key.encode())
    return store


def test_an_empty_store_lists_nothing(store: Store) -> None:
    assert keys(store, "") == []
    assert keys(store, "data") == []


def test_everything_is_listed_with_its_size(filled: Store) -> None:
    infos = {info.key: info for info in filled.list("")}
    assert len(infos) == 7
    assert all(info.size == len(key) and info.modified is not None for key, info in infos.items())


def test_a_folder_never_matches_its_neighbour(filled: Store) -> None:
    assert keys(filled, "wal/app") == ["wal/app/1", "wal/app/2/3"]
    assert keys(filled, "wal/app/") == ["wal/app/1", "wal/app/2/3"]
    assert keys(filled, "wal/app2") == ["wal/app2/1"]
    assert keys(filled, "wal/ap") == []
    assert keys(filled, "data") == ["data/ab/one", "data/cd/two"]


def test_an_object_is_no_folder(filled: Store) -> None:
    assert keys(filled, "config") == []
    assert keys(filled, "wal/app/1") == []
    assert keys(filled, "no/such/folder") == []


@pytest.mark.parametrize("prefix", ["/", "../x", "a//b", ".", "wal/../data"])
def test_an_invalid_prefix_is_refused_at_once(store: Store, prefix: str) -> None:
    with pytest.raises(ValueError, match="not a valid object key"):
        store.list(prefix)


def test_more_than_one_page(store: Store, kind: str) -> None:
    wanted = [f"data/{number:02x}/{number:04d}" for number in range(405 if kind == "moto" else 1_005)]
    wanted += ["data2/x"]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda key: store.put(key, b""), wanted))
    assert keys(store, "data") == sorted(wanted[:-1])


def test_what_is_deleted_while_listing_does_not_break_it(store: Store) -> None:
    for number in range(30):
        store.put(f"locks/{number % 3}/{number}", b"")
    for info in store.list("locks"):
        store.delete(info.key)
    assert keys(store, "locks") == []


def test_a_prefix_is_a_store_of_its_own(open_missing: OpenStore, kind: str) -> None:
    if kind == "memory":
        pytest.skip("a store in memory has no prefix")
    app, app2, whole = open_missing("backups/app"), open_missing("backups/app2"), open_missing("")
    for store in (whole, app, app2):
        store.create()
    app.put("config", b"1")
    app2.put("config", b"2")
    app2.put("data/x", b"2")
    assert keys(app, "") == ["config"]
    assert keys(app2, "") == ["config", "data/x"]
    assert keys(whole, "backups/app") == ["backups/app/config"]
    assert app.get("config") == b"1"
    app.delete("config")
    assert app2.get("config") == b"2"
