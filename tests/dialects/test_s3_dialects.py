"""Servers that speak S3 in their own way: everything works on each, and doctor says what it can and cannot do."""

from __future__ import annotations

import re
import time
import uuid
from pathlib import Path

import pytest

from deployments.local.s3 import S3Endpoint
from holdfast.errors import DigestMismatch, ObjectExists, StoreError, StoreUnavailable
from holdfast.repository.repository import open_repository
from holdfast.services.doctor_store import examine_store
from holdfast.services.finding import Finding
from holdfast.services.prune import prune
from holdfast.services.restore import restore_directory
from holdfast.services.verify import verify
from holdfast.store.base import Store
from holdfast.store.s3_client import Credentials
from tests.dialects.conftest import Front, open_at
from tests.support import s3_dialects as dialects
from tests.support.proxy import Answer, Behaviour, Certificate, Forward, Proxy, Request, passes_on
from tests.support.repositories import PASSWORD, backup_directory, latest, new_repository_on
from tests.support.trees import describe

DIALECTS = {
    "as Amazon": passes_on,
    "ignores If-None-Match": dialects.ignores_conditions,
    "has no If-None-Match": dialects.refuses_conditions,
    "refuses trailers": dialects.refuses_trailers,
    "ignores checksums": dialects.ignores_checksums,
    "1,000 parts": dialects.thousand_parts,
    "lists late": dialects.lists_late(0.6),
}


def _whole_life(store: Store, source: Path, folder: Path, *, patience: float = 0.0) -> None:
    """Init, two backups, read everything back, restore, forget, prune, restore again."""
    new_repository_on(store)
    time.sleep(patience)
    backup_directory(open_repository(store, PASSWORD), source)
    backup_directory(open_repository(store, PASSWORD), source)
    time.sleep(patience)
    repository = open_repository(store, PASSWORD)
    assert verify(repository, read_share=1).ok
    assert len(repository.snapshots().snapshots) == 2
    store.delete(f"snapshots/{repository.snapshots().snapshots[0].id}")
    prune(repository, grace_hours=0, max_unused=0)
    time.sleep(patience)
    assert verify(open_repository(store, PASSWORD), read_share=1).ok
    restore_directory(repository, latest(repository), folder / "out")
    assert describe(folder / "out") == describe(source)


def _bucket() -> str:
    return f"b{uuid.uuid4().hex[:12]}"


@pytest.mark.parametrize("dialect", [dialect for dialect in DIALECTS if dialect != "as Amazon"])
def test_a_whole_life_on_every_dialect(front: Front, source: Path, tmp_path: Path, dialect: str) -> None:
    proxy = front(DIALECTS[dialect])
    _whole_life(open_at(proxy.endpoint, bucket=_bucket()), source, tmp_path, patience=0.7 if "late" in dialect else 0)


def _no_fancy_requests(proxy: Proxy) -> None:
    """What few servers have is never asked for: checksums behind the body, uploads in parts."""
    assert proxy.requests
    for request in proxy.requests:
        assert "x-amz-trailer" not in request.headers
        assert "aws-chunked" not in request.headers.get("content-encoding", "")
        assert not re.search(r"[?&](uploads|partNumber|uploadId)\b", request.path)


@pytest.mark.usefixtures("trusting")
def test_over_tls_behind_a_proxy(front: Front, certificate: Certificate, source: Path, tmp_path: Path) -> None:
    proxy = front(dialects.refuses_trailers, tls=certificate)
    assert proxy.endpoint.startswith("https://")
    _whole_life(open_at(proxy.endpoint, bucket=_bucket()), source, tmp_path)
    _no_fancy_requests(proxy)


@pytest.mark.usefixtures("trusting")
def test_over_tls_to_rclone(rclone_tls: S3Endpoint, source: Path, tmp_path: Path) -> None:
    keys = Credentials(rclone_tls.access_key, rclone_tls.secret_key)
    _whole_life(open_at(rclone_tls.endpoint, keys=keys, bucket=_bucket()), source, tmp_path)


def test_a_certificate_that_is_not_trusted_is_told(rclone_tls: S3Endpoint) -> None:
    with pytest.raises(StoreError, match="certificate is not trusted") as caught:
        open_at(rclone_tls.endpoint).create()
    assert "AWS_CA_BUNDLE" in str(caught.value.hint)


def test_plain_http_to_rclone_signs_what_it_sends(
    front: Front, rclone_s3: S3Endpoint, source: Path, tmp_path: Path
) -> None:
    proxy = front(server=rclone_s3.endpoint)
    keys = Credentials(rclone_s3.access_key, rclone_s3.secret_key)
    _whole_life(open_at(proxy.endpoint, keys=keys, bucket=_bucket()), source, tmp_path)
    _no_fancy_requests(proxy)


def _doctor(store: Store) -> dict[str, Finding]:
    store.create()
    found = {finding.check: finding for finding in examine_store(store, time.time)}
    assert not [info.key for info in store.list("")], "nothing stays behind"
    return found


