"""Reaching S3 at all: credentials, endpoints, regions, addressing, and servers that are not there."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from holdfast.errors import ConfigError, ObjectNotFound, StoreDenied, StoreUnavailable
from holdfast.store.retry import Retry
from holdfast.store.s3 import S3Store
from tests.conformance import faulty_s3
from tests.conformance.faulty_s3 import Script


@pytest.fixture
def server() -> Iterator[Script]:
    with faulty_s3.faulty_s3() as script:
        yield script


@pytest.fixture
def waits() -> list[float]:
    return []


def test_wrong_credentials_are_denied(rclone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-right-secret")
    store = S3Store("bucket", endpoint=rclone)
    actions: list[Callable[[], object]] = [
        lambda: store.put("config", b"x"),
        lambda: store.get("config"),
        lambda: store.head("config"),
        lambda: list(store.list("")),
        lambda: store.delete("config"),
        store.create,
    ]
    for action in actions:
        with pytest.raises(StoreDenied) as caught:
            action()
        assert "AWS_SECRET_ACCESS_KEY" in str(caught.value.hint)
        assert "not-the-right-secret" not in repr(caught.value.as_dict())


def test_no_credentials_are_denied_before_anything_is_sent(server: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StoreDenied, match="no credentials") as caught:
        S3Store("bucket", endpoint=server.endpoint).get("config")
    assert "AWS_ACCESS_KEY_ID" in str(caught.value.hint)
    assert server.requests == []


def test_half_of_the_credentials_is_denied(server: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StoreDenied, match="no credentials"):
        S3Store("bucket", endpoint=server.endpoint).get("config")


def test_an_endpoint_that_is_down_is_unavailable_in_bounded_time(waits: list[float]) -> None:
    with socket.socket() as reserved:  # bound and not listening: connections are refused
        reserved.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        store = S3Store("bucket", endpoint=endpoint, retry=Retry(sleep=waits.append))
        with pytest.raises(StoreUnavailable, match="Connection refused") as caught:
            store.get("config")
    assert caught.value.hint
    assert len(waits) == 5
    assert sum(waits) < 16


def test_a_host_that_does_not_exist_is_unavailable() -> None:
    store = S3Store("bucket", endpoint="http://no-such-host.invalid", retry=Retry(attempts=1))
    with pytest.raises(StoreUnavailable, match=r"no-such-host\.invalid"):
        store.get("config")


def test_a_server_that_hangs_is_given_up_after_the_read_timeout(server: Script) -> None:
    released = threading.Event()

    def hangs(handler: faulty_s3.Handler, honest: Callable[[], None]) -> None:
        released.wait(20)
        handler.close_connection = True

    server.always["GET"] = hangs
    store = S3Store("bucket", endpoint=server.endpoint, read_timeout=0.3, retry=Retry(attempts=2, first=0.01))
    started = time.monotonic()
    with pytest.raises(StoreUnavailable):
        store.get("config")
    assert time.monotonic() - started < 5
    released.set()


def test_a_bucket_in_another_region_can_be_created(moto: str) -> None:
    store = S3Store("bucket-in-frankfurt", endpoint=moto, region="eu-central-1")
    store.create()
    store.create()
    store.put("config", b"x")
    assert store.get("config") == b"x"


def test_virtual_addressing_puts_the_bucket_into_the_hosts_name(waits: list[float]) -> None:
    store = S3Store("mybucket", endpoint="http://s3.invalid", addressing="virtual", retry=Retry(attempts=1))
    with pytest.raises(StoreUnavailable) as caught:
        store.get("config")
    assert "mybucket.s3.invalid" in str(caught.value.__cause__)


@pytest.mark.parametrize(
    ("endpoint", "bucket", "host"),
    [
        ("https://s3.eu-central-1.amazonaws.com", "mybucket", "mybucket.s3.eu-central-1.amazonaws.com/config"),
        ("https://s3.eu-central-1.amazonaws.com", "my.bucket", "s3.eu-central-1.amazonaws.com/my.bucket/config"),
        ("https://minio.example.org:9000", "mybucket", "minio.example.org:9000/mybucket/config"),
    ],
)
def test_automatic_addressing_knows_amazon(endpoint: str, bucket: str, host: str) -> None:
    store = S3Store(bucket, endpoint=endpoint, region="eu-central-1")
    url = store._client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "config"})
    assert url.startswith(f"https://{host}?")


def test_the_endpoint_comes_from_the_environment(server: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    store = S3Store("bucket", "app")
    assert store.location == f"s3:{server.endpoint}/bucket/app"
    with pytest.raises(ObjectNotFound):
        store.get("config")
    assert server.requests == ["GET bucket/app/config"]


@pytest.mark.parametrize("by", ["argument", "environment"])
def test_an_endpoint_with_credentials_is_refused_and_not_repeated(by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = "http://someone:hunter2@127.0.0.1:9000"
    if by == "environment":
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(ConfigError) as caught:
        S3Store("bucket", endpoint=endpoint if by == "argument" else None)
    assert "hunter2" not in repr(caught.value.as_dict())


@pytest.mark.parametrize("endpoint", ["not a url", "ftp://host", "http://", "http://host:port"])
def test_an_invalid_endpoint_is_an_error_of_the_configuration(endpoint: str) -> None:
    with pytest.raises(ConfigError):
        S3Store("bucket", endpoint=endpoint)


def test_a_profile_that_does_not_exist_is_an_error_of_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    with pytest.raises(ConfigError, match="no-such-profile"):
        S3Store("bucket")
