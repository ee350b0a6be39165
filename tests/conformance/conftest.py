"""The stores that the suite runs over: memory, a directory, moto (S3 semantics), rclone (a real S3 server)."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deployments.local.s3 import S3Endpoint
from holdfast.store.base import Store
from holdfast.store.directory import DirectoryStore
from holdfast.store.s3 import S3Store
from tests.support.memory_store import MemoryStore

OpenStore = Callable[..., Store]


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's whole chain, cut down to one pair of keys: nothing of this machine's own settings has a say."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "some-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "some-secret")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """moto's server, in a thread; its listings have small pages, for it takes 10 ms to store an object."""
    from moto.server import ThreadedMotoServer

    os.environ["MOTO_S3_DEFAULT_MAX_KEYS"] = "200"
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()
    del os.environ["MOTO_S3_DEFAULT_MAX_KEYS"]


@pytest.fixture
def rclone(rclone_s3: S3Endpoint, monkeypatch: pytest.MonkeyPatch) -> str:
    """rclone's S3 server, which checks signatures; its keys are the ones that the SDK finds."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", rclone_s3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", rclone_s3.secret_key)
    return rclone_s3.endpoint


@pytest.fixture(params=["memory", "directory", "moto", "rclone"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def open_missing(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[OpenStore]:
    """Opens stores that are not there yet: the same place again and again, unless a prefix tells them apart."""
    opened: list[Store] = []
    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    memory = MemoryStore(missing=True)

    def open_one(prefix: str = "") -> Store:
        store: Store
        if kind == "memory":
            store = memory
        elif kind == "directory":
            store = DirectoryStore(tmp_path / "store" / prefix)
        else:
            store = S3Store(bucket, prefix, endpoint=request.getfixturevalue(kind))
        opened.append(store)
        return store

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def missing(open_missing: OpenStore) -> Store:
    """A store whose bucket or directory does not exist."""
    return open_missing()


@pytest.fixture
def store(missing: Store) -> Store:
    """An empty store."""
    missing.create()
    return missing
