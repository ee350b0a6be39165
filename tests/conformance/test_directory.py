"""What a directory on a real disk goes through: it fills up, kill -9 in the middle, foreign files, wrong rights."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.errors import (
    ObjectExists,
    ObjectNotFound,
    StoreDenied,
    StoreError,
    StoreFull,
    StoreMissing,
    StoreUnavailable,
)
from holdfast.store import durable
from holdfast.store.base import FillsBuffers
from holdfast.store.directory import DirectoryStore

MIB = 1024 * 1024


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(base: Path) -> DirectoryStore:
    store = DirectoryStore(base)
    store.create()
    return store


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[str]:
    """A file system of 4 MiB, reached by an open descriptor only: it is gone with this process, however that ends."""
    if os.geteuid() != 0:
        pytest.skip("mounting a file system takes root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(tmp_path)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)
    yield f"/proc/{os.getpid()}/fd/{descriptor}"
    os.close(descriptor)


def files(folder: str | Path) -> list[str]:
    return sorted(os.path.relpath(os.path.join(at, name), folder) for at, _, names in os.walk(folder) for name in names)


def test_keys_are_paths_that_nobody_else_can_read(store: DirectoryStore, base: Path) -> None:
    store.put("data/ab/object", b"x")
    assert files(base) == ["data/ab/object"]
    assert stat.S_IMODE((base / "data/ab/object").stat().st_mode) == 0o600
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in (base, base / "data", base / "data/ab")} == {0o700}


@pytest.mark.parametrize("size", [0, 1, 65_537, 20 << 20])
def test_a_buffer_that_is_used_again_is_filled(store: DirectoryStore, size: int) -> None:
    assert isinstance(store, FillsBuffers)
    data = random.Random(size).randbytes(size)
    store.put("data/ab/object", data)
    buffer = bytearray(b"x" * (size + 3))
    assert store.get_into("data/ab/object", buffer) == size
    assert buffer == data + b"xxx"
    assert store.get_into("data/ab/object", bytearray(size)) == size
    half = bytearray(size // 2 + 1)
    part = data[size // 3 :][: len(half)]
    assert store.get_into("data/ab/object", memoryview(half), offset=size // 3) == len(part)
    assert half.startswith(part)
    assert store.get_into("data/ab/object", half, offset=size + 1) == 0
    with pytest.raises(ObjectNotFound):
        store.get_into("data/ab/other", buffer)


def test_a_full_disk_leaves_nothing_and_the_store_goes_on(small_disk: str) -> None:
    store = DirectoryStore(f"{small_disk}/store")
    store.create()
    store.put("data/aa/one", b"1" * 2 * MIB)
    for name, if_absent in (("two", False), ("two", True), ("one", False)):
        with pytest.raises(StoreFull) as caught:
            store.put(f"data/aa/{name}", b"2" * 3 * MIB, if_absent=if_absent)
        assert caught.value.found == "No space left on device"
        assert caught.value.hint
        assert files(store.location) == ["data/aa/one"]
    assert store.get("data/aa/one") == b"1" * 2 * MIB
    store.delete("data/aa/one")
    store.put("data/aa/two", b"2" * 3 * MIB)
    assert store.get("data/aa/two") == b"2" * 3 * MIB


def test_a_disk_without_room_for_a_folder_is_full(small_disk: str) -> None:
    store = DirectoryStore(f"{small_disk}/store")
    store.create()
    with pytest.raises(OSError, match="No space left"):
        Path(small_disk, "filler").write_bytes(bytes(5 * MIB))
    with pytest.raises(StoreFull):
        store.put("data/ab/object", b"x")
    assert list(store.list("")) == []


def test_a_directory_of_someone_else_is_denied() -> None:
    with tempfile.TemporaryDirectory() as base:
        os.chmod(base, 0o755)  # noqa: S103 - someone else must come as far as to be refused
        store = DirectoryStore(base)
        store.put("config", b"x")
        os.chmod(base, 0o555)  # noqa: S103 - nobody may write, everybody may look
        before = os.geteuid()
        if before == 0:  # root may do everything: be nobody for a moment
            os.seteuid(65534)
        try:
            with pytest.raises(StoreDenied, match="Permission denied") as caught:
                store.put("config", b"y")
            assert base in str(caught.value)
            assert caught.value.hint
            with pytest.raises(StoreDenied, match="Permission denied"):
                store.delete("config")
        finally:
            os.seteuid(before)
            os.chmod(base, 0o700)
        assert store.get("config") == b"x"


@pytest.mark.parametrize(
    ("number", "wanted"),
    [
        (errno.ENOSPC, StoreFull),
        (errno.EDQUOT, StoreFull),
        (errno.EACCES, StoreDenied),
        (errno.EPERM, StoreDenied),
        (errno.EROFS, StoreDenied),
        (errno.EIO, StoreUnavailable),
        (errno.ESTALE, StoreUnavailable),
        (errno.ETIMEDOUT, StoreUnavailable),
        (errno.EMFILE, StoreUnavailable),
    ],
)
def test_every_failure_while_writing_has_its_error_and_leaves_the_old_object(
    store: DirectoryStore, base: Path, monkeypatch: pytest.MonkeyPatch, number: int, wanted: type[StoreError]
) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    store.put("data/ab/object", b"x")
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", broken)
        for if_absent, key in ((False, "data/ab/object"), (True, "data/ab/other")):
            with pytest.raises(wanted) as caught:
                store.put(key, b"y", if_absent=if_absent)
            assert caught.value.found == os.strerror(number)
    assert files(base) == ["data/ab/object"]
    assert store.get("data/ab/object") == b"x"


WRITER = """
import hashlib, os, random, sys
from concurrent.futures import ThreadPoolExecutor
from holdfast.store.directory import DirectoryStore
store = DirectoryStore(sys.argv[1])
chance = random.Random(int(sys.argv[2]))
def put(number):
    data = chance.randbytes(chance.randrange(1, 6_000_000))
    name = hashlib.sha256(data).hexdigest()
    store.put(f"data/{name[:2]}/{name}", data, if_absent=bool(number % 2))
    os.write(1, f"{name}\\n".encode())
