"""What only S3 goes through: broken bodies, busy servers, lost answers, wrong keys, servers with views of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from holdfast.errors import (
    DigestMismatch,
    ObjectExists,
    StoreDenied,
    StoreError,
    StoreFull,
    StoreMissing,
    StoreUnavailable,
)
from holdfast.store.retry import Retry
from holdfast.store.s3 import S3Store
from tests.conformance import faulty_s3
from tests.conformance.faulty_s3 import Script, refuses


@pytest.fixture
def server() -> Iterator[Script]:
    with faulty_s3.faulty_s3() as script:
        yield script


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def store(server: Script, waits: list[float]) -> Iterator[S3Store]:
    store = S3Store("bucket", "app", endpoint=server.endpoint, retry=Retry(attempts=4, sleep=waits.append))
    yield store
    store.close()


def test_a_body_that_breaks_off_is_read_again(server: Script, store: S3Store, waits: list[float]) -> None:
    data = bytes(range(256)) * 1000
    server.objects["bucket/app/data/x"] = data
    server.next["GET"] = [faulty_s3.breaks_off(100_000), faulty_s3.breaks_off(0), faulty_s3.hangs_up]
    assert store.get("data/x") == data
    assert len(waits) == 3


def test_a_body_that_always_breaks_off_is_unavailable(server: Script, store: S3Store) -> None:
    server.objects["bucket/app/data/x"] = b"x" * 1000
    server.always["GET"] = faulty_s3.breaks_off(999)
    with pytest.raises(StoreUnavailable) as caught:
        store.get("data/x")
    assert "/app/data/x" in str(caught.value)
    assert server.requests == ["GET bucket/app/data/x"] * 4


@pytest.mark.parametrize("misbehaviour", [refuses(503, "SlowDown"), refuses(500, "InternalError"), faulty_s3.hangs_up])
def test_a_busy_server_is_asked_again_after_growing_waits(
    server: Script, store: S3Store, waits: list[float], misbehaviour: faulty_s3.Misbehaviour
) -> None:
    for method in ("PUT", "GET", "DELETE"):
        server.next[method] = [misbehaviour, misbehaviour]
    store.put("config", b"content")
    assert store.get("config") == b"content"
    store.delete("config")
    assert server.objects == {}
    assert len(waits) == 6
    assert all(0.25 <= first <= 0.5 <= second <= 1.0 for first, second in zip(waits[::2], waits[1::2], strict=True))


def test_a_server_that_only_fails_is_unavailable(server: Script, store: S3Store) -> None:
    for method in ("PUT", "GET", "HEAD", "DELETE"):
        server.always[method] = refuses(500, "InternalError")
    actions: list[Callable[[], object]] = [
        lambda: store.put("config", b"x"),
        lambda: store.put("config", b"x", if_absent=True),
        lambda: store.get("config"),
        lambda: store.head("config"),
        lambda: store.delete("config"),
        lambda: list(store.list("data")),
        store.create,
    ]
    for action in actions:
        server.requests.clear()
        with pytest.raises(StoreUnavailable, match="HTTP 500"):
            action()
        assert len(server.requests) == 4


def test_wrong_bytes_on_the_server_are_noticed_and_removed(server: Script, store: S3Store) -> None:
    server.next["PUT"] = [faulty_s3.stores_wrong_bytes]
    with pytest.raises(DigestMismatch) as caught:
        store.put("data/x", b"content")
    assert "wanted MD5 9a0364b9e99bb480dd25e1f0284c8555" in str(caught.value)
    assert "removed" in str(caught.value.hint)
    assert server.objects == {}


def test_wrong_bytes_that_cannot_be_removed_are_named(server: Script, store: S3Store) -> None:
    server.next["PUT"] = [faulty_s3.stores_wrong_bytes]
    server.always["DELETE"] = refuses(403, "AccessDenied")
    with pytest.raises(DigestMismatch) as caught:
        store.put("data/x", b"content")
    assert "delete it before another try" in str(caught.value.hint)


def test_half_an_object_is_noticed_without_an_md5(server: Script, store: S3Store) -> None:
    server.next["PUT"] = [faulty_s3.stores_half]
    with pytest.raises(DigestMismatch, match="wanted 7 bytes, found 3 bytes"):
        store.put("data/x", b"content")


def test_an_etag_that_is_no_md5_is_no_error(server: Script, store: S3Store) -> None:
    server.next["PUT"] = [faulty_s3.etag_without_md5]
    store.put("data/x", b"content")
    assert server.objects == {"bucket/app/data/x": b"content"}


@pytest.mark.parametrize("conditions", ["honoured", "ignored", "refused"])
def test_put_if_absent_whatever_the_server_makes_of_the_condition(
    server: Script, store: S3Store, conditions: str
) -> None:
    server.conditions = conditions
    store.put("wal/1", b"segment", if_absent=True)
    store.put("wal/1", b"segment", if_absent=True)
    with pytest.raises(ObjectExists):
        store.put("wal/1", b"SEGMENT", if_absent=True)
    assert server.objects == {"bucket/app/wal/1": b"segment"}


def test_a_lost_answer_to_put_if_absent_is_a_success_after_all(server: Script, store: S3Store) -> None:
    server.next["PUT"] = [faulty_s3.loses_the_answer]
    store.put("wal/1", b"segment", if_absent=True)
    assert server.requests[-2:] == ["HEAD bucket/app/wal/1", "GET bucket/app/wal/1"]
    assert server.objects == {"bucket/app/wal/1": b"segment"}


def test_someone_quicker_with_other_bytes_is_an_error(server: Script, store: S3Store) -> None:
    def someone_was_quicker(handler: faulty_s3.Handler, honest: Callable[[], None]) -> None:
        handler.script.objects[handler.key] = b"theirs"
        honest()

    server.next["PUT"] = [someone_was_quicker]
    with pytest.raises(ObjectExists, match="wanted these 4 bytes, found 6 other bytes"):
        store.put("wal/1", b"ours", if_absent=True)
    assert server.objects == {"bucket/app/wal/1": b"theirs"}


def test_a_server_that_ignores_ranges_still_gives_the_range(server: Script, store: S3Store) -> None:
    server.ranges = False
    server.objects["bucket/app/data/x"] = b"0123456789"
    assert store.get("data/x", offset=3, length=4) == b"3456"
    assert store.get("data/x", offset=8) == b"89"
    assert store.get("data/x", offset=20, length=4) == b""


@pytest.mark.parametrize(
    ("status", "code", "wanted"),
    [
        (507, "XMinioStorageFull", StoreFull),
        (403, "QuotaExceeded", StoreFull),
        (403, "AccessDenied", StoreDenied),
        (403, "RequestTimeTooSkewed", StoreDenied),
        (400, "ExpiredToken", StoreDenied),
        (404, "NoSuchBucket", StoreMissing),
        (400, "EntityTooLarge", StoreError),
    ],
)
def test_a_refused_put_has_its_error_and_is_not_repeated(
    server: Script, store: S3Store, status: int, code: str, wanted: type[StoreError]
) -> None:
    server.always["PUT"] = refuses(status, code)
    with pytest.raises(wanted) as caught:
        store.put("data/x", b"content")
    assert type(caught.value) is wanted
    assert len(server.requests) == 1


def test_an_answer_that_is_not_s3_is_told_apart(server: Script, store: S3Store) -> None:
    server.always["GET"] = faulty_s3.says(b"<html>Welcome to the router</html>")
    with pytest.raises(StoreError, match="no S3 server gives") as caught:
        list(store.list("data"))
    assert "endpoint" in str(caught.value.hint)


def test_an_answer_that_is_cut_off_is_never_a_short_listing(server: Script, store: S3Store) -> None:
    server.always["GET"] = faulty_s3.says(b"<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>ab")
    with pytest.raises(StoreUnavailable):
        list(store.list("data"))


def test_a_listing_without_its_next_page_is_an_error(server: Script, store: S3Store) -> None:
    page = b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>"
    server.always["GET"] = faulty_s3.says(page)
    with pytest.raises(StoreError, match="breaks off"):
        list(store.list("data"))
