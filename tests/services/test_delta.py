"""Delta restore: whatever the target held, it then holds exactly what a fresh restore gives."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from deployments.local.s3 import S3Endpoint
from holdfast.errors import RestoreError, StoreUnavailable, TargetFull, TargetNotEmpty
from holdfast.repository.repository import Repository, open_repository
from holdfast.services.delta import DeltaReport, restore_delta
from holdfast.services.restore import restore_directory
from holdfast.store.directory import DirectoryStore
from holdfast.store.url import open_store
from tests.support.faulty_store import Damaged, Fails, FaultyStore, Rule
from tests.support.repositories import PASSWORD, backup_directory, latest, new_repository, new_repository_on, reopen
from tests.support.trees import build_sample, build_special, describe

ROOT = os.geteuid() == 0


@pytest.fixture(scope="module", autouse=True)
def _no_settling() -> Iterator[None]:
    """One process works at a time here: a lock need not wait for others that take one at the same moment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("holdfast.repository.lock._SETTLE_SECONDS", 0.0)
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source of every kind of entry, a repository of it, and what a fresh restore gives."""
    folder = tmp_path_factory.mktemp("delta")
    build_sample(folder / "source", files=12)
    if ROOT:
        build_special(folder / "source")
    repository = new_repository(folder / "repository")
    backup_directory(repository, folder / "source")
    restore_directory(reopen(folder / "repository"), latest(repository), folder / "fresh")
    return folder


@pytest.fixture(scope="module")
def little(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with less in it, for what is done many times."""
    folder = tmp_path_factory.mktemp("little")
    build_sample(folder / "source", files=8)
    if ROOT:
        build_special(folder / "source")
        (folder / "source" / "sparse").unlink()
    os.truncate(folder / "source" / "large", 3_000_000)
    backup_directory(new_repository(folder / "repository"), folder / "source")
    repository = reopen(folder / "repository")
    restore_directory(repository, latest(repository), folder / "fresh")
    return folder


@pytest.fixture
def target(home: Path, tmp_path: Path) -> Path:
    return copy_of(home / "fresh", tmp_path / "target")


def copy_of(source: Path, target: Path) -> Path:
    subprocess.run(["cp", "-a", "--", source, target], check=True)
    return target


def delta(home: Path, target: Path, *, dry_run: bool = False, anything: bool = False) -> DeltaReport:
    repository = reopen(home / "repository")
    return restore_delta(repository, latest(repository), target, dry_run=dry_run, anything=anything)


def test_what_is_right_is_only_read(home: Path, target: Path) -> None:
    store = FaultyStore(DirectoryStore(home / "repository"))
    repository = open_repository(store, PASSWORD)
    report = restore_delta(repository, latest(repository), target)
    assert describe(target) == describe(home / "fresh")
    assert (report.bytes_fetched, report.changed, report.removed, report.settled) == (0, 0, 0, 0)
    assert report.bytes_kept > 10_000_000
    data = _data_packs(home / "repository")
    assert len([key for operation, key in store.calls if operation == "get" and key in data]) == 1  # the manifest


def test_a_missing_target_is_a_restore(home: Path, tmp_path: Path) -> None:
    assert delta(home, tmp_path / "made", dry_run=True).bytes_fetched > 10_000_000
    assert not (tmp_path / "made").exists()
    report = delta(home, tmp_path / "made")
    assert describe(tmp_path / "made") == describe(home / "fresh")
    assert (report.bytes_kept, report.removed) == (0, 0)
    sparse = tmp_path / "made" / "sparse"
    assert not ROOT or sparse.stat().st_blocks * 512 < 8 << 20


def test_one_byte_costs_one_block(home: Path, target: Path) -> None:
    with (target / "large").open("r+b") as file:
        file.seek(4_000_000)
        file.write(b"damage")
    dry = delta(home, target, dry_run=True)
    assert (target / "large").read_bytes()[4_000_000:4_000_006] == b"damage"
    report = delta(home, target)
    assert describe(target) == describe(home / "fresh")
    assert 0 < report.bytes_fetched < 5_000_000
    assert report.changed == 1
    assert (dry.bytes_fetched, dry.changed, dry.bytes_kept) == (report.bytes_fetched, 1, report.bytes_kept)
    assert any(line.startswith("write large (") for line in dry.lines)


@pytest.mark.skipif(not ROOT, reason="the sparse file is one of root's")
def test_a_hole_that_was_written_to_is_zeros_again(home: Path, target: Path) -> None:
    with (target / "sparse").open("r+b") as file:
        file.seek(10 << 20)
        file.write(b"damage")
    assert delta(home, target).changed == 1
    assert describe(target) == describe(home / "fresh")


