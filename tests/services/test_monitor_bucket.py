"""What the monitor finds about buckets, on two S3 servers: one with versions and locks, one that asks who is there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pytest

from deployments.local.s3 import S3Endpoint
from holdfast.config.loading import load
from holdfast.config.models import Config
from holdfast.model.monitor import Severity
from holdfast.services.access import init_repository_at
from holdfast.services.monitor import watch
from holdfast.services.observe_safety import observe_bucket
from holdfast.services.stacks import access_of


@pytest.fixture
def _credentials(monkeypatch: pytest.MonkeyPatch, rclone_s3: S3Endpoint) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", rclone_s3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", rclone_s3.secret_key)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def config_at(folder: Path, url: str) -> Config:
    (folder / "password").write_text("correct horse")
    (folder / "password").chmod(0o600)
    (folder / "holdfast.yaml").write_text(
        f"version: 1\nrepository: {{url: '{url}', password_file: {folder}/password}}\n"
        f"engine: {{url: unix:///nowhere.sock}}\nstacks: {{docs: {{paths: [{folder}]}}}}\n"
    )
    return load(str(folder / "holdfast.yaml"))


def now() -> datetime:
    return datetime.now(UTC)


@pytest.mark.usefixtures("_credentials")
def test_versions_locks_and_strangers(moto: str, tmp_path: Path) -> None:
    client = boto3.client("s3", endpoint_url=moto, region_name="us-east-1")
    client.create_bucket(Bucket="plain")
    client.create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
    found = {f.kind: f for f in observe_bucket(config_at(tmp_path, f"s3:{moto}/plain/r"), now=now)}
    # This server answers to anybody, and so it is told.
    assert found["bucket-readable-by-all"].severity is Severity.CRITICAL
    assert found["bucket-forgets"].severity is Severity.WARNING
    assert "put-bucket-versioning --bucket plain" in found["bucket-forgets"].hint
    client.put_bucket_versioning(Bucket="plain", VersioningConfiguration={"Status": "Enabled"})
    for bucket in ("plain", "locked"):
        kinds = {f.kind for f in observe_bucket(config_at(tmp_path, f"s3:{moto}/{bucket}/r"), now=now)}
        assert "bucket-forgets" not in kinds


@pytest.mark.usefixtures("_credentials")
def test_a_bucket_that_asks_who_is_there_and_clocks_that_differ(
    rclone_s3: S3Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOLDFAST_STATE", str(tmp_path / "state"))
    config = config_at(tmp_path, f"s3:{rclone_s3.endpoint}/monitored/r")
    init_repository_at(access_of(config)).store.close()
    kinds = {f.kind: f for f in watch(config, "host-a", now=now).findings}
    assert "bucket-readable-by-all" not in kinds
    assert "clock-differs" not in kinds
    assert kinds["bucket-forgets"].severity is Severity.WARNING
    ahead = watch(config, "host-a", now=lambda: now() + timedelta(hours=3)).started
    (told,) = [f for f in ahead if f.kind == "clock-differs"]
    assert "ahead of the bucket's" in told.found
    assert "clock-differs" in {f.kind for f in watch(config, "host-a", now=now).ended}
