"""The monitor: look, judge, remember, tell. One run of it; something else runs it every few minutes.

Rules upheld here:
- It never fails a backup, and does not fail itself because of what it finds, or because somebody cannot be told.
- A finding is told once when it starts and once when it ends; the host remembers which are open, the bucket keeps
  the history, so that both a lost host and a lost bucket leave one of the two.
- What labels promised is remembered, and goes on while the engine does not answer: a dead engine is no all-clear.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from holdfast.config.fields import length, share
from holdfast.config.place import state_folder
from holdfast.errors import ConfigError, HoldfastError
from holdfast.model.monitor import Finding, Sample, Severity
from holdfast.policy.cadence import next_moment
from holdfast.policy.freshness import Seen, carried, started_and_ended, with_since
from holdfast.policy.served import UNSERVED, Promise, judge_unserved, still_wanted
from holdfast.policy.space import judge_filesystem
from holdfast.repository.repository import Repository
from holdfast.services.access import open_repository_at
from holdfast.services.history import recall, remember, series
from holdfast.services.notify import Notice, deliver, notices, ping, settled
from holdfast.services.observe import (
    CANARY,
    Filesystem,
    all_wanted,
    observe_engine,
    observe_filesystems,
    observe_repository,
    unreachable,
)
from holdfast.services.observe_safety import observe_bucket, observe_keys, observe_wal
from holdfast.services.outcomes import failures, judge_failures
from holdfast.services.security import examine_secrets
from holdfast.services.stacks import access_of

if TYPE_CHECKING:
    from holdfast.config.models import Config

log = logging.getLogger(__name__)

TREND_DAYS = 14
_KEYS = "repository-keys"
_BYTES = "stack-bytes "


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What a host's monitor knows from its last run: open findings, and notices that nobody took yet.

    `promises` are of the stacks that were served when the engine answered last.
    """

    time: datetime | None = None
    findings: tuple[Finding, ...] = ()
    waiting: tuple[Notice, ...] = ()
    promises: dict[str, Promise] = {}


