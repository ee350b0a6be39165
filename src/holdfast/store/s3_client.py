"""The edge to the AWS SDK: the client that a store works with, and what the SDK's exceptions mean.

Rules upheld here:
- No exception of the SDK gets past `translate`, and no credential gets into an error.
- Credentials come from the SDK's usual chain, unless they are given; they are never part of an address.
- The SDK's own retries are off (`store.retry` does it), and so are its checksum trailers, which several servers refuse.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore import exceptions as sdk
from botocore.config import Config
from botocore.loaders import Loader, create_loader
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from holdfast.errors import ConfigError, StoreDenied, StoreError, StoreUnavailable
from holdfast.store.s3_errors import not_s3, refusal

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Refused = sdk.ClientError
"""The server answered, and the answer is a refusal."""

FAILURES = (sdk.ClientError, sdk.BotoCoreError, ResponseParserError, HTTPError, OSError)
"""Whatever a call of the SDK, or reading a body, can raise."""

_NO_CREDENTIALS = (
    sdk.CredentialRetrievalError,
    sdk.LoginError,
    sdk.NoCredentialsError,
    sdk.PartialCredentialsError,
    sdk.SSOError,
    sdk.TokenRetrievalError,
)
_BROKEN = (sdk.ConnectionError, sdk.HTTPClientError, sdk.IncompleteReadError, HTTPError, OSError)

_CREDENTIALS_HINT = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile in AWS_PROFILE"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What signs requests where the usual chain is not to be asked: a key pair, or a profile of ~/.aws/config."""

    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    profile: str | None = None


USUAL_CHAIN = Credentials()


def make_client(
    bucket: str,
    *,
    endpoint: str | None,
    region: str | None,
    addressing: str,
    credentials: Credentials = USUAL_CHAIN,
    **settings: Any,
) -> S3Client:
    """A client for one bucket; `settings` go to the SDK's `Config` as they are. Raises: ConfigError, StoreDenied."""
    if endpoint is not None:
        _check_endpoint(endpoint)
    style: Any = {"addressing_style": addressing_style(addressing, endpoint, bucket)}
    config = Config(
        **settings,
        s3=style,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        retries={"total_max_attempts": 1, "mode": "standard"},
        tcp_keepalive=True,
        user_agent_extra="holdfast",
    )
    try:
        session = botocore.session.Session(profile=credentials.profile)
        session.register_component("data_loader", _descriptions())
        client = boto3.Session(botocore_session=session).client(
            "s3",
            region_name=region or session.get_config_variable("region") or "us-east-1",
            endpoint_url=endpoint,
            config=config,
            aws_access_key_id=credentials.access_key,
            aws_secret_access_key=credentials.secret_key,
            aws_session_token=credentials.session_token,
        )
    except _NO_CREDENTIALS as error:
        raise _no_credentials(error) from error
    except (sdk.BotoCoreError, ValueError) as error:
        raise _invalid_settings(str(error)) from None  # its text may hold an endpoint with credentials
    _check_endpoint(client.meta.endpoint_url)
    return client


@cache
def _descriptions() -> Loader:
    """The SDK's reader of its own description of S3, kept: it makes up two thirds of the time that a client takes."""
    return create_loader()


def is_amazon(endpoint: str) -> bool:
    """Whether the server is Amazon's own."""
    return (urlsplit(endpoint).hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn"))


def status_of(error: sdk.ClientError) -> int:
    """The HTTP status of a refusal."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def code_of(error: sdk.ClientError) -> str:
    """The error code of a refusal; after a HEAD it is the status."""
    return str(error.response.get("Error", {}).get("Code", ""))


def translate(what: str, which: str, store: str, error: Exception) -> StoreError:
    """The error of ours for one of `FAILURES`.

    Args:
        what: what was tried.
        which: the object or listing.
        store: the store's location, for messages about the whole of it.
        error: the SDK's exception.
    """
    if isinstance(error, sdk.ClientError):
        message = str(error.response.get("Error", {}).get("Message", ""))
        return refusal(what, which, store, code=code_of(error), status=status_of(error), message=message)
    if isinstance(error, _NO_CREDENTIALS):
        return _no_credentials(error)
    reason = _reason(error)
    if isinstance(error, sdk.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        hint = "name the file of the authority that signed it in AWS_CA_BUNDLE"
        return StoreError("the S3 server's certificate is not trusted", which=store, found=reason, hint=hint)
    if isinstance(error, _BROKEN):
        hint = "see whether the server runs and can be reached from here, and check the host and port"
        return StoreUnavailable(what, which=which, found=reason, hint=hint)
    if isinstance(error, ResponseParserError):
        return not_s3(what, which)
    return StoreError(what, which=which, found=reason)


def _no_credentials(error: Exception) -> StoreDenied:
    return StoreDenied("no credentials for S3 were found", found=_reason(error), hint=_CREDENTIALS_HINT)


def _invalid_settings(found: str) -> ConfigError:
    hint = "check the endpoint, AWS_ENDPOINT_URL, AWS_REGION and AWS_PROFILE"
    return ConfigError("the settings for S3 are not valid", found=None if "@" in found else found, hint=hint)


def _check_endpoint(endpoint: str) -> None:
    if "@" in endpoint:
        raise ConfigError("the S3 endpoint carries credentials", wanted="a plain URL", hint=_CREDENTIALS_HINT)
    try:
        parts = urlsplit(endpoint)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        valid = False
    if not valid:
        raise _invalid_settings(f"the endpoint {endpoint!r}")


def addressing_style(addressing: str, endpoint: str | None, bucket: str) -> str:
    """For the SDK "auto" means path style wherever an endpoint is given; Amazon's hosts want the other one."""
    return "virtual" if addressing == "auto" and endpoint and is_amazon(endpoint) and "." not in bucket else addressing


def _reason(error: BaseException) -> str:
    """The operating system's own words where it had any: the SDK wraps "Connection refused" four times."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        cause = cause.__cause__ or cause.__context__
    words = [e.strerror for e in reversed(seen) if isinstance(e, OSError) and e.strerror]
    return words[0] if words else str(error)