with ThreadPoolExecutor(3) as pool:
    for _ in pool.map(put, range(100_000)):
        pass
"""


def test_after_kill_9_every_visible_object_is_whole_and_every_acknowledged_one_is_there(
    store: DirectoryStore, base: Path
) -> None:
    acknowledged: set[str] = set()
    for life in range(20):
        argv = [sys.executable, "-c", WRITER, str(base), str(life)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            acknowledged.add(writer.stdout.readline().strip())
            time.sleep(0.02 * (life % 5))
            writer.send_signal(signal.SIGKILL)
            acknowledged.update(writer.stdout.read().split())
        unfinished = [path for path in files(base) if durable.UNFINISHED in path]
        if life >= 3 and unfinished:  # then at least one kill came in the middle of a put
            break
    else:
        pytest.fail("twenty kills and none came in the middle of a put: the test proves nothing")
    visible = {info.key.rpartition("/")[2] for info in store.list("data")}
    assert acknowledged <= visible
    for name in visible:
        assert hashlib.sha256(store.get(f"data/{name[:2]}/{name}")).hexdigest() == name


def test_unfinished_files_are_invisible_and_swept_when_a_day_old(store: DirectoryStore, base: Path) -> None:
    store.put("data/ab/object", b"x")
    old, new = (base / "data/ab" / f"{durable.UNFINISHED}{name}" for name in ("1-old", "2-new"))
    for path in (old, new):
        path.write_bytes(b"half")
    long_ago = time.time() - durable.STALE_SECONDS - 60
    os.utime(old, (long_ago, long_ago))
    assert [info.key for info in store.list("")] == ["data/ab/object"]
    DirectoryStore(base).put("data/ab/other", b"y")
    assert not old.exists()
    assert new.exists()


def test_a_key_that_looks_unfinished_is_refused(store: DirectoryStore) -> None:
    with pytest.raises(ValueError, match="kept for unfinished files"):
        store.put(f"data/{durable.UNFINISHED}1", b"x")


def test_the_base_is_never_made_by_put(base: Path) -> None:
    with pytest.raises(StoreMissing) as caught:
        DirectoryStore(base).put("data/ab/object", b"x")
    assert str(base) in str(caught.value)
    assert not base.exists()


def test_create_makes_parents_and_refuses_a_file(tmp_path: Path) -> None:
    DirectoryStore(tmp_path / "a/b/c").create()
    assert (tmp_path / "a/b/c").is_dir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="wanted a directory"):
        DirectoryStore(tmp_path / "file").create()
    with pytest.raises(StoreError, match="Not a directory"):
        DirectoryStore(tmp_path / "file/below").create()


def test_a_file_as_base_is_an_error_of_the_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = DirectoryStore(tmp_path / "file")
    with pytest.raises(StoreError, match="wanted a directory"):
        store.put("config", b"")
    with pytest.raises(StoreError, match="wanted a directory"):
        store.get("config")
    with pytest.raises(StoreError, match="wanted a directory"):
        list(store.list(""))


def test_folders_and_objects_cannot_take_each_others_place(store: DirectoryStore) -> None:
    store.put("data/ab/object", b"x")
    with pytest.raises(StoreError):
        store.put("data/ab", b"y")
    with pytest.raises(StoreError):
        store.put("data/ab", b"y", if_absent=True)
    with pytest.raises(StoreError):
        store.put("data/ab/object/below", b"y")
    assert files(store.location) == ["data/ab/object"]


def test_a_folder_that_vanished_is_made_again(store: DirectoryStore, base: Path) -> None:
    store.put("data/ab/object", b"x")
    (base / "data/ab/object").unlink()
    (base / "data/ab").rmdir()
    store.put("data/ab/object", b"y")
    assert store.get("data/ab/object") == b"y"


def test_links_sockets_and_fifos_are_no_objects(store: DirectoryStore, base: Path) -> None:
    store.put("data/ab/object", b"x")
    (base / "data/ab/link").symlink_to("object")
    (base / "data/ab/dangling").symlink_to("nowhere")
    os.mkfifo(base / "data/ab/fifo")
    assert [info.key for info in store.list("")] == ["data/ab/object"]
    for name in ("link", "dangling", "fifo"):
        with pytest.raises(ObjectNotFound):
            store.get(f"data/ab/{name}")
        with pytest.raises(ObjectNotFound):
            store.head(f"data/ab/{name}")


def test_a_listing_never_follows_a_link_and_says_so(store: DirectoryStore, base: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"")
    store.put("data/ab/object", b"x")
    (base / "data/cd").symlink_to(outside)
    with pytest.raises(StoreError) as caught:
        list(store.list("data"))
    assert str(base / "data/cd") in str(caught.value)
    assert "mount --bind" in str(caught.value.hint)


def test_without_hard_links_put_if_absent_still_refuses(
    store: DirectoryStore, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*args: object, **kwargs: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    store.put("config", b"x", if_absent=True)
    store.put("config", b"x", if_absent=True)
    with pytest.raises(ObjectExists):
        store.put("config", b"y", if_absent=True)
    assert files(base) == ["config"]