@pytest.mark.parametrize(
    ("dialect", "check", "verdict", "words"),
    [
        ("as Amazon", "conditional writes", "ok", "honoured"),
        ("as Amazon", "listing", "ok", "at once"),
        ("ignores If-None-Match", "conditional writes", "warn", "ignored"),
        ("has no If-None-Match", "conditional writes", "warn", "refused"),
        ("ignores checksums", "checksums", "warn", "takes what arrived damaged, does not tell"),
        ("refuses trailers", "checksums", "ok", "tells the MD5"),
        ("1,000 parts", "store", "ok", "writes, reads"),
        ("lists late", "listing", "warn", "only after"),
    ],
)
def test_doctor_says_what_a_server_can_do(front: Front, dialect: str, check: str, verdict: str, words: str) -> None:
    behaviour = dialects.lists_late(1.2) if dialect == "lists late" else DIALECTS[dialect]
    found = _doctor(open_at(front(behaviour).endpoint, bucket=_bucket()))
    assert found["store"].verdict == "ok"
    assert (found[check].verdict, words in found[check].found) == (verdict, True), found[check]
    assert (found[check].hint is None) == (verdict == "ok")


def test_doctor_on_rclone(rclone_s3: S3Endpoint) -> None:
    keys = Credentials(rclone_s3.access_key, rclone_s3.secret_key)
    found = _doctor(open_at(rclone_s3.endpoint, keys=keys, bucket=_bucket()))
    assert found["conditional writes"].verdict == "warn"
    assert found["checksums"].verdict == "ok"


# --- a digest that does not match is never believed away --------------------------------------------------------------


@pytest.mark.parametrize("server", ["as Amazon", "does not look at digests", "rclone"])
def test_bytes_that_change_on_the_way_are_never_a_success(
    front: Front, rclone_s3: S3Endpoint, source: Path, server: str
) -> None:
    behaviour = dialects.flips_a_bit("*/app/data/*", digests=server != "does not look at digests")
    rclone = server == "rclone"
    proxy = front(behaviour, server=rclone_s3.endpoint) if rclone else front(behaviour)
    keys = Credentials(rclone_s3.access_key, rclone_s3.secret_key)
    store = open_at(proxy.endpoint, bucket=_bucket(), **({"keys": keys} if rclone else {}))  # type: ignore[arg-type]
    repository = new_repository_on(store)
    with pytest.raises((DigestMismatch, StoreUnavailable)):
        backup_directory(repository, source)
    assert not repository.snapshots().snapshots
    assert not list(store.list("data"))
    proxy.behaviour = passes_on
    backup_directory(open_repository(store, PASSWORD), source)
    assert verify(open_repository(store, PASSWORD), read_share=1).ok


def test_a_server_that_refuses_what_changed_on_the_way_gets_it_again(
    front: Front, rclone_s3: S3Endpoint, source: Path
) -> None:
    proxy = front(dialects.flips_a_bit("*/app/data/*", times=2), server=rclone_s3.endpoint)
    store = open_at(proxy.endpoint, keys=Credentials(rclone_s3.access_key, rclone_s3.secret_key), bucket=_bucket())
    backup_directory(new_repository_on(store), source)
    assert verify(open_repository(store, PASSWORD), read_share=1).ok


def test_without_any_digest_reading_back_still_notices(front: Front, source: Path) -> None:
    """Neither the server nor its ETag tells: the upload passes, and verify and restore do not."""
    flips = dialects.flips_a_bit("*/app/data/*", digests=False)

    def both(request: Request, forward: Forward) -> Answer:
        return dialects.ignores_checksums(request, lambda changed: flips(changed, forward))

    proxy = front(both)
    store = open_at(proxy.endpoint, bucket=_bucket())
    backup_directory(new_repository_on(store), source)
    found = verify(open_repository(store, PASSWORD), read_share=1)
    assert not found.ok
    assert found.affected or found.problems


# --- a bad day of the network, on the whole way -----------------------------------------------------------------------

FAULTS: dict[str, Behaviour] = {
    "busy": dialects.every(4, dialects.slow_down),
    "lost answers": dialects.every(4, dialects.loses_the_answer),
    "broken bodies": dialects.every(3, dialects.breaks_off, method="GET"),
    "slow": dialects.every(9, dialects.is_slow),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_whole_life_on_a_bad_day(front: Front, source: Path, tmp_path: Path, fault: str) -> None:
    proxy = front(FAULTS[fault])
    _whole_life(open_at(proxy.endpoint, bucket=_bucket(), attempts=8), source, tmp_path)


def test_a_lost_answer_to_put_if_absent_on_a_real_server(front: Front) -> None:
    store = open_at(front(dialects.every(2, dialects.loses_the_answer, method="PUT")).endpoint, bucket=_bucket())
    store.create()  # the first PUT; the second one's answer is lost, and the third finds the object there
    store.put("wal/1", b"segment", if_absent=True)
    with pytest.raises(ObjectExists):
        store.put("wal/1", b"SEGMENT", if_absent=True)
    assert store.get("wal/1") == b"segment"