# --- anything may have happened to the target -------------------------------------------------------------------------


def _paths(target: Path) -> list[Path]:
    return [path for path in sorted(target.rglob("*"), key=os.fsencode) if os.path.lexists(path)]


def _flip(path: Path, chance: random.Random) -> None:
    if path.is_symlink() or not path.is_file() or not path.stat().st_size:
        return
    with path.open("r+b") as file:
        file.seek(chance.randrange(path.stat().st_size))
        file.write(chance.randbytes(3))


def _resize(path: Path, chance: random.Random) -> None:
    if not path.is_symlink() and path.is_file():
        os.truncate(path, chance.choice((0, 1, path.stat().st_size // 2, path.stat().st_size + 5_000)))


def _vanish(path: Path, chance: random.Random) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _turn_into(path: Path, chance: random.Random) -> None:
    _vanish(path, chance)
    kind = chance.choice(("file", "directory", "link to a directory", "dangling", "fifo"))
    if kind == "file":
        path.write_bytes(chance.randbytes(1000))
    elif kind == "directory":
        path.mkdir()
        (path / "inside").write_bytes(b"x")
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/etc" if kind == "link to a directory" else "nowhere")


def _chmod(path: Path, chance: random.Random) -> None:
    if not path.is_symlink():
        path.chmod(chance.choice((0o000, 0o400, 0o777, 0o4755)))


def _touch(path: Path, chance: random.Random) -> None:
    os.utime(path, ns=(1, chance.randrange(1 << 60)), follow_symlinks=False)


def _attribute(path: Path, chance: random.Random) -> None:
    if not path.is_symlink() and (path.is_file() or path.is_dir()):
        os.setxattr(path, "user.extra", chance.randbytes(5))


def _link(path: Path, chance: random.Random) -> None:
    if path.is_file() and not path.is_symlink():
        os.link(path, path.with_name(f"another name {chance.randrange(1 << 30)}"[:200]))


def _add(path: Path, chance: random.Random) -> None:
    where = path if path.is_dir() and not path.is_symlink() else path.parent
    (where / f"extra {chance.randrange(1 << 30)}").mkdir()


DAMAGES: tuple[Callable[[Path, random.Random], None], ...] = (
    _flip, _flip, _resize, _vanish, _turn_into, _chmod, _touch, _attribute, _link, _add,
)  # fmt: skip


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], phases=[Phase.generate]
)
@given(seed=st.integers(0, 1 << 32), count=st.integers(1, 25))
def test_whatever_was_there_it_is_exact(little: Path, seed: int, count: int) -> None:
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="holdfast-delta-") as folder:
        target = copy_of(little / "fresh", Path(folder, "target"))
        for _ in range(count):
            chance.choice(DAMAGES)(chance.choice([*_paths(target), target / "."]) if _paths(target) else target, chance)
            target.mkdir(exist_ok=True)
        before = describe(target)
        delta(little, target, dry_run=True, anything=True)
        assert describe(target) == before
        report = delta(little, target, anything=True)
        assert not report.damaged
        assert describe(target) == describe(little / "fresh")
        assert delta(little, target).settled == 0


# --- never outside ----------------------------------------------------------------------------------------------------


def test_a_link_that_leads_out_is_never_written_through(home: Path, target: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("file", "medium", "single", "kept"):
        (outside / name).write_bytes(b"mine " + name.encode())
    (outside / "file").chmod(0o600)
    before = describe(outside)
    (target / "large").unlink()
    (target / "large").symlink_to(outside / "file")
    shutil.rmtree(target / "dir 1")
    (target / "dir 1").symlink_to(outside)
    (target / "medium").unlink()
    os.link(outside / "medium", target / "medium")  # also a name of a group of hard links in the snapshot
    single = next(path for path in (target / "dir 2").rglob("*") if path.is_file())
    single.unlink()
    os.link(outside / "single", single)
    (target / "not there").symlink_to(outside)
    delta(home, target)
    assert describe(target) == describe(home / "fresh")
    after = describe(outside)
    assert {name: facts.content for name, facts in after.items()} == {n: f.content for n, f in before.items()}
    assert after[b"file"] == before[b"file"]
    assert after[b"kept"] == before[b"kept"]


def test_a_directory_of_something_else_is_refused(home: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious").write_text("precious")
    with pytest.raises(TargetNotEmpty, match="nothing in common"):
        delta(home, tmp_path / "mine")
    assert (tmp_path / "mine" / "precious").read_text() == "precious"
    delta(home, tmp_path / "mine", anything=True)
    assert describe(tmp_path / "mine") == describe(home / "fresh")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "holdfast-test", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.skipif(not ROOT, reason="only root can mount")
def test_a_full_disk_is_told_and_the_next_run_goes_on(home: Path, small: Path) -> None:
    with pytest.raises(TargetFull, match="no room left"):
        delta(home, small / "target")
    subprocess.run(["mount", "-o", "remount,size=64m", small], check=True)
    report = delta(home, small / "target")
    assert describe(small / "target") == describe(home / "fresh")
    assert report.bytes_kept > 0


@pytest.mark.skipif(not ROOT, reason="only root can mount")
def test_what_is_mounted_inside_is_not_removed(home: Path, target: Path) -> None:
    (target / "extra" / "disk").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "holdfast-test", target / "extra" / "disk"], check=True)
    try:
        (target / "extra" / "disk" / "mine").write_text("precious")
        with pytest.raises(RestoreError, match="a filesystem is mounted"):
            delta(home, target)
        assert (target / "extra" / "disk" / "mine").read_text() == "precious"
    finally:
        subprocess.run(["umount", target / "extra" / "disk"], check=True)


