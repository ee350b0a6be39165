"""From a repository's URL to its store. URLs are spelled as restic spells them, plus two spellings that others use.

Rules upheld here:
- `parse_url` is pure and tells local from S3; `open_store` builds the store. Neither touches the network or the disk.
- A URL that carries credentials is refused, and no message repeats any part of a URL that could hold them.
- What is neither a path nor a known spelling is refused: a mistyped scheme must not become a directory's name.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Literal, TypeAlias
from urllib.parse import unquote, urlsplit

from holdfast.errors import ConfigError
from holdfast.store.base import Store, check_key
from holdfast.store.retry import Retry

Addressing: TypeAlias = Literal["auto", "path", "virtual"]

ACCEPTED = "/path, local:path, file:///path, s3:https://host/bucket/prefix, s3:host/bucket/prefix or s3://bucket/prefix"
_HINT = f"write {ACCEPTED}"

_FOREIGN = frozenset({"azure", "b2", "ftp", "gs", "http", "https", "memory", "rclone", "rest", "sftp", "ssh", "swift"})

# Amazon's own hosts name their region: s3.eu-central-1.amazonaws.com, s3-eu-west-1.amazonaws.com, s3.dualstack.….
_AMAZON_REGION = re.compile(r"s3[.-](?:dualstack\.|fips\.)*((?!dualstack|fips)[a-z]+(?:-[a-z]+)+-\d+)\.amazonaws\.com")


@dataclass(frozen=True, slots=True)
class LocalUrl:
    """A directory, by its absolute path."""

    path: str


@dataclass(frozen=True, slots=True)
class S3Url:
    """A bucket, the prefix inside it ("" for none), and what the URL says about the server, if it does."""

    bucket: str
    prefix: str
    endpoint: str | None = None
    region: str | None = None


def open_store(
    url: str,
    *,
    endpoint: str | None = None,
    region: str | None = None,
    addressing: Addressing = "auto",
    access_key: str | None = None,
    secret_key: str | None = None,
    session_token: str | None = None,
    profile: str | None = None,
    connections: int = 16,
    retry: Retry | None = None,
) -> Store:
    """The store that a URL means.

    Args:
        url: where the repository is; see `ACCEPTED`.
        endpoint: the S3 server of an `s3://bucket/prefix` URL; without it the SDK's usual places are asked
            (AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, the profile), then it is Amazon. A host in the URL goes before it.
        region: the bucket's region; the SDK's usual places, then us-east-1, when it is not given.
        addressing: bucket in the path, or in the host's name; "auto" knows that Amazon wants the latter.
        access_key: with `secret_key`, and `session_token` for temporary ones: credentials instead of the usual chain.
        secret_key: see `access_key`.
        session_token: see `access_key`.
        profile: a profile of ~/.aws/config instead of the usual chain.
        connections: how many threads will use an S3 store at once.
        retry: how often and how patiently transient failures of S3 are tried again.

    Raises: ConfigError; StoreDenied when no credentials for S3 can be found.
    """
    place = parse_url(url)
    if isinstance(place, LocalUrl):
        from holdfast.store.directory import DirectoryStore

        return DirectoryStore(place.path)
    from holdfast.store.s3 import S3Store  # the SDK takes a quarter of a second: only where S3 is used
    from holdfast.store.s3_client import Credentials

    return S3Store(
        place.bucket,
        place.prefix,
        endpoint=place.endpoint or endpoint,
        region=region or place.region,
        addressing=addressing,
        credentials=Credentials(access_key, secret_key, session_token, profile),
        connections=connections,
        retry=retry or Retry(),
    )


def parse_url(url: str) -> LocalUrl | S3Url:
    """What a URL means. A relative path is taken from the working directory. Raises: ConfigError."""
    if not url.strip() or "\0" in url:
        raise ConfigError("the repository's URL is empty or not text", hint=_HINT)
    if url.startswith(("/", "./", "../", "~/")) or ":" not in url:
        return _local(url)
    scheme, _, rest = url.partition(":")
    match scheme.lower():
        case "local":
            return _local(rest)
        case "file":
            return _file(rest)
        case "s3":
            return _s3(rest)
        case _:
            raise _unknown(scheme)


def _local(path: str) -> LocalUrl:
    if not path:
        raise ConfigError("the repository's URL names no directory", wanted="a path", hint=_HINT)
    return LocalUrl(os.path.abspath(os.path.expanduser(path)))


def _file(rest: str) -> LocalUrl:
    for start in ("//localhost/", "///"):
        if rest.startswith(start):
            return _local("/" + unquote(rest.removeprefix(start)))
    raise ConfigError("a file: URL of a repository names no local path", wanted="file:///path", hint=_HINT)


def _s3(rest: str) -> S3Url:
    _refuse_secrets(rest)
    if rest.startswith("//"):
        bucket, _, prefix = rest.removeprefix("//").partition("/")
        return _bucket(bucket, prefix)
    address = rest if re.match(r"https?://", rest, re.IGNORECASE) else f"https://{rest}"
    scheme, _, remainder = address.partition("://")
    host, _, path = remainder.partition("/")
    bucket, _, prefix = path.partition("/")
    region = _AMAZON_REGION.match(host)
    return _bucket(bucket, prefix, f"{scheme.lower()}://{_host(host)}", region.group(1) if region else None)


def _bucket(bucket: str, prefix: str, endpoint: str | None = None, region: str | None = None) -> S3Url:
    prefix = prefix.strip("/")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{2,62}", bucket):
        wanted = "3 to 63 letters, digits, dots and dashes"
        found = repr(bucket) if re.fullmatch(r"[\w.-]*", bucket) else None
        raise ConfigError("an s3: URL names no valid bucket", wanted=wanted, found=found, hint=_HINT)
    try:
        return S3Url(bucket, check_key(prefix) if prefix else "", endpoint, region)
    except ValueError as error:
        what = "an s3: URL has a prefix with an empty, . or .. part"
        raise ConfigError(what, found=repr(prefix), hint=_HINT) from error


def _host(host: str) -> str:
    try:
        parts = urlsplit(f"//{host}")
        valid = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if not valid or re.search(r"[\s\\]", host):
        raise ConfigError("an s3: URL names no valid host", wanted="host or host:port", hint=_HINT)
    return host


def _refuse_secrets(rest: str) -> None:
    """Credentials before an @, or in a query: both are refused before any part of the URL reaches a message."""
    address = re.sub(r"^(https?:)?//", "", rest, flags=re.IGNORECASE)
    before_path, before_at = address.partition("/")[0], address.rpartition("@")[0]
    # A secret key may hold a slash, and then its @ is not in the first part; an @ in a prefix has no colon before it.
    secret = "@" in before_path or ":" in re.sub(r"^[^/:]+:\d+/", "", before_at)
    if secret or "?" in rest or "#" in rest:
        raise ConfigError(
            "an s3: URL carries more than host, bucket and prefix (user information, a query or a fragment)",
            wanted="a URL without credentials",
            hint="give credentials by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or by a profile (AWS_PROFILE)",
        )


def _unknown(scheme: str) -> ConfigError:
    # Only words that are surely schemes are repeated: what stands before a colon may as well be half of a credential.
    found = f"the scheme {scheme}:" if scheme.lower() in _FOREIGN else None
    what = "not a repository URL that Holdfast knows"
    if scheme.lower() in ("http", "https"):
        return ConfigError(what, wanted=ACCEPTED, found=found, hint="for S3, put s3: before it: s3:https://host/bucket")
    hint = "a directory whose name has a colon is written local:NAME"
    return ConfigError(what, wanted=ACCEPTED, found=found, hint=hint)
