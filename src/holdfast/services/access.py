"""From what names a repository to the open repository."""

from __future__ import annotations

from holdfast.config.access import RepositoryAccess
from holdfast.repository.cache import CachedStore, cache_folder
from holdfast.repository.repository import Opened, Repository, begin_opening, init, opened_with
from holdfast.store.base import Store
from holdfast.store.throttle import ThrottledStore
from holdfast.store.url import S3Url, open_store, parse_url


def store_at(access: RepositoryAccess, *, limited: bool = True) -> Store:
    """The store of a repository, held to the configured rates where `limited`.

    Raises: ConfigError, StoreDenied when no credentials can be found.
    """
    s3 = access.s3
    store = open_store(
        access.url,
        endpoint=s3.endpoint,
        region=s3.region,
        addressing=s3.addressing,
        access_key=s3.access_key.reveal() if s3.access_key else None,
        secret_key=s3.secret_key.reveal() if s3.secret_key else None,
        session_token=s3.session_token.reveal() if s3.session_token else None,
        profile=s3.profile,
        connections=4 * access.limits.connections,
    )
    if limited and (access.limits.upload or access.limits.download):
        return ThrottledStore(store, upload=access.limits.upload, download=access.limits.download)
    return store


def open_repository_at(access: RepositoryAccess, *, beside: bool = False) -> Repository:
    """Open a repository; use it as a context manager, so that its store is closed.

    With `beside` it is opened beside what the caller does meanwhile: what is wrong with it is raised when it is needed.

    Raises: RepositoryNotFound, WrongPassword, CorruptObject, ConfigError, and the store's errors.
    """
    store = store_at(access)

    def opened() -> Opened:
        found = opened_with(store, access.password.reveal())
        if isinstance(parse_url(access.url), S3Url):
            return found._replace(store=CachedStore(store, cache_folder(found.id)))
        return found

    repository = begin_opening(store.location, opened) if beside else Repository(store.location, opened())
    repository.connections = access.limits.connections
    return repository


def init_repository_at(access: RepositoryAccess) -> Repository:
    """Make a new repository. Raises: RepositoryExists, ConfigError, and the store's errors."""
    return init(store_at(access), access.password.reveal())
