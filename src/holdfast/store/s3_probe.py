"""Which dialect of S3 a server speaks: asked by writing one small object in ways that servers answer differently.

Rules upheld here:
- What a server does is found out by trying it, not by its name or version.
- An answer that is an error of another kind (denied, busy) is that error, not a dialect.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from holdfast.store.s3_client import Refused, status_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Conditions = Literal["honoured", "ignored", "refused"]

_MD5 = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a server does.

    Args:
        conditions: what it makes of `If-None-Match: *` on an object that is there.
        refuses_damage: whether it compares what arrived with Content-MD5, and refuses what differs.
        tells_md5: whether its ETag is the MD5 of what it has stored.
    """

    conditions: Conditions
    refuses_damage: bool
    tells_md5: bool


def probe_dialect(client: S3Client, bucket: str, name: str) -> Dialect:
    """Ask a server; the object `name` is written, and left for the caller to remove. Raises: the SDK's exceptions."""
    body = b"a first content"
    answer = client.put_object(Bucket=bucket, Key=name, Body=body, ContentMD5=_md5(body))
    etag = answer["ETag"].strip('"').lower()
    return Dialect(
        _conditions(client, bucket, name, body),
        _refuses_damage(client, bucket, name),
        etag == hashlib.md5(body, usedforsecurity=False).hexdigest() if _MD5.fullmatch(etag) else False,
    )


def _conditions(client: S3Client, bucket: str, name: str, body: bytes) -> Conditions:
    try:
        client.put_object(Bucket=bucket, Key=name, Body=body, ContentMD5=_md5(body), IfNoneMatch="*")
    except Refused as error:
        if status_of(error) == 412:
            return "honoured"
        if status_of(error) == 501:
            return "refused"
        raise
    return "ignored"


def _refuses_damage(client: S3Client, bucket: str, name: str) -> bool:
    try:
        client.put_object(Bucket=bucket, Key=name, Body=b"a second content", ContentMD5=_md5(b"another one"))
    except Refused as error:
        if status_of(error) == 400:
            return True
        raise
    return False


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
