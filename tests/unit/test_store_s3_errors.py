"""What the error codes of S3 servers become."""

from __future__ import annotations

import pytest

from holdfast.errors import (
    ObjectExists,
    ObjectNotFound,
    StoreDenied,
    StoreError,
    StoreFull,
    StoreMissing,
    StoreUnavailable,
)
from holdfast.store.s3_errors import refusal


@pytest.mark.parametrize(
    ("status", "code", "wanted"),
    [
        (404, "NoSuchBucket", StoreMissing),
        (404, "NoSuchKey", ObjectNotFound),
        (404, "404", ObjectNotFound),
        (403, "AccessDenied", StoreDenied),
        (403, "InvalidAccessKeyId", StoreDenied),
        (403, "SignatureDoesNotMatch", StoreDenied),
        (403, "403", StoreDenied),
        (401, "Unauthorized", StoreDenied),
        (400, "ExpiredToken", StoreDenied),
        (400, "AuthorizationHeaderMalformed", StoreDenied),
        (403, "RequestTimeTooSkewed", StoreDenied),
        (507, "507", StoreFull),
        (507, "XMinioStorageFull", StoreFull),
        (500, "XMinioStorageFull", StoreFull),
        (403, "QuotaExceeded", StoreFull),
        (503, "SlowDown", StoreUnavailable),
        (400, "RequestTimeout", StoreUnavailable),
        (429, "TooManyRequests", StoreUnavailable),
        (429, "", StoreUnavailable),
        (500, "InternalError", StoreUnavailable),
        (502, "502", StoreUnavailable),
        (504, "GatewayTimeout", StoreUnavailable),
        (409, "ConditionalRequestConflict", StoreUnavailable),
        (409, "OperationAborted", StoreUnavailable),
        (400, "BadDigest", StoreUnavailable),
        (412, "PreconditionFailed", ObjectExists),
        (301, "PermanentRedirect", StoreError),
        (400, "EntityTooLarge", StoreError),
        (501, "NotImplemented", StoreError),
    ],
)
def test_each_code_has_its_error(status: int, code: str, wanted: type[StoreError]) -> None:
    error = refusal("cannot store an object", "s3:h/b/k", "s3:h/b", code=code, status=status, message="in its words")
    assert type(error) is wanted


def test_the_message_names_status_code_and_the_servers_words() -> None:
    error = refusal("cannot read an object", "s3:h/b/k", "s3:h/b", code="AccessDenied", status=403, message="Go away.")
    assert str(error) == "cannot read an object: s3:h/b/k: found HTTP 403 AccessDenied (Go away.)"
    assert "s3:ListBucket" in str(error.hint)


def test_a_code_that_only_repeats_the_status_is_left_out() -> None:
    error = refusal("cannot read an object", "s3:h/b/k", "s3:h/b", code="403", status=403, message="")
    assert error.found == "HTTP 403"


def test_a_missing_bucket_names_the_command_that_makes_it() -> None:
    error = refusal("cannot list objects", "s3:h/b/data/", "s3:h/b", code="NoSuchBucket", status=404, message="")
    assert error.hint == "holdfast init --repo s3:h/b makes it"
    assert error.which == "s3:h/b"
