"""What the configuration says of the repository, and of the Docker Engine."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from holdfast.config.access import RepositoryAccess, S3Options, StoreLimits
from holdfast.config.base import Model, at_most_one, exactly_one
from holdfast.config.fields import (
    EndpointUrl,
    EngineUrl,
    ProfileName,
    Rate,
    RegionName,
    RepositoryUrl,
    SecretFile,
    SecretVariable,
    TimeText,
    length,
    rate_bytes,
)
from holdfast.config.secret import Secret, read_secret_file, read_secret_variable
from holdfast.config.spelling import Commented, Words, wrong

STORED_AS_IS = 0
AUTO_LEVEL = 2
"""As small as level 3 within a percent on mixed data, in two thirds of the time."""


class S3(Model):
    """How the S3 server of `repository.url` is reached."""

    endpoint: Annotated[EndpointUrl | None, Commented()] = Field(
        default=None,
        description="The S3 server of a URL that names none (`s3://bucket/prefix`). Without it AWS_ENDPOINT_URL_S3, "
        "AWS_ENDPOINT_URL and the profile are asked, then it is Amazon.",
        examples=["https://s3.example.com"],
    )
    region: RegionName | None = Field(
        default=None,
        description="The bucket's region. Without it AWS_REGION and the profile are asked, then it is us-east-1.",
        examples=["eu-central-1"],
    )
    addressing: Literal["auto", "path", "virtual"] = Field(
        default="auto",
        description="Where requests name the bucket: in the path, or as a virtual host. `auto` knows that Amazon wants "
        "a virtual host and that other servers understand the path.",
    )
    access_key_file: SecretFile | None = Field(
        default=None,
        description="A file that holds the access key's id. Without it the usual chain is asked: AWS_ACCESS_KEY_ID, "
        "the profile, the machine's role.",
        examples=["/run/secrets/s3-access-key"],
    )
    secret_key_file: SecretFile | None = Field(
        default=None,
        description="A file that holds the secret access key; it goes with `access_key_file`.",
        examples=["/run/secrets/s3-secret-key"],
    )
    session_token_file: Annotated[SecretFile | None, Commented()] = Field(
        default=None,
        description="A file that holds the session token of temporary credentials.",
        examples=["/run/secrets/s3-session-token"],
    )
    profile: Annotated[ProfileName | None, Commented()] = Field(
        default=None,
        description="A profile of `~/.aws/config`, instead of key files.",
        examples=["backup"],
    )

    @classmethod
    def contradictions(cls, given: Mapping[str, Any]) -> Iterator[PydanticCustomError]:
        """Keys come in pairs, and from one place."""
        keys = "access_key_file", "secret_key_file"
        if sum(name in given for name in keys) == 1:
            found = next(name for name in keys if name in given)
            yield wrong("half of a pair", wanted=f"both of {' and '.join(keys)}", found=f"{found} alone")
        elif "session_token_file" in given and keys[0] not in given:
            yield wrong("half of a pair", wanted=f"session_token_file with {' and '.join(keys)}", found="it alone")
        yield from at_most_one(given, "profile", keys[0])

    def options(self) -> S3Options:
        """The same with the key files read. Raises: ConfigError."""

        def read(path: str | None, purpose: str) -> Secret | None:
            return read_secret_file(path, purpose) if path else None

        return S3Options(
            endpoint=self.endpoint,
            region=self.region,
            addressing=self.addressing,
            access_key=read(self.access_key_file, "the S3 access key"),
            secret_key=read(self.secret_key_file, "the S3 secret key"),
            session_token=read(self.session_token_file, "the S3 session token"),
            profile=self.profile,
        )


def _level_or_word(value: object) -> str:
    return "word" if isinstance(value, str) else "level"


Compression = Annotated[
    Annotated[Literal["auto", "off"], Tag("word")] | Annotated[int, Field(strict=True, ge=1, le=19), Tag("level")],
    Discriminator(_level_or_word),
    Words("`auto`, `off`, or a level of zstd from 1 to 19"),
]


class Limits(Model):
    """How hard the store is used."""

    upload: Rate | None = Field(
        default=None,
        description="Bytes per second that are written to the store at most.",
        examples=["20MiB/s"],
    )
    download: Rate | None = Field(
        default=None,
        description="Bytes per second that are read from the store at most.",
        examples=["50MiB/s"],
    )
    connections: Annotated[int, Field(strict=True, ge=1, le=64), Words("a whole number, 1 to 64")] = Field(
        default=4,
        description="Requests to the store at the same time. More of them hide the latency of a distant server, and "
        "take 16 MiB of memory for every second one.",
    )

    def values(self) -> StoreLimits:
        """The same in bytes per second."""
        return StoreLimits(
            upload=rate_bytes(self.upload) if self.upload else None,
            download=rate_bytes(self.download) if self.download else None,
            connections=self.connections,
        )


class Prune(Model):
    """How data goes that no snapshot refers to any more."""

    grace: TimeText = Field(
        default="1d",
        description="How long such data stays after it was found. So long `holdfast forget --undo` brings back what "
        "was forgotten, and a run that was broken off finds what it uploaded. The first prune after it deletes.",
        examples=["1d", "12h", "7d"],
    )


class Repository(Model):
    """Where the backups are kept: a restic repository of format version 2."""

    url: RepositoryUrl = Field(
        description="Where the repository is, as restic spells it (`/path`, `s3:https://host/bucket/prefix`), or as "
        "`file:///path` or `s3://bucket/prefix`. It carries no credentials.",
        examples=["s3:https://s3.example.com/backups/host-1", "/srv/backup"],
    )
    password_file: SecretFile | None = Field(
        default=None,
        description="A file that holds the repository's password. White space around it does not count, as for restic. "
        "Without the password nobody can restore: keep a copy of it elsewhere.",
        examples=["/run/secrets/holdfast-password"],
    )
    password_env: Annotated[SecretVariable | None, Commented()] = Field(
        default=None,
        description="The environment variable that holds the password, instead of `password_file`.",
        examples=["BACKUP_PASSWORD"],
    )
    s3: S3 | None = Field(default=None, description="How the S3 server is reached; only for an S3 URL.")
    compression: Compression = Field(
        default="auto",
        description="How hard data is compressed. `auto` is level 2, and what does not shrink is stored as it is at "
        "any level; `off` stores everything as it is.",
        examples=["auto", "off", 9],
    )
    limits: Limits | None = Field(default=None, description="How hard the store is used.")
    prune: Prune | None = Field(default=None, description="How data goes that no snapshot refers to any more.")

    @classmethod
    def contradictions(cls, given: Mapping[str, Any]) -> Iterator[PydanticCustomError]:
        """One password; S3 options only for S3, and an endpoint only where the URL leaves it open."""
        yield from exactly_one(given, "password_file", "password_env")
        url, s3 = given.get("url"), given.get("s3")
        if s3 is None or not isinstance(url, str):
            return
        if not url.lower().startswith("s3:"):
            yield wrong("S3 options without S3", wanted="an s3: URL, or no s3 key", found="a local repository")
        elif isinstance(s3, Mapping) and s3.get("endpoint") and not url.lower().startswith("s3://"):
            hint = "remove s3.endpoint, or write the URL as s3://bucket/prefix"
            yield wrong("two S3 servers", wanted="one", found="one in url, one in s3.endpoint", hint=hint)

    @property
    def level(self) -> int:
        """The compression level as the repository's writer takes it."""
        levels = {"auto": AUTO_LEVEL, "off": STORED_AS_IS}
        return levels[self.compression] if isinstance(self.compression, str) else self.compression

    def access(self, env: Mapping[str, str] = os.environ) -> RepositoryAccess:
        """What it takes to open it: reads the secrets that are named. Raises: ConfigError."""
        return RepositoryAccess(
            self.url, self.password(env), self.s3.options() if self.s3 else S3Options(), self.store_limits()
        )

    @property
    def grace_hours(self) -> float:
        """How long unused data stays after it was marked."""
        return length((self.prune or Prune()).grace) / 3600

    def store_limits(self) -> StoreLimits:
        """How hard the store may be used."""
        return self.limits.values() if self.limits else StoreLimits()

    def password(self, env: Mapping[str, str] = os.environ) -> Secret:
        """The repository's password. Raises: ConfigError."""
        purpose = "the repository's password"
        if self.password_env:
            return read_secret_variable(self.password_env, purpose, env)
        return read_secret_file(self.password_file or "", purpose)


class Engine(Model):
    """The Docker Engine whose volumes and containers are backed up."""

    url: EngineUrl | None = Field(
        default=None,
        description="Where it listens. Without it DOCKER_HOST is asked, then it is `unix:///var/run/docker.sock`.",
        examples=["unix:///var/run/docker.sock"],
    )
