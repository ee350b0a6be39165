"""WAL and base backups on S3, end to end, and an outage of the bucket under write load."""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta

import boto3
import pytest

from deployments.local.s3 import S3Endpoint
from holdfast.errors import WalConflict
from holdfast.model.wal import WalKind
from holdfast.model.wal_state import Name
from holdfast.services.drill import drill
from holdfast.services.shipping import Shipper
from holdfast.services.wal import archive_of
from tests.support.pitr import LATEST, MakeSite, Site, at, fill, now, server_time
from tests.support.proxy import Answer, Behaviour, Forward, Request, passes_on, proxy, refusal
from tests.support.wire import Wire, wire

LIMIT = 4
"""MiB of WAL that the slot may hold back."""


@pytest.fixture
def keys(rclone_s3: S3Endpoint, monkeypatch: pytest.MonkeyPatch) -> S3Endpoint:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", rclone_s3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", rclone_s3.secret_key)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    return rclone_s3


@pytest.fixture
def cable(keys: S3Endpoint) -> Iterator[Wire]:
    with wire(keys.endpoint) as made:
        yield made


@pytest.fixture(params=["ignores conditions", "honours conditions"])
def url(request: pytest.FixtureRequest, keys: S3Endpoint) -> Iterator[str]:
    """A repository on rclone's S3 server, which overwrites whatever one asks for, and on moto's, which refuses."""
    if request.param == "ignores conditions":
        yield f"s3:{keys.endpoint}/{new_bucket(keys.endpoint)}/holdfast"
        return
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    yield f"s3:{endpoint}/{new_bucket(endpoint)}/holdfast"
    server.stop()


def new_bucket(endpoint: str) -> str:
    name = f"wal-{uuid.uuid4().hex[:12]}"
    boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket=name)
    return name


def test_a_bucket_that_is_away_for_an_hour_under_load_loses_nothing(make_site: MakeSite, cable: Wire) -> None:
    """The hour is the clock's; the load, the outage and what waits because of it are real."""
    settings = f"max_slot_wal_keep_size = {LIMIT}MB\nmin_wal_size = 2MB\nmax_wal_size = 4MB"
    site = make_site(settings=settings, repository=f"s3:{cable.url}/{new_bucket(cable.url)}/holdfast")
    ahead = [timedelta(0)]
    with site.archiving(clock=lambda: now() + ahead[0]) as runner:
        site.back_up()
        site.caught_up()
        cable.cut()
        for _ in range(4):
            fill(site.cluster, 30_000)
        site.cluster.sql("CHECKPOINT")
        wait_received(site.cluster.sql("SELECT pg_current_wal_lsn()"), site)
        waiting = [file for file in site.source.spool.waiting() if file.name.kind is WalKind.SEGMENT]
        assert sum(file.size for file in waiting) > 2 * LIMIT << 20, "more than the slot may hold back"
        assert site.cluster.sql("SELECT wal_status FROM pg_replication_slots") == "reserved"
        held = int(site.cluster.sql("SELECT pg_current_wal_lsn() - restart_lsn FROM pg_replication_slots"))
        assert held < LIMIT << 20, "the server holds nothing back: the spool has it"
        ahead[0] = timedelta(hours=1)
        until(lambda: Name.SPOOL_WAITING in {finding.name for finding in runner.findings}, "the finding")
        assert "shipping" in runner._troubles
        cable.mend()
        site.caught_up()
        until(lambda: not runner._troubles, "everything goes on")
    status = site.status()
    assert not [gap for timeline in status.timelines for gap in timeline.gaps]
    assert Name.SPOOL_WAITING not in {finding.name for finding in status.findings}
    _, restored = site.restore("restored", LATEST)
    assert restored.sql("SELECT count(*) FROM filler") == "120000"
    restored.stop()


def test_from_backup_to_proof(make_site: MakeSite, url: str) -> None:
    site = make_site(repository=url)
    with site.archiving():
        site.back_up()
        fill(site.cluster)
        moment = server_time(site.cluster)
        time.sleep(0.05)
        site.cluster.sql("INSERT INTO t VALUES (101)")
        site.caught_up()
    with site.open() as repository:
        assert drill(site.config, repository, "shop", now=now).passed
    _, restored = site.restore("restored", at(moment))
    assert restored.sql("SELECT count(*) FROM filler") == "20000"
    assert restored.sql("SELECT max(n) FROM t") == "100"
    restored.stop()

    # The same name again with other content, though one of the servers would overwrite.
    archived = next(file for file in site.source.spool.waiting() if file.name.kind is WalKind.SEGMENT)
    with open(archived.path, "r+b") as file:
        file.seek(archived.size - 8)
        file.write(b"tampered")
    with site.open() as repository:
        archive = archive_of(repository, site.source.spool.owner() or "")
        before = archive.read(archived.name)
        report = Shipper(archive, site.source.spool).ship(partial=False)
        assert isinstance(report.error, WalConflict)
        assert archive.read(archived.name) == before, "nothing was overwritten"


def wait_received(lsn: str, site: Site) -> None:
    """Until the receiver has everything up to an address."""
    asked = f"SELECT bool_or(flush_lsn >= '{lsn}') FROM pg_stat_replication"  # noqa: S608  an address
    until(lambda: site.cluster.sql(asked) == "t", "the receiver is behind")


def until(reached: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


def test_a_bucket_that_refuses_is_full_or_forgets_loses_nothing(make_site: MakeSite, keys: S3Endpoint) -> None:
    """403, 507, an answer that gets lost, half an object, and a success for what was not stored: all under load."""

    def half(request: Request, forward: Forward) -> Answer:
        forward(replace(request, body=request.body[: len(request.body) // 2]).without("content-md5"))
        return refusal(500, "InternalError")

    def forgets(request: Request, forward: Forward) -> Answer:
        digest = hashlib.md5(request.body, usedforsecurity=False).hexdigest()
        return Answer(200, {"etag": f'"{digest}"'}, b"")

    def loses(request: Request, forward: Forward) -> Answer:
        return replace(forward(request), lost=True)

    bad_days = [
        lambda _, __: refusal(403, "AccessDenied"),
        lambda _, __: refusal(507, "InsufficientStorage"),
        loses,
        half,
        forgets,
    ]

    with proxy(keys.endpoint, passes_on) as front:
        site = make_site(repository=f"s3:{front.endpoint}/{new_bucket(keys.endpoint)}/holdfast")
        rows = 0
        with site.archiving() as runner:
            site.back_up()
            for number, bad in enumerate(bad_days):

                def day(request: Request, forward: Forward, bad: Behaviour = bad) -> Answer:
                    is_wal = request.method == "PUT" and "/wal/" in request.key
                    return bad(request, forward) if is_wal else forward(request)

                front.behaviour = day
                fill(site.cluster)
                rows += 20_000
                if number < 2:
                    until(lambda: "shipping" in runner._troubles, "it is told")
                else:
                    time.sleep(1.0)
                front.behaviour = passes_on
                fill(site.cluster, 100)
                rows += 100
            site.caught_up()
        assert not [gap for timeline in site.status().timelines for gap in timeline.gaps]
        _, restored = site.restore("restored", LATEST)
        assert restored.sql("SELECT count(*) FROM filler") == str(rows)
        restored.stop()
