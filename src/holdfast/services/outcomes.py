"""How the last run of a job ended, remembered on this host, so that the monitor tells of one that failed.

Rules upheld here:
- Only failures are kept; the next run of the same job that succeeds takes its failure away.
- A run that came to its end and left something out has not succeeded: its problem is remembered like a failure.
- It needs neither the store nor a server: a run that failed because of them is remembered all the same.
- That it cannot be remembered fails nothing.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import msgspec

from holdfast.config.place import state_folder
from holdfast.errors import HoldfastError
from holdfast.model.monitor import Finding, Severity

log = logging.getLogger(__name__)

Job = Literal["backup", "retention", "prune"]


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """One job that failed, and has not succeeded since."""

    job: Job
    subject: str
    time: datetime
    found: str
    hint: str = ""


@dataclass(slots=True)
class Ending:
    """How a job ends that raises nothing: with `problem` it counts as failed."""

    problem: HoldfastError | None = None


@contextmanager
def outcome(job: Job, subject: str) -> Iterator[Ending]:
    """Remember how the block ends. What it raises goes on."""
    ending = Ending()
    try:
        yield ending
    except Exception as error:
        _keep(_failure(job, subject, error))
        raise
    if ending.problem is not None:
        _keep(_failure(job, subject, ending.problem))
    else:
        _drop(job, subject)


def _failure(job: Job, subject: str, error: Exception) -> Failure:
    hint = (error.hint or "") if isinstance(error, HoldfastError) else ""
    found = str(error) or type(error).__name__
    return Failure(job=job, subject=subject, time=datetime.now(UTC), found=found, hint=hint)


def failures() -> list[Failure]:
    """The jobs of this host whose last run failed."""
    found = []
    try:
        names = sorted(os.listdir(_folder()))
    except FileNotFoundError:
        return []
    for name in names:
        try:
            with open(os.path.join(_folder(), name), "rb") as file:
                found.append(msgspec.json.decode(file.read(), type=Failure))
        except (OSError, msgspec.DecodeError) as error:
            log.warning("what is remembered of a failed job cannot be read: %s: %s", name, error)
    return found


def judge_failures(found: list[Failure]) -> Iterator[Finding]:
    """A finding for each."""
    for failure in found:
        yield Finding(
            kind=f"{failure.job}-failed",
            subject=failure.subject,
            severity=Severity.WARNING,
            found=f"the run that ended {failure.time:%Y-%m-%d %H:%M} UTC: {failure.found}",
            wanted="a run that succeeds",
            hint=failure.hint or "holdfast doctor",
            area="host",
        )


def _keep(failure: Failure) -> None:
    path = _path(failure.job, failure.subject)
    try:
        os.makedirs(_folder(), mode=0o700, exist_ok=True)
        with open(f"{path}.part", "wb") as file:
            file.write(msgspec.json.encode(failure))
        os.replace(f"{path}.part", path)
    except OSError as error:
        log.warning("that the %s of %s failed is not remembered: %s", failure.job, failure.subject, error)


def _drop(job: Job, subject: str) -> None:
    try:
        os.unlink(_path(job, subject))
    except FileNotFoundError:
        return
    except OSError as error:
        log.warning("that the %s of %s succeeded is not remembered: %s", job, subject, error)


def _folder() -> str:
    return os.path.join(state_folder(), "failed")


def _path(job: Job, subject: str) -> str:
    return os.path.join(_folder(), f"{job}-{hashlib.sha256(subject.encode()).hexdigest()[:16]}")