# --- bad days ---------------------------------------------------------------------------------------------------------


def test_what_is_damaged_in_the_repository_stays_as_it_is(home: Path, target: Path) -> None:
    with (target / "large").open("r+b") as file:
        file.write(b"older")
    (target / "extra").write_text("x")
    data = _data_packs(home / "repository")
    store = FaultyStore(
        DirectoryStore(home / "repository"), *(Rule("get", key, Damaged(100), times=None) for key in data)
    )
    repository = open_repository(store, PASSWORD)
    report = restore_delta(repository, latest(repository), target)
    assert [line.partition(":")[0] for line in report.damaged] == ["large"]
    assert (target / "large").read_bytes()[:5] == b"older"
    assert not (target / "extra").exists()
    assert not list(target.rglob(".holdfast-delta-*"))
    delta(home, target)
    assert describe(target) == describe(home / "fresh")


def _data_packs(path: Path) -> list[str]:
    from holdfast.repository.usage import measure_usage

    usage = measure_usage(reopen(path))
    return [f"data/{pack[:2]}/{pack}" for pack, count in usage.packs.items() if not count.trees]


def test_a_store_that_goes_away_leaves_something_to_go_on_from(home: Path, target: Path) -> None:
    shutil.rmtree(target / "dir 0")
    os.truncate(target / "large", 10)
    store = FaultyStore(
        DirectoryStore(home / "repository"),
        *(Rule("get", key, Fails(), times=None) for key in _data_packs(home / "repository")),
    )
    repository = open_repository(store, PASSWORD)
    with pytest.raises(StoreUnavailable):
        restore_delta(repository, latest(repository), target)
    delta(home, target)
    assert describe(target) == describe(home / "fresh")


_DELTA = """
import sys
from holdfast.services.delta import restore_delta
from tests.support.repositories import latest, reopen
repository = reopen(sys.argv[1])
restore_delta(repository, latest(repository), sys.argv[2])
"""


def test_killed_at_any_moment_it_is_run_again(home: Path, tmp_path: Path) -> None:
    chance = random.Random(3)
    target = tmp_path / "target"
    for _ in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", _DELTA, home / "repository", target], cwd=Path(__file__).parents[2]
        )
        time.sleep(0.3 + chance.random() * 0.4)
        child.send_signal(signal.SIGKILL)
        child.wait()
    delta(home, target)
    assert describe(target) == describe(home / "fresh")


def test_from_an_s3_server(home: Path, target: Path, rclone_s3: S3Endpoint) -> None:
    def store() -> Repository:
        url = f"s3:{rclone_s3.endpoint}/delta-{os.getpid()}"
        found = open_store(url, access_key=rclone_s3.access_key, secret_key=rclone_s3.secret_key)
        return new_repository_on(found) if first else open_repository(found, PASSWORD)

    first = True
    repository = store()
    backup_directory(repository, home / "source")
    first = False
    os.truncate(target / "large", 6_000_000)
    (target / "link").unlink()
    again = store()
    report = restore_delta(again, latest(again), target)
    assert describe(target) == describe(home / "fresh")
    assert report.bytes_fetched < 5_000_000


def test_the_index_is_read_once(little: Path, tmp_path: Path) -> None:
    store = FaultyStore(DirectoryStore(little / "repository"))
    repository = open_repository(store, PASSWORD)
    restore_delta(repository, latest(repository), tmp_path / "target")
    read = [key for operation, key in store.calls if operation == "get" and key.startswith("index/")]
    assert read
    assert len(read) == len(set(read))
