"""A store that fails in every way at every kind of object: an error, or all is as it should be; never a false success.

The same on the way to a real S3 server: tests/dialects. What the S3 store itself makes of faults: tests/conformance.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from holdfast.errors import HoldfastError, StoreUnavailable
from holdfast.repository.repository import Repository, open_repository
from holdfast.services.delta import restore_delta
from holdfast.services.prune import prune
from holdfast.services.restore import restore_directory
from holdfast.services.verify import verify
from holdfast.store.directory import DirectoryStore
from tests.support.faulty_store import Damaged, Fails, Fault, FaultyStore, Lags, Lost, Rule, Slow, Truncated
from tests.support.repositories import PASSWORD, backup_directory, latest, new_repository, reopen
from tests.support.trees import build_sample, describe

FAULTS: dict[str, Fault] = {
    "fails": Fails(),
    "loses the answer": Lost(),
    "truncates": Truncated(20),
    "gives nothing": Truncated(0),
    "flips the first byte": Damaged(0),
    "flips the last byte": Damaged(-1),
}
OBJECTS = ("data/*", "index/*", "snapshots/*", "keys/*", "config")


@pytest.fixture(autouse=True)
def _no_settling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.repository.lock._SETTLE_SECONDS", 0.0)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faulty")
    build_sample(folder / "source", files=8)
    os.truncate(folder / "source" / "large", 2_000_000)
    new_repository(folder / "repository")
    backup_directory(reopen(folder / "repository"), folder / "source")
    (folder / "source" / "second").write_bytes(b"second" * 1000)
    backup_directory(reopen(folder / "repository"), folder / "source")
    return folder


@pytest.mark.parametrize("key", OBJECTS)
@pytest.mark.parametrize("fault", FAULTS)
def test_reading_is_right_or_an_error(template: Path, tmp_path: Path, fault: str, key: str) -> None:
    """Restore, delta restore, verify: over a store of which every read of one kind of object goes wrong."""

    def opened() -> Repository:
        store = FaultyStore(DirectoryStore(template / "repository"), Rule("get", key, FAULTS[fault], times=None))
        return open_repository(store, PASSWORD)

    def restore() -> tuple[str, ...]:
        repository = opened()
        return restore_directory(repository, latest(repository), tmp_path / "out").damaged

    def delta() -> tuple[str, ...]:
        repository = opened()
        return restore_delta(repository, latest(repository), tmp_path / "delta", anything=True).damaged

    for work in (restore, delta, lambda: verify(opened(), read_share=1).problems):
        assert _problems(work)


def _problems(work: Callable[[], Sequence[str]]) -> Sequence[str]:
    """What a report names, or the error."""
    try:
        return work()
    except HoldfastError as error:
        return [str(error)]


@pytest.mark.parametrize("key", OBJECTS)
@pytest.mark.parametrize("fault", ["fails", "truncates", "flips the last byte"])
def test_a_prune_deletes_nothing_that_is_needed(template: Path, tmp_path: Path, fault: str, key: str) -> None:
    shutil.copytree(template / "repository", tmp_path / "repository")
    store = FaultyStore(DirectoryStore(tmp_path / "repository"), Rule("get", key, FAULTS[fault], times=None))
    with suppress(HoldfastError):  # the last byte of a pack of trees is not asked for by anybody
        prune(open_repository(store, PASSWORD), grace_hours=0, max_unused=0)
    assert verify(reopen(tmp_path / "repository"), read_share=1).ok


@pytest.mark.parametrize("key", ["index/*", "data/*"])
@pytest.mark.parametrize("fault", ["fails", "loses the answer"])
def test_a_prune_whose_deletions_go_wrong(template: Path, tmp_path: Path, fault: str, key: str) -> None:
    shutil.copytree(template / "repository", tmp_path / "repository")
    repository = reopen(tmp_path / "repository")
    DirectoryStore(tmp_path / "repository").delete(f"snapshots/{repository.snapshots().snapshots[-1].id}")
    store = FaultyStore(DirectoryStore(tmp_path / "repository"), Rule("delete", key, FAULTS[fault]))
    with pytest.raises(StoreUnavailable):
        prune(open_repository(store, PASSWORD), grace_hours=0)
    assert verify(reopen(tmp_path / "repository"), read_share=1).ok
    prune(reopen(tmp_path / "repository"), grace_hours=0, orphan_hours=0, now=lambda: time.time() + 60)
    found = verify(reopen(tmp_path / "repository"), read_share=1)
    assert (found.ok, found.notices) == (True, ())


@pytest.mark.parametrize("folder", ["snapshots", "index", "data", "locks", "keys"])
def test_listings_that_lag_cost_nothing(template: Path, tmp_path: Path, folder: str) -> None:
    """The newest object of a folder is not listed yet, while somebody backs up, verifies and prunes."""
    shutil.copytree(template / "repository", tmp_path / "repository")

    def lagging() -> FaultyStore:
        return FaultyStore(DirectoryStore(tmp_path / "repository"), Rule("list", folder, Lags(), times=None))

    for _ in range(2):
        try:
            prune(open_repository(lagging(), PASSWORD), max_unused=0)
            prune(open_repository(lagging(), PASSWORD), max_unused=0, now=lambda: time.time() + 23 * 3600)
            backup_directory(open_repository(lagging(), PASSWORD), template / "source")
        except HoldfastError:
            assert folder in ("index", "data", "keys")  # what is needed and cannot be seen is an error, not unused
    seen = prune(reopen(tmp_path / "repository"), max_unused=0, now=lambda: time.time() + 48 * 3600)
    assert verify(reopen(tmp_path / "repository"), read_share=1).ok
    assert seen.packs_before
    for number, snapshot in enumerate(reopen(tmp_path / "repository").snapshots().snapshots[1:]):
        restore_directory(reopen(tmp_path / "repository"), snapshot, tmp_path / f"out {number}")
        assert describe(tmp_path / f"out {number}") == describe(template / "source")


def test_a_slow_store_is_only_slow(template: Path, tmp_path: Path) -> None:
    store = FaultyStore(DirectoryStore(tmp_path / "repository"), Rule("*", "*", Slow(0.02), times=None))
    new_repository(tmp_path / "repository")
    backup_directory(open_repository(store, PASSWORD), template / "source")
    repository = open_repository(store, PASSWORD)
    restore_directory(repository, latest(repository), tmp_path / "out")
    assert describe(tmp_path / "out") == describe(template / "source")
