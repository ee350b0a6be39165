"""Repository URLs: every accepted spelling, every refused one, and no secret in any message."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from holdfast.errors import ConfigError
from holdfast.store import open_store, parse_url
from holdfast.store.directory import DirectoryStore
from holdfast.store.url import LocalUrl, S3Url


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("/srv/backup", "/srv/backup"),
        ("/srv/backup/", "/srv/backup"),
        ("/srv/with:colon", "/srv/with:colon"),
        ("local:/srv/backup", "/srv/backup"),
        ("local:with:colon", f"{os.getcwd()}/with:colon"),
        ("relative/dir", f"{os.getcwd()}/relative/dir"),
        ("./with:colon", f"{os.getcwd()}/with:colon"),
        ("~/backup", os.path.expanduser("~/backup")),
        ("file:///srv/backup", "/srv/backup"),
        ("file:///srv/with%20space", "/srv/with space"),
        ("file://localhost/srv", "/srv"),
    ],
)
def test_local_spellings(url: str, path: str) -> None:
    assert parse_url(url) == LocalUrl(path)


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("s3:https://s3.example.org/bucket", S3Url("bucket", "", "https://s3.example.org")),
        ("s3:https://s3.example.org/bucket/", S3Url("bucket", "", "https://s3.example.org")),
        ("s3:https://s3.example.org/bucket/a/b/", S3Url("bucket", "a/b", "https://s3.example.org")),
        ("s3:s3.example.org/bucket/a", S3Url("bucket", "a", "https://s3.example.org")),
        ("s3:s3.example.org:9000/bucket/a", S3Url("bucket", "a", "https://s3.example.org:9000")),
        ("s3:http://127.0.0.1:9000/bucket", S3Url("bucket", "", "http://127.0.0.1:9000")),
        ("s3:http://[::1]:9000/bucket", S3Url("bucket", "", "http://[::1]:9000")),
        ("s3:HTTP://host/bucket", S3Url("bucket", "", "http://host")),
        ("s3:s3.example.org/bucket/user@host", S3Url("bucket", "user@host", "https://s3.example.org")),
        ("s3://bucket", S3Url("bucket", "")),
        ("s3://bucket/a/b", S3Url("bucket", "a/b")),
        ("s3:s3.amazonaws.com/bucket", S3Url("bucket", "", "https://s3.amazonaws.com")),
        (
            "s3:s3.eu-central-1.amazonaws.com/bucket",
            S3Url("bucket", "", "https://s3.eu-central-1.amazonaws.com", "eu-central-1"),
        ),
        (
            "s3:https://s3.dualstack.us-gov-west-1.amazonaws.com/bucket",
            S3Url("bucket", "", "https://s3.dualstack.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        ),
    ],
)
def test_s3_spellings(url: str, wanted: S3Url) -> None:
    assert parse_url(url) == wanted


@pytest.mark.parametrize(
    "url",
    [
        "",
        "   ",
        "local:",
        "file://otherhost/srv",
        "file:srv",
        "s3:",
        "s3://",
        "s3:https://host",
        "s3:https://host/",
        "s3:https:///bucket",
        "s3:host:port/bucket",
        "s3://Bad_Bucket!/x",
        "s3://ab",
        "s3://bucket/a//b",
        "s3://bucket/../b",
        "sftp:user@host:/srv",
        "rest:https://host/",
        "https://host/bucket",
        "memory:test",
        "typo3://bucket",
        "backup:2026",
        "/srv\0/x",
    ],
)
def test_everything_else_is_refused_with_a_hint(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_url(url)
    assert caught.value.hint


def test_the_accepted_spellings_are_named() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_url("sftp:host:/srv")
    for spelling in ("/path", "local:", "file:///path", "s3:https://host/bucket/prefix", "s3://bucket/prefix"):
        assert spelling in str(caught.value)
    assert "the scheme sftp:" in str(caught.value)


def test_a_web_address_gets_the_hint_to_put_s3_before_it() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_url("https://host/bucket")
    assert "s3:https://" in str(caught.value.hint)


@pytest.mark.parametrize(
    "url",
    [
        "s3:https://AKIAKEY:hunter2@host/bucket",
        "s3:https://AKIAKEY:hun/ter2hunter2@host/bucket",
        "s3:AKIAKEY:hunter2@host/bucket",
        "s3:http://hunter2@host:9000/bucket",
        "s3://AKIAKEY:hunter2@bucket/prefix",
        "s3://hunter2@bucket/prefix",
        "s3://AKIAKEY:hunter2/prefix",
        "s3:host:hunter2/bucket",
        "s3:https://host/bucket?secret=hunter2",
        "s3:https://host/bucket#hunter2",
        "s3://bucket?secret_key=hunter2",
        "hunter2:hunter2@host/bucket",
        "rest:https://user:hunter2@host/",
        "https://user:hunter2@host/bucket",
    ],
)
def test_credentials_are_refused_and_never_repeated(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_url(url)
    assert "hunter2" not in repr(caught.value.as_dict())
    assert "hunter2" not in repr(caught.value.__cause__)


def test_a_path_becomes_a_directory_store(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    assert isinstance(store, DirectoryStore)
    assert store.location == str(tmp_path)


def test_s3_urls_become_s3_stores_whose_location_is_a_url_again(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    for url in ("s3:https://s3.example.org/bucket/a/b", "s3:http://127.0.0.1:9000/bucket"):
        assert open_store(url).location == url
        assert open_store(url, endpoint="https://ignored.example.org").location == url
    asked = open_store("s3://bucket/a", endpoint="https://s3.example.org")
    assert asked.location == "s3:https://s3.example.org/bucket/a"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9001")
    assert open_store("s3://bucket/a").location == "s3:http://127.0.0.1:9001/bucket/a"
    assert open_store("s3:https://s3.example.org/bucket").location == "s3:https://s3.example.org/bucket"
