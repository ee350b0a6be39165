"""The options that every subcommand takes, and what they lead to: an open repository, a loaded configuration."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

from holdfast.config.access import RepositoryAccess, find_config, no_config, resolve_access

if TYPE_CHECKING:
    from holdfast.config.models import Config
    from holdfast.repository.repository import Repository

F = TypeVar("F", bound=Callable[..., Any])


class Access:
    """What the common options say."""

    def __init__(self, config: str | None, repo: str | None, password_file: str | None, *, json: bool) -> None:
        self.json = json
        self._config, self._repo, self._password_file = config, repo, password_file

    def resolve(self) -> RepositoryAccess:
        """How to reach the repository. Raises: ConfigError."""
        return resolve_access(repo=self._repo, password_file=self._password_file, config=self._config)

    def open(self, *, beside: bool = False) -> Repository:
        """The repository; `beside` as in `services.access`. Raises: ConfigError, and what opening it raises."""
        from holdfast.services.access import open_repository_at

        return open_repository_at(self.resolve(), beside=beside)

    def init(self) -> Repository:
        """A new repository. Raises: ConfigError, RepositoryExists, the store's errors."""
        from holdfast.services.access import init_repository_at

        return init_repository_at(self.resolve())

    @property
    def config_path(self) -> str | None:
        """The configuration file that is meant, if any."""
        return find_config(self._config)

    def config_or_default(self) -> Config:
        """The configuration; where none is named, the one of defaults: stacks are then found, not declared."""
        from holdfast.config.models import Config

        return self.config() if self.config_path is not None else Config.without_file(self._repo or "")

    def stacks(self, names: Sequence[str] = ()) -> tuple[Config, list[str]]:
        """The configuration with every stack that can be found, and the stacks that are meant.

        These are the named ones, else those of the configuration and those that labels enable. Raises: ConfigError.
        """
        from holdfast.services.discovery import chosen_stacks

        return chosen_stacks(self.config_or_default(), names, command=click.get_current_context().command_path)

    def config(self) -> Config:
        """The configuration. Raises: ConfigError when none is named, InvalidConfig when it is wrong."""
        from holdfast.config.loading import load

        path = self.config_path
        if path is None:
            raise no_config()
        return load(path)


def repository_options(function: F) -> F:
    """Adds --config, --repo, --password-file, --json and --verbose; the command gets an `Access`."""

    @click.option("--config", metavar="FILE", help="Configuration file. [env: HOLDFAST_CONFIG]")
    @click.option(
        "-r", "--repo", metavar="URL", help="Repository: /path, s3:https://host/bucket. [env: HOLDFAST_REPOSITORY]"
    )
    @click.option("-p", "--password-file", metavar="FILE", help="File with its password. [env: HOLDFAST_PASSWORD_FILE]")
    @click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
    @click.option("-v", "--verbose", is_flag=True, help="Say more on the way.")
    @wraps(function)
    def wrapper(
        config: str | None,
        repo: str | None,
        password_file: str | None,
        as_json: bool,
        verbose: bool,
        **arguments: Any,
    ) -> Any:
        if verbose:
            logging.getLogger("holdfast").setLevel(logging.INFO)
        return function(Access(config, repo, password_file, json=as_json), **arguments)

    return wrapper  # type: ignore[return-value]  # click has replaced the parameters
