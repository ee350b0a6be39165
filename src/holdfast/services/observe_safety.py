"""What the monitor sees of the repository's keys, of its bucket, of WAL archives, of jobs that failed. It only looks.

Rules upheld here:
- A part that cannot be asked is a finding or a note of its own, and the others are looked at all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from holdfast.config.fields import length
from holdfast.config.monitor import Thresholds
from holdfast.errors import HoldfastError
from holdfast.model.monitor import Finding, Severity
from holdfast.policy.safety import judge_bucket, judge_keys
from holdfast.policy.wal_watch import judge_wal
from holdfast.repository.keys import count_keys
from holdfast.repository.repository import Repository
from holdfast.services.access import store_at
from holdfast.services.stacks import access_of
from holdfast.store.url import S3Url, parse_url

if TYPE_CHECKING:
    from holdfast.config.models import Config
    from holdfast.services.wal_status import WalStatus


def wal_measures(subject: str, status: WalStatus) -> dict[str, float]:
    """The numbers of one source's WAL by name, bytes and seconds; those that are not known are left out."""
    disk = status.disk
    found: dict[str, float | None] = {
        f"wal-lost-bytes {subject}": status.exposure.lost_bytes,
        f"wal-lost-seconds {subject}": status.exposure.lost_seconds,
        f"wal-disk-free-bytes {subject}": disk.free,
        f"wal-disk-total-bytes {subject}": disk.total,
        f"wal-disk-full-seconds {subject}": disk.full_in,
        f"wal-held-bytes {subject}": float(disk.held_bytes) if disk.pg_wal is not None else None,
        f"wal-bytes-per-second {subject}": disk.rate,
    }
    for replica in status.replicas:
        name = f"{subject} {replica.name} {replica.client}"
        found[f"replica-behind-bytes {name}"], found[f"replica-behind-seconds {name}"] = replica.behind
    if status.standby is not None:
        found[f"standby-behind-bytes {subject}"] = status.standby.bytes
        found[f"standby-behind-seconds {subject}"] = status.standby.seconds
    return {name: float(value) for name, value in found.items() if value is not None}


def observe_keys(repository: Repository, before: float) -> tuple[list[Finding], int]:
    """The findings about the keys, and how many can be read; `before` is the most that were seen lately."""
    readable, total = count_keys(repository.store)
    return list(judge_keys(readable, total, int(before))), readable


def observe_bucket(config: Config, *, now: Callable[[], datetime]) -> list[Finding]:
    """The findings about the bucket; none where the repository is a directory. Raises: the store's errors."""
    if not isinstance(parse_url(config.repository.url), S3Url):
        return []
    from holdfast.store.s3 import S3Store

    store = store_at(access_of(config), limited=False)
    assert isinstance(store, S3Store)  # noqa: S101  it is an S3 URL, and not throttled
    try:
        return list(judge_bucket(store.examine(now=now)))
    finally:
        store.close()


def observe_wal(config: Config, repository: Repository, now: datetime, measures: dict[str, float]) -> Iterator[Finding]:
    """The findings about every source whose WAL is archived; its numbers go into `measures`."""
    from holdfast.services.wal import wal_sources
    from holdfast.services.wal_status import wal_status

    for name, stack in config.stacks.items():
        if not any(server.wal is not None and server.method == "base" for server in stack.postgres):
            continue
        for source in wal_sources(config, [name]):
            subject = f"{name} {source.spec.name}"
            try:
                status = wal_status(config, repository, source, now=now)
            except HoldfastError as error:
                yield Finding(
                    kind="wal-not-seen",
                    subject=subject,
                    severity=Severity.CRITICAL,
                    found=str(error),
                    hint=error.hint or "holdfast wal status",
                )
                continue
            measures |= wal_measures(subject, status)
            behind = length((stack.monitor or Thresholds()).wal_behind)
            yield from judge_wal(subject, status.findings, status.exposure, behind=behind)
