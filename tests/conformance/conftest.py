"""The stores that the suite runs over: memory, a directory, moto (S3 semantics), rclone (a real S3 server)."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from holdfast.store.base import Store
from holdfast.store.directory import DirectoryStore
from holdfast.store.memory import MemoryStore
from holdfast.store.s3 import S3Store

KEY, SECRET = "holdfast-test-key", "holdfast-test-secret"

OpenStore = Callable[..., Store]


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's whole chain, cut down to one pair of keys: nothing of this machine's own settings has a say."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
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


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """rclone's S3 server, which checks signatures; it dies with us, also when we are killed."""
    folder = tmp_path_factory.mktemp("rclone")
    port = _free_port()
    program = Path(sys.executable).parent / "rclone"
    argv = [str(program), "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{KEY},{SECRET}"]
    argv += ["--vfs-cache-mode", "off", "--config", os.devnull, str(folder)]
    if setpriv := shutil.which("setpriv"):
        argv = [setpriv, "--pdeathsig", "KILL", *argv]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server:
        try:
            _wait_for(port, server)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.kill()


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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int, server: subprocess.Popen[str]) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if server.poll() is not None:
            break
        time.sleep(0.05)
    raise RuntimeError(
        f"rclone did not start: {server.stderr.read() if server.poll() is not None and server.stderr else ''}"
    )
