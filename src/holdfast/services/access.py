"""From what names a repository to the open repository."""

from __future__ import annotations

from holdfast.config.access import RepositoryAccess
from holdfast.repository.repository import Repository, init, open_repository
from holdfast.store.base import Store
from holdfast.store.url import open_store


def store_at(access: RepositoryAccess) -> Store:
    """The store of a repository. Raises: ConfigError, StoreDenied when no credentials can be found."""
    s3 = access.s3
    return open_store(
        access.url,
        endpoint=s3.endpoint,
        region=s3.region,
        addressing=s3.addressing,
        access_key=s3.access_key.reveal() if s3.access_key else None,
        secret_key=s3.secret_key.reveal() if s3.secret_key else None,
        session_token=s3.session_token.reveal() if s3.session_token else None,
        profile=s3.profile,
    )


def open_repository_at(access: RepositoryAccess) -> Repository:
    """Open a repository; use it as a context manager, so that its store is closed.

    Raises: RepositoryNotFound, WrongPassword, CorruptObject, ConfigError, and the store's errors.
    """
    return open_repository(store_at(access), access.password.reveal())


def init_repository_at(access: RepositoryAccess) -> Repository:
    """Make a new repository. Raises: RepositoryExists, ConfigError, and the store's errors."""
    return init(store_at(access), access.password.reveal())
