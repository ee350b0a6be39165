"""Asking a bucket how safe it is: versions, Object Lock, who may read it, what time it is there.

Rules upheld here:
- It only asks: nothing is written, and nothing is changed.
- That a server does not know a setting, or refuses to tell, is no error: it is not known then.
- Whether everybody may read is found out by trying: a request without a signature. What a policy says may be overruled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import boto3
from botocore import UNSIGNED
from botocore.config import Config

from holdfast.model.bucket import BucketFacts
from holdfast.store.s3_client import FAILURES, Refused

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def examine(client: S3Client, bucket: str, style: str, *, now: Callable[[], datetime]) -> BucketFacts:
    """The facts about a bucket; `style` is how it is addressed. Raises: the SDK's errors when it does not answer."""
    answer: Mapping[str, Any] = client.head_bucket(Bucket=bucket)
    asked = now()
    return BucketFacts(
        name=bucket,
        versioned=_asked(lambda: client.get_bucket_versioning(Bucket=bucket).get("Status") == "Enabled"),
        locked=_asked(lambda: _lock(client, bucket)),
        readable_by_all=_asked(lambda: _readable_by_all(client, bucket, style)),
        asked=asked,
        clock=_clock(answer),
    )


def _asked(question: Callable[[], bool]) -> bool | None:
    try:
        return question()
    except FAILURES:
        return None


def _lock(client: S3Client, bucket: str) -> bool:
    try:
        found = client.get_object_lock_configuration(Bucket=bucket)
    except Refused as error:
        if error.response.get("Error", {}).get("Code") == "ObjectLockConfigurationNotFoundError":
            return False
        raise
    return found["ObjectLockConfiguration"].get("ObjectLockEnabled") == "Enabled"


def _readable_by_all(client: S3Client, bucket: str, style: Any) -> bool:
    """Whether a listing is answered to somebody without credentials."""
    config = Config(
        signature_version=UNSIGNED,
        s3={"addressing_style": style},
        connect_timeout=5,
        read_timeout=10,
        retries={"total_max_attempts": 1},
    )
    stranger = boto3.client(
        "s3", endpoint_url=client.meta.endpoint_url, region_name=client.meta.region_name, config=config
    )
    try:
        stranger.list_objects_v2(Bucket=bucket, MaxKeys=1)
    except Refused:
        return False
    finally:
        stranger.close()
    return True


def _clock(answer: Mapping[str, Any]) -> datetime | None:
    """The server's clock, from its answer's Date (RFC 9110, 6.6.1)."""
    text = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    try:
        return parsedate_to_datetime(text).astimezone(UTC) if text else None
    except ValueError:
        return None
