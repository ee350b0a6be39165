"""What it takes to open a repository, from the command line, the environment or the configuration file.

Rules upheld here:
- Flags go before the environment, the environment before the file.
- Two answers to one question from one place are an error, and so is `HOLDFAST_REPOSITORY` against an explicit
  `--config` that names another repository: a backup does not silently go where nobody looks.
- The password and S3 options of a file belong to that file's repository. When another one is named they are not used,
  so that no key is sent to a server that it was not made for.
- The file is not even opened when flags or the environment say enough: a restore needs a URL and a password, nothing
  else. Neither pydantic nor yaml is imported here, unless a file has to be read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from holdfast.config.secret import Secret, read_secret_file, read_secret_variable
from holdfast.errors import ConfigError

if TYPE_CHECKING:
    from holdfast.config.models import Config

CONFIG = "HOLDFAST_CONFIG"
REPOSITORY = "HOLDFAST_REPOSITORY"
PASSWORD_FILE = "HOLDFAST_PASSWORD_FILE"  # noqa: S105 - a variable's name, not a password
PASSWORD = "HOLDFAST_PASSWORD"  # noqa: S105 - a variable's name, not a password

VARIABLES: Mapping[str, str] = {
    CONFIG: "The configuration file, as `--config` names it.",
    REPOSITORY: "The repository's URL, as `--repo` names it.",
    PASSWORD_FILE: "A file that holds the repository's password, as `--password-file` names it.",
    PASSWORD: "The repository's password itself; a file is safer, since a process's environment can be read.",
}
"""Every variable that Holdfast itself reads to find a repository, with its meaning."""

_PURPOSE = "the repository's password"


@dataclass(frozen=True, slots=True)
class S3Options:
    """How an S3 server is reached. What is None comes from the usual chain of the AWS SDK."""

    endpoint: str | None = None
    region: str | None = None
    addressing: Literal["auto", "path", "virtual"] = "auto"
    access_key: Secret | None = field(default=None, repr=False)
    secret_key: Secret | None = field(default=None, repr=False)
    session_token: Secret | None = field(default=None, repr=False)
    profile: str | None = None


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """How hard the store may be used: bytes per second each way, None for no limit; requests at the same time."""

    upload: int | None = None
    download: int | None = None
    connections: int = 4


@dataclass(frozen=True, slots=True)
class RepositoryAccess:
    """What it takes to open a repository."""

    url: str
    password: Secret = field(repr=False)
    s3: S3Options = S3Options()
    limits: StoreLimits = StoreLimits()


def from_environment(
    *, repo: str | None = None, password_file: str | None = None, env: Mapping[str, str] = os.environ
) -> RepositoryAccess:
    """Access by flags and environment alone. Raises: ConfigError when they do not say enough, or too much."""
    url, password = _url(repo, env), _password(password_file, env)
    if url is None:
        raise _no_repository()
    if password is None:
        raise _no_password()
    return RepositoryAccess(url, password)


def resolve_access(
    *,
    repo: str | None = None,
    password_file: str | None = None,
    config: str | Config | None = None,
    env: Mapping[str, str] = os.environ,
) -> RepositoryAccess:
    """Access by flags, environment and configuration file, in this order.

    Args:
        repo: what `--repo` says.
        password_file: what `--password-file` says.
        config: what `--config` says, or a configuration that is loaded already, which counts as named by a flag.
        env: the environment; `HOLDFAST_CONFIG` stands for a missing `config`.

    Raises: ConfigError, and InvalidConfig when the file is needed and wrong.
    """
    url, password = _url(repo, env), _password(password_file, env)
    explicit = config is not None and repo is None
    config = config if config is not None else find_config(env=env)
    if config is None or (url is not None and password is not None and not explicit):
        return from_environment(repo=repo, password_file=password_file, env=env)
    loaded = _loaded(config)
    own = loaded.repository
    if url is None or url == own.url:
        options = own.s3.options() if own.s3 else S3Options()
        return RepositoryAccess(own.url, password or own.password(env), options, own.store_limits())
    if explicit:
        raise _two_repositories()
    if password is None:
        raise _no_password(found="only the one of the configuration file, which belongs to another repository")
    return RepositoryAccess(url, password)


def find_config(config: str | None = None, *, env: Mapping[str, str] = os.environ) -> str | None:
    """The configuration file that is meant: `--config`, then `HOLDFAST_CONFIG`, then none."""
    return config or env.get(CONFIG) or None


def no_config() -> ConfigError:
    """The error for a command that needs a configuration, where none is named."""
    return ConfigError(
        "no configuration is named",
        wanted=f"--config FILE or {CONFIG}",
        hint="holdfast config sample > holdfast.yaml writes a commented one",
    )


def _loaded(config: str | Config) -> Config:
    if not isinstance(config, str):
        return config
    from holdfast.config.loading import load  # pydantic and yaml: only where a file has to be read

    return load(config)


def _url(repo: str | None, env: Mapping[str, str]) -> str | None:
    if repo == "":
        raise ConfigError("--repo is empty", wanted="a repository's URL")
    return repo or env.get(REPOSITORY) or None


def _password(password_file: str | None, env: Mapping[str, str]) -> Secret | None:
    if password_file is not None:
        return read_secret_file(password_file, _PURPOSE)
    if env.get(PASSWORD) and env.get(PASSWORD_FILE):
        raise ConfigError(
            "two passwords in the environment",
            wanted=f"{PASSWORD_FILE} or {PASSWORD}",
            found="both",
            hint=f"unset {PASSWORD}",
        )
    if env.get(PASSWORD_FILE):
        return read_secret_file(env[PASSWORD_FILE], _PURPOSE)
    return read_secret_variable(PASSWORD, _PURPOSE, env) if env.get(PASSWORD) else None


def _no_repository() -> ConfigError:
    return ConfigError(
        "no repository is named",
        wanted=f"--repo, {REPOSITORY}, --config or {CONFIG}",
        found="none of them",
        hint="holdfast list --repo s3:https://host/bucket/prefix --password-file FILE",
    )


def _no_password(found: str = "none of them") -> ConfigError:
    wanted = f"--password-file, {PASSWORD_FILE} or {PASSWORD}"
    hint = "add --password-file FILE"
    return ConfigError("no password for the repository is named", wanted=wanted, found=found, hint=hint)


def _two_repositories() -> ConfigError:
    return ConfigError(
        "two repositories are named",
        wanted="one",
        found=f"{REPOSITORY} and the repository of --config, which is another",
        hint=f"unset {REPOSITORY}, or choose with --repo",
    )
