"""Doctor's words for what a store does in its own way: listings that come late, and dialects of S3."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from holdfast.errors import HoldfastError
from holdfast.model.words import seconds
from holdfast.services.finding import Finding, failed
from holdfast.store.base import Store

if TYPE_CHECKING:
    from holdfast.store.s3_probe import Dialect

_AT_ONCE = 0.4


@runtime_checkable
class _Speaks(Protocol):
    """A store that is asked which dialect its server speaks."""

    def dialect(self, key: str) -> Dialect: ...


def listing_and_dialect(store: Store, late: float) -> Iterator[Finding]:
    """What is found; `late` is after how many seconds a listing showed what was written."""
    slow = late > _AT_ONCE
    yield Finding(
        check="listing",
        verdict="warn" if slow else "ok",
        found=f"shows what was written {f'only after {seconds(late)}' if slow else 'at once'}",
        hint="locks are not seen in time there: let one host at a time work on it, and never prune with --now"
        if slow
        else None,
    )
    if not isinstance(store, _Speaks):
        return
    key = f"holdfast/probe-{secrets.token_hex(8)}"
    try:
        dialect = store.dialect(key)
    except HoldfastError as error:
        yield failed("dialect", error)
        return
    finally:
        with suppress(HoldfastError):  # only litter of a few bytes
            store.delete(key)
    yield _conditions(dialect)
    yield _checksums(dialect)


def _conditions(dialect: Dialect) -> Finding:
    honoured = dialect.conditions == "honoured"
    return Finding(
        check="conditional writes",
        verdict="ok" if honoured else "warn",
        found=f"If-None-Match is {dialect.conditions}",
        hint=None
        if honoured
        else "Holdfast looks before it writes instead: enough unless two write at the same moment",
    )


def _checksums(dialect: Dialect) -> Finding:
    parts = [
        "refuses what arrived damaged" if dialect.refuses_damage else "takes what arrived damaged",
        "tells the MD5 of what it has" if dialect.tells_md5 else "does not tell the MD5 of what it has",
    ]
    noticed = dialect.refuses_damage or dialect.tells_md5
    return Finding(
        check="checksums",
        verdict="ok" if noticed else "warn",
        found=", ".join(parts),
        hint=None if noticed else "only sizes are compared at an upload: let holdfast verify --read-data run often",
    )
