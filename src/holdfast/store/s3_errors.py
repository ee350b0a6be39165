"""What an S3 server's refusal means: its error code and HTTP status become one error of ours, with a hint.

Rules upheld here:
- Pure: no SDK, no network. The code decides first, the status where the code is unknown (HEAD answers have no code).
- Codes are those of Amazon's "Error responses", plus those that MinIO, Ceph and others add.
"""

from __future__ import annotations

from holdfast.errors import (
    ObjectExists,
    ObjectNotFound,
    StoreDenied,
    StoreError,
    StoreFull,
    StoreMissing,
    StoreUnavailable,
)

_KEYS = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or the profile in AWS_PROFILE)"
_POLICY = (
    "the credentials need s3:ListBucket on the bucket, s3:GetObject, s3:PutObject and s3:DeleteObject on its objects"
)

_DENIED_HINTS = {
    "AccessDenied": _POLICY,
    "AllAccessDisabled": _POLICY,
    "AccountProblem": "ask the provider what is wrong with the account",
    "AuthorizationHeaderMalformed": "the bucket lies in another region: set AWS_REGION",
    "ExpiredToken": "the session has expired: get new credentials",
    "InvalidAccessKeyId": _KEYS,
    "InvalidToken": "check AWS_SESSION_TOKEN, or unset it when the keys are permanent ones",
    "RequestTimeTooSkewed": "this machine's clock is wrong: timedatectl",
    "SignatureDoesNotMatch": _KEYS,
}
_FULL = frozenset(
    {"InsufficientStorage", "QuotaExceeded", "XMinioAdminBucketQuotaExceeded", "XMinioStorageFull", "StorageFull"}
)
_ABSENT = frozenset({"NoSuchKey", "NotFound", "404"})
_BUSY = frozenset(
    {
        "ConditionalRequestConflict",
        "InternalError",
        "OperationAborted",
        "RequestLimitExceeded",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
        "TooManyRequestsException",
    }
)
_DAMAGED = frozenset({"BadDigest", "XAmzContentSHA256Mismatch"})
_BUSY_STATUS = frozenset({408, 429, 500, 502, 503, 504})


def refusal(what: str, which: str, store: str, *, code: str, status: int, message: str) -> StoreError:
    """The error for a request that the server refused.

    Args:
        what: what was tried, for the message.
        which: the object or listing, without credentials.
        store: the store's location, as an operator writes it.
        code: the `Code` of the answer's XML, or the SDK's stand-in for it.
        status: the HTTP status.
        message: the server's own words.
    """
    found = _words(code, status, message)
    if code == "NoSuchBucket":
        return missing_bucket(store)
    if code in _FULL or status == 507:
        return StoreFull(what, which=which, found=found, hint="raise the quota or free space on the S3 server")
    if code in _BUSY:
        return StoreUnavailable(what, which=which, found=found, hint="try again later")
    if code in _DENIED_HINTS or status in (401, 403):
        return StoreDenied(what, which=which, found=found, hint=_DENIED_HINTS.get(code, f"{_KEYS}; {_POLICY}"))
    if code in _ABSENT or status == 404:
        return ObjectNotFound("no such object", which=which)
    if code == "PreconditionFailed" or status == 412:
        return ObjectExists("a different object has this key", which=which)
    if status in _BUSY_STATUS:
        return StoreUnavailable(what, which=which, found=found, hint="try again later")
    if code in _DAMAGED:
        return StoreUnavailable(what, which=which, found=found, hint="the bytes were changed on their way")
    if status in (301, 307):
        return StoreError(what, which=which, found=found, hint="the bucket lies in another region: set AWS_REGION")
    return StoreError(what, which=which, found=found)


def missing_bucket(store: str) -> StoreMissing:
    """The error for a store whose bucket is not there."""
    return StoreMissing("the bucket does not exist", which=store, hint=f"holdfast init --repo {store} makes it")


def not_s3(what: str, which: str) -> StoreError:
    """The error for an answer that was given by something else: a web page, a proxy, a captive portal."""
    hint = "check that the endpoint is the S3 server itself, not a web page or a proxy in front of it"
    return StoreError(what, which=which, found="an answer that no S3 server gives", hint=hint)


def _words(code: str, status: int, message: str) -> str:
    name = f"HTTP {status}" if code in ("", str(status)) else f"HTTP {status} {code}"
    return f"{name} ({message.strip()})" if message.strip() and message.strip() != code else name
