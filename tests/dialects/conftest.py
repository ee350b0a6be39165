"""What the tests of S3's dialects share: real servers, with a proxy in front of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from deployments.local.s3 import RcloneServer, S3Endpoint
from holdfast.store.retry import Retry
from holdfast.store.s3 import S3Store
from holdfast.store.s3_client import Credentials
from tests.support.proxy import Behaviour, Certificate, Proxy, make_certificate, passes_on, proxy
from tests.support.trees import build_sample

Front = Callable[..., Proxy]
KEYS = Credentials("some-key", "some-secret")


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """moto's server: Amazon's semantics, conditions included; it checks no signatures, so that headers may change."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def rclone_tls(certificate: Certificate) -> Iterator[S3Endpoint]:
    """rclone's S3 server over TLS."""
    with RcloneServer(tls=(certificate.certificate, certificate.key)) as server:
        yield server


@pytest.fixture
def trusting(certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK trusts the certificate."""
    monkeypatch.setenv("AWS_CA_BUNDLE", certificate.certificate)


@pytest.fixture(autouse=True)
def _no_settling(monkeypatch: pytest.MonkeyPatch) -> None:
    """One process works at a time here."""
    monkeypatch.setattr("holdfast.repository.lock._SETTLE_SECONDS", 0.0)


@pytest.fixture
def front(moto: str) -> Iterator[Front]:
    """Puts a proxy in front of a server, by default moto."""
    with ExitStack() as stack:

        def make(behaviour: Behaviour = passes_on, *, server: str = moto, tls: Certificate | None = None) -> Proxy:
            return stack.enter_context(proxy(server, behaviour, tls=tls))

        yield make


def open_at(endpoint: str, *, keys: Credentials = KEYS, bucket: str = "bucket", attempts: int = 4) -> S3Store:
    """A store that waits a moment only between its attempts."""
    retry = Retry(attempts=attempts, sleep=lambda _: None)
    return S3Store(f"{bucket}-{os.getpid()}", "app", endpoint=endpoint, credentials=keys, retry=retry)


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dialects") / "source"
    build_sample(folder, files=6)
    os.truncate(folder / "large", 400_000)
    return folder
