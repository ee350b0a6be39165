"""A store in a bucket of any S3-compatible server: one PUT per object, one GET per read.

Rules upheld here:
- Every PUT carries Content-MD5, so that the server refuses what arrived damaged; its answer is compared as well.
- A body that ends early is a transient failure, never a shorter object.
- Every attempt ends in an error of ours, and `store.retry` decides by it alone whether there is another.
- put-if-absent looks first, and then sends `If-None-Match: *`: several servers take that header and ignore it.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from datetime import datetime
from typing import Any, TypeVar

from holdfast.errors import DigestMismatch, ObjectExists, ObjectNotFound, StoreError, StoreMissing
from holdfast.model.bucket import BucketFacts
from holdfast.store.base import Bytes, ObjectInfo, check_key, check_range, folder
from holdfast.store.retry import Retry
from holdfast.store.s3_client import (
    FAILURES,
    USUAL_CHAIN,
    Credentials,
    Refused,
    addressing_style,
    code_of,
    is_amazon,
    make_client,
    status_of,
    translate,
)
from holdfast.store.s3_errors import missing_bucket, not_s3
from holdfast.store.s3_probe import Dialect, probe_dialect

T = TypeVar("T")

_MD5 = re.compile(r"[0-9a-f]{32}")


class S3Store:
    """Objects below `prefix` in one bucket. For the arguments see `store.url.open_store`.

    Args:
        connect_timeout: seconds until a connection attempt counts as failed.
        read_timeout: seconds without a byte until an answer counts as failed.

    Raises: ConfigError.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        endpoint: str | None = None,
        region: str | None = None,
        addressing: str = "auto",
        credentials: Credentials = USUAL_CHAIN,
        connections: int = 16,
        connect_timeout: float = 10.0,
        read_timeout: float = 60.0,
        retry: Retry | None = None,
    ) -> None:
        self._bucket = bucket
        self._root = folder(prefix)
        self._retry = retry or Retry()
        self._style = addressing_style(addressing, endpoint, bucket)
        self._client = make_client(
            bucket,
            endpoint=endpoint,
            region=region,
            addressing=self._style,
            credentials=credentials,
            max_pool_connections=connections,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
        )
        self._bucket_url = f"s3:{self._client.meta.endpoint_url.rstrip('/')}/{bucket}"

    @property
    def location(self) -> str:
        """As restic spells it: `s3:https://host/bucket/prefix`."""
        return f"{self._bucket_url}/{self._root}".rstrip("/")

    def create(self) -> None:
        """See `Store.create`."""
        try:
            self._check_bucket()
        except StoreMissing:
            self._call("cannot create the bucket", self._bucket_url, self._create_bucket)

    def put(self, key: str, data: Bytes, *, if_absent: bool = False) -> None:
        """See `Store.put`."""
        name = self._name(key)
        body = data if isinstance(data, (bytes, bytearray)) else bytes(data)
        if if_absent and self._holds(key, body):
            return
        md5 = hashlib.md5(body, usedforsecurity=False)
        request: dict[str, Any] = {
            "Bucket": self._bucket,
            "Key": name,
            "Body": body,
            "ContentMD5": base64.b64encode(md5.digest()).decode(),
        }
        if if_absent:
            request["IfNoneMatch"] = "*"
        try:
            answer = self._call("cannot store an object", self._which(key), lambda: self._put_once(request))
        except ObjectExists:
            # Someone was quicker, or it was ourselves and the answer to an earlier attempt got lost.
            if self._holds(key, body):
                return
            raise
        self._check_written(key, len(body), md5.hexdigest(), answer)

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """See `Store.get`."""
        check_range(offset, length)
        if length == 0:
            self.head(key)
            return b""
        request: dict[str, Any] = {"Bucket": self._bucket, "Key": self._name(key)}
        if offset or length is not None:
            request["Range"] = f"bytes={offset}-{'' if length is None else offset + length - 1}"
        return self._call("cannot read an object", self._which(key), lambda: self._get_once(request, offset, length))

    def head(self, key: str) -> ObjectInfo:
        """See `Store.head`."""
        try:
            return self._head(key)
        except ObjectNotFound:
            self._check_bucket()  # an answer to HEAD has no body, so that a missing bucket looks the same
            raise

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `Store.list`."""
        return self._list(f"{self._root}{folder(prefix)}")

    def delete(self, key: str) -> None:
        """See `Store.delete`."""
        name = self._name(key)
        with suppress(ObjectNotFound):  # several servers answer 404 where Amazon says 204
            self._call(
                "cannot delete an object",
                self._which(key),
                lambda: self._client.delete_object(Bucket=self._bucket, Key=name),
            )

    def dialect(self, key: str) -> Dialect:
        """What the server makes of conditions and checksums; `key` is written, and left there. Raises: as `put`."""
        name = self._name(key)
        which = self._which(key)
        return self._call("cannot probe the server", which, lambda: probe_dialect(self._client, self._bucket, name))

    def examine(self, *, now: Callable[[], datetime]) -> BucketFacts:
        """How safe the bucket keeps what is in it. Raises: the store's errors when it does not answer."""
        from holdfast.store.s3_examine import examine

        return self._call(
            "cannot ask the bucket", self._bucket_url, lambda: examine(self._client, self._bucket, self._style, now=now)
        )

    def close(self) -> None:
        """See `Store.close`."""
        self._client.close()

    def _name(self, key: str) -> str:
        return f"{self._root}{check_key(key)}"

    def _which(self, key: str) -> str:
        return f"{self.location}/{key}"

    def _call(self, what: str, which: str, work: Callable[[], T]) -> T:
        def attempt() -> T:
            try:
                return work()
            except FAILURES as error:
                raise translate(what, which, self.location, error) from error

        return self._retry.run(attempt)

    def _check_bucket(self) -> None:
        try:
            self._call(
                "cannot reach the bucket", self._bucket_url, lambda: self._client.head_bucket(Bucket=self._bucket)
            )
        except ObjectNotFound as error:
            raise missing_bucket(self.location) from error

    def _create_bucket(self) -> None:
        region = self._client.meta.region_name
        placed: dict[str, Any] = {"CreateBucketConfiguration": {"LocationConstraint": region}}
        amazon = is_amazon(self._client.meta.endpoint_url)
        try:
            self._client.create_bucket(Bucket=self._bucket, **(placed if amazon and region != "us-east-1" else {}))
        except Refused as error:
            code = code_of(error)
            if code == "IllegalLocationConstraintException" and not amazon:
                self._client.create_bucket(Bucket=self._bucket, **placed)
            elif code != "BucketAlreadyOwnedByYou":
                raise

    def _put_once(self, request: dict[str, Any]) -> Mapping[str, Any]:
        try:
            return self._client.put_object(**request)
        except Refused as error:
            if "IfNoneMatch" not in request or status_of(error) != 501:
                raise
        # The server has no conditional writes and says so: having looked before is all that can be done there.
        return self._client.put_object(**{name: request[name] for name in request if name != "IfNoneMatch"})

    def _get_once(self, request: dict[str, Any], offset: int, length: int | None) -> bytes:
        try:
            answer: Mapping[str, Any] = self._client.get_object(**request)
        except Refused as error:
            if status_of(error) == 416:  # the range begins past the end
                return b""
            raise
        with closing(answer["Body"]) as body:
            data: bytes = body.read()
        if "Range" in request and "ContentRange" not in answer:  # the server ignored the range and sent everything
            return data[offset : None if length is None else offset + length]
        return data

    def _head(self, key: str) -> ObjectInfo:
        name = self._name(key)
        answer = self._call(
            "cannot read an object", self._which(key), lambda: self._client.head_object(Bucket=self._bucket, Key=name)
        )
        return ObjectInfo(key, answer["ContentLength"], answer["LastModified"].timestamp())

    def _holds(self, key: str, body: bytes | bytearray) -> bool:
        """Whether exactly these bytes are there. Raises: ObjectExists when others are."""
        try:
            size = self._head(key).size
            if size == len(body) and self.get(key) == body:
                return True
        except ObjectNotFound:
            return False
        wanted, found = f"these {len(body)} bytes", f"{size} other bytes"
        raise ObjectExists("a different object has this key", which=self._which(key), wanted=wanted, found=found)

    def _check_written(self, key: str, size: int, md5: str, answer: Mapping[str, Any]) -> None:
        """Compare the server's answer with what was sent.

        The ETag is the MD5 of an object that was PUT whole, unless KMS or the customer's own key encrypts it (Amazon's
        "Object" reference); where it is none, the size is asked for.
        """
        etag = str(answer.get("ETag", "")).strip('"').lower()
        foreign = str(answer.get("ServerSideEncryption", "")).startswith("aws:kms") or "SSECustomerAlgorithm" in answer
        if _MD5.fullmatch(etag) and not foreign:
            wanted, found = f"MD5 {md5}", f"MD5 {etag}"
        else:
            wanted, found = f"{size} bytes", f"{self._head(key).size} bytes"
        if wanted != found:
            raise self._damaged(key, wanted, found)

    def _damaged(self, key: str, wanted: str, found: str) -> DigestMismatch:
        """The error for an object that was stored wrong, which is removed if that is allowed."""
        hint = "it was removed again; check the server's disks and memory before another try"
        try:
            self.delete(key)
        except StoreError as error:
            hint = f"it could not be removed ({error}): delete it before another try"
        return DigestMismatch(
            "the server stored other bytes", which=self._which(key), wanted=wanted, found=found, hint=hint
        )

    def _list(self, start: str) -> Iterator[ObjectInfo]:
        request: dict[str, Any] = {"Bucket": self._bucket, "Prefix": start}
        which = f"{self._bucket_url}/{start}"
        while True:
            page = self._call("cannot list objects", which, lambda: self._client.list_objects_v2(**request))
            if "IsTruncated" not in page:  # any XML parses as a listing, and a web page would be an empty one
                raise not_s3("cannot list objects", which)
            for item in page.get("Contents", ()):
                key = item["Key"].removeprefix(self._root)
                # Consoles put empty objects named like folders ("data/"); no such name can be a key of ours.
                if item["Key"].startswith(start) and not key.endswith("/"):
                    yield ObjectInfo(key, item["Size"], item["LastModified"].timestamp())
            if not page["IsTruncated"]:
                return
            if not page.get("NextContinuationToken"):
                raise StoreError("a listing breaks off", which=which, wanted="a token for the next page", found="none")
            request["ContinuationToken"] = page["NextContinuationToken"]