class StackView(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of a stack, and when its next backup and drill are due."""

    seen: Seen
    next_backup: datetime | None
    next_drill: datetime | None


class MonitorReport(msgspec.Struct, frozen=True, kw_only=True):
    """One run of the monitor. `untold` are channels that did not take their notices; `notes` what else went wrong."""

    host: str
    time: datetime
    findings: tuple[Finding, ...]
    started: tuple[Finding, ...]
    ended: tuple[Finding, ...]
    stacks: tuple[StackView, ...]
    filesystems: tuple[Filesystem, ...]
    measures: dict[str, float]
    untold: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def worst(self) -> Severity | None:
        """The severity of the worst finding."""
        return max((finding.severity for finding in self.findings), key=lambda s: s.rank, default=None)


def watch(
    config: Config,
    host: str,
    *,
    now: Callable[[], datetime],
    sleep: Callable[[float], None] | None = None,
    labelled: Collection[str] | None = (),
) -> MonitorReport:
    """Look at everything once, tell what changed, remember it. Raises: nothing of Holdfast's own.

    `labelled` are those of the configuration's stacks that only labels enable; None where the engine did not answer:
    then what labels enabled before is watched as before.
    """
    time = now()
    path = os.path.join(state_folder(), "monitor.json")
    known = _load(path)
    looked = _Look(config, host, time, now, known, labelled)
    looked.at_everything()
    findings = with_since(known.findings, carried(known.findings, looked.findings, looked.unseen), time)
    looked.remember(findings)
    started, ended = started_and_ended(known.findings, findings)
    waiting = settled([*known.waiting, *notices(config.notify, started, ended)])
    left, untold = deliver(config, host, waiting, **({"sleep": sleep} if sleep else {}))
    _save(path, Known(time=time, findings=findings, waiting=tuple(left), promises=looked.promises), looked.notes)
    report = MonitorReport(
        host=host,
        time=time,
        findings=findings,
        started=tuple(started),
        ended=tuple(ended),
        stacks=tuple(_view(config, seen, time) for seen in looked.stacks),
        filesystems=tuple(looked.filesystems),
        measures=looked.measures,
        untold=tuple(untold),
        notes=tuple(looked.notes),
    )
    _export(config, report)
    return report


class _Look:
    """One look at everything, part by part."""

    def __init__(
        self,
        config: Config,
        host: str,
        time: datetime,
        now: Callable[[], datetime],
        known: Known,
        labelled: Collection[str] | None,
    ) -> None:
        self._config, self._host, self._time, self._now, self._known = config, host, time, now, known
        self._wanted = all_wanted(config, time)
        self._blind = labelled is None
        if labelled is None:
            self._wanted = still_wanted(self._wanted, known.promises)
            self.promises = known.promises
        else:
            self.promises = {n: Promise(wanted=w, labelled=n in labelled) for n, w in self._wanted.items()}
        self.findings: list[Finding] = []
        self.measures: dict[str, float] = {}
        self.stacks: tuple[Seen, ...] = ()
        self.filesystems: list[Filesystem] = []
        self.heads: tuple[str, ...] = ()
        self.notes: list[str] = []
        self.unseen: set[str] = set()

    def at_everything(self) -> None:
        labelled = any(promise.labelled for promise in self.promises.values())
        findings, sizes, root = observe_engine(self._config, labelled=labelled)
        if self._blind and sizes:  # it came back in between: what labels protect would be told as unprotected
            findings = []
            self.unseen.add("engine")
        self.findings += [*findings, *examine_secrets(self._config), *judge_failures(failures())]
        if any(finding.kind == "engine-unreachable" for finding in findings):
            self.unseen.add("engine")
        self.measures |= sizes
        self.filesystems = observe_filesystems(self._config, root)
        for filesystem in self.filesystems:
            self.measures[f"filesystem-used-bytes {filesystem.path}"] = filesystem.used
        try:
            with open_repository_at(access_of(self._config)) as repository:
                self._at_repository(repository)
        except HoldfastError as error:
            self.findings.append(unreachable("store-refuses", "repository", error))
            self.unseen.add("repository")
            self._judge_space([])

    def _at_repository(self, repository: Repository) -> None:
        observed = observe_repository(self._config, repository, self._time, self._wanted)
        self.findings += observed.findings
        self.stacks, self.heads = observed.stacks, observed.heads
        for seen in observed.stacks:
            if seen.size is not None:
                self.measures[_BYTES + seen.stack] = float(seen.size)
        self.measures["store-bytes"] = float(sum(info.size for info in repository.store.list("")))
        past = recall(repository, self._host, now=self._time, days=TREND_DAYS)
        self._judge_space(past)
        self.findings += judge_unserved(self._once_served(past), self._wanted, observed.origins, self._host)
        self.findings += [
            *observe_bucket(self._config, now=self._now),
            *observe_wal(self._config, repository, self._time, self.measures),
        ]
        found, keys = observe_keys(repository, max((value for _, value in series(past, _KEYS)), default=0))
        self.findings += found
        self.measures[_KEYS] = float(keys)

    def _once_served(self, past: list[Sample]) -> set[str]:
        """Stacks that were served here: in the last run, by the history, or by the finding that they are not."""
        seen = {name.removeprefix(_BYTES) for s in past for name in s.measures if name.startswith(_BYTES)}
        told = {finding.subject for finding in self._known.findings if finding.kind == UNSERVED}
        return (seen | told | set(self._known.promises)) - {CANARY}

    def _judge_space(self, past: list[Sample]) -> None:
        own = self._config.monitor
        for filesystem in self.filesystems:
            measure = f"filesystem-used-bytes {filesystem.path}"
            self.findings += judge_filesystem(
                filesystem.path,
                used=filesystem.used,
                total=filesystem.total,
                inodes=filesystem.inodes,
                warning=share(own.space_warning),
                critical=share(own.space_critical),
                full_within=length(own.full_within),
                points=[*series(past, measure), (self._time, filesystem.used)],
            )

    def remember(self, findings: tuple[Finding, ...]) -> None:
        """Keep what was seen in the bucket. That it cannot be kept is a note: the finding is there already."""
        sample = Sample(time=self._time, measures=self.measures, heads=self.heads, findings=findings)
        try:
            with open_repository_at(access_of(self._config)) as repository:
                remember(repository, self._host, sample)
        except HoldfastError as error:
            self.notes.append(f"the history was not written: {error}")


def _view(config: Config, seen: Seen, now: datetime) -> StackView:
    stack = config.stacks.get(seen.stack)
    own = config.canary if seen.stack == CANARY else None  # a stack that is only remembered has no schedule here
    backup, drill = (stack.schedule, stack.drill) if stack else (own, own)
    return StackView(
        seen=seen,
        next_backup=next_moment(backup.cron, backup.timezone, now) if backup else None,
        next_drill=next_moment(drill.cron, drill.timezone, now) if drill else None,
    )


def _export(config: Config, report: MonitorReport) -> None:
    """Metrics and the dead man's switch. What goes wrong is in the log."""
    from holdfast.services.metrics import write_textfile

    for path in filter(None, (config.monitor.textfile, os.path.join(state_folder(), "holdfast.prom"))):
        try:
            write_textfile(report, path)
        except OSError as error:
            log.warning("the metrics were not written to %s: %s", path, error.strerror)
    try:
        secret = config.monitor.ping()
    except ConfigError as error:
        log.warning("%s", error)
        return
    if secret is not None:
        lines = "\n".join(map(str, report.findings)) or "no findings"
        problem = ping(secret.reveal(), bad=report.worst is Severity.CRITICAL, body=lines)
        if problem:
            log.warning("%s", problem)


def _load(path: str) -> Known:
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(), type=Known)
    except FileNotFoundError:
        return Known()
    except (OSError, msgspec.DecodeError) as error:
        log.warning("what the monitor knew is lost, open findings are told again: %s: %s", path, error)
        return Known()


def _save(path: str, known: Known, notes: list[str]) -> None:
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(f"{path}.part", "wb") as file:
            file.write(msgspec.json.encode(known))
            file.flush()
            os.fsync(file.fileno())
        os.replace(f"{path}.part", path)
    except OSError as error:
        notes.append(f"open findings will be told again, {path} cannot be written: {error.strerror}")
