"""The monitor's memory, in the repository's bucket so that it survives the host: one sealed object per host and day.

Rules upheld here:
- One host's monitor writes only its own objects, one run after the other; the last write of a day holds the whole day.
- What cannot be read is left out: a history with a hole is still a history, and the hole is told in the log.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from holdfast.errors import HoldfastError, ObjectNotFound
from holdfast.model.monitor import Sample
from holdfast.repository.objects import Folder, open_object, seal_object
from holdfast.repository.repository import Repository

log = logging.getLogger(__name__)


class Day(msgspec.Struct, frozen=True, kw_only=True):
    """The samples of one host on one day (UTC), in order of time."""

    host: str
    samples: tuple[Sample, ...]


def remember(repository: Repository, host: str, sample: Sample) -> None:
    """Add a sample to its day. Raises: the store's errors."""
    key = _key(host, sample.time)
    day = _load(repository, key) or Day(host=host, samples=())
    document = Day(host=host, samples=(*day.samples, sample))
    repository.store.put(key, seal_object(repository.key, msgspec.json.encode(document)))


def recall(repository: Repository, host: str, *, now: datetime, days: int) -> list[Sample]:
    """The samples of a host of the last so many days, oldest first. Raises: the store's errors."""
    found: list[Sample] = []
    for back in range(days, -1, -1):
        day = _load(repository, _key(host, now - timedelta(days=back)))
        found.extend(day.samples if day else ())
    return [sample for sample in found if sample.time <= now]


def witnesses(repository: Repository, *, newest: int = 3) -> dict[str, str]:
    """Proofs that monitors saw as the newest ones, by digest, and where that is written.

    Only each host's newest days are read: a proof that was once the newest is named by later proofs afterwards.
    """
    days: dict[str, list[str]] = {}
    for info in repository.store.list(Folder.MONITOR):
        host, _, _ = info.key.rpartition("/")[2].rpartition("_")
        days.setdefault(host, []).append(info.key)
    found: dict[str, str] = {}
    for keys in days.values():
        for key in sorted(keys)[-newest:]:
            day = _load(repository, key)
            found |= {digest: key for sample in (day.samples if day else ()) for digest in sample.heads}
    return found


def series(samples: Sequence[Sample], measure: str) -> list[tuple[datetime, float]]:
    """One measure over time."""
    return [(sample.time, sample.measures[measure]) for sample in samples if measure in sample.measures]


def _key(host: str, when: datetime) -> str:
    safe = re.sub(r"[^A-Za-z0-9.-]", "-", host).strip(".") or "host"
    return f"{Folder.MONITOR}/{safe}_{when:%Y%m%d}"


def _load(repository: Repository, key: str) -> Day | None:
    try:
        return msgspec.json.decode(open_object(repository.key, repository.store.get(key), key), type=Day)
    except ObjectNotFound:
        return None
    except (HoldfastError, msgspec.DecodeError) as error:
        log.warning("the monitor's history has a hole: %s: %s", key, error)
        return None
