"""One look of the monitor at everything, part by part: what was found, what was measured, what could not be seen.

Rules upheld here:
- A part that cannot be looked at keeps no other from being looked at: it is named, and its open findings stay.
- What labels promised is remembered, and goes on while the engine does not answer: a dead engine is no all-clear.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime
from typing import TYPE_CHECKING

from holdfast.config.fields import length, share
from holdfast.errors import HoldfastError
from holdfast.model.monitor import Finding, Sample, Trend
from holdfast.model.snapshot import CANARY
from holdfast.policy.freshness import Seen
from holdfast.policy.served import UNSERVED, Promise, judge_unserved, still_wanted
from holdfast.policy.space import judge_filesystem
from holdfast.policy.trends import TREND_DAYS, Series, trends
from holdfast.repository.repository import Repository
from holdfast.services.access import open_repository_at
from holdfast.services.history import recall, remember, series
from holdfast.services.known import Known
from holdfast.services.observe import all_wanted, observe_repository, unreachable
from holdfast.services.observe_host import observe_engine, observe_filesystems
from holdfast.services.observe_safety import observe_bucket, observe_keys, observe_wal
from holdfast.services.outcomes import failures, judge_failures
from holdfast.services.report import Filesystem
from holdfast.services.security import examine_secrets
from holdfast.services.stacks import access_of
from holdfast.services.volume_safety import is_of_volume

if TYPE_CHECKING:
    from holdfast.config.models import Config

_KEYS = "repository-keys"
_BYTES = "stack-bytes "
_USED = "filesystem-used-bytes "
_TOTAL = "filesystem-total-bytes "
_INODES = "filesystem-inodes-share "


class Look:
    """One look. `at_everything` fills it, `remember` keeps it."""

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
        self.trends: tuple[Trend, ...] = ()
        self._past: list[Sample] = []
        self._counted: dict[str, Series] = {}
        self.heads: tuple[str, ...] = ()
        self.verified: datetime | None = None
        self.repository = ""
        self.notes: list[str] = []
        self.unseen: set[str] = set()

    def at_everything(self) -> None:
        """Look at the engine, the filesystems, the repository and all that is in it."""
        labelled = any(promise.labelled for promise in self.promises.values())
        seen = observe_engine(self._config, labelled=labelled)
        findings, self.unseen = seen.findings, set(seen.unseen)
        if self._blind and seen.sizes:  # it came back in between: what labels protect would be told as unprotected
            findings = ()
            self.unseen.add("engine")
        if "engine" in self.unseen:
            self.unseen |= {finding.area for finding in self._known.findings if is_of_volume(finding)}
        self.findings += [*findings, *examine_secrets(self._config), *judge_failures(failures())]
        self.measures |= seen.sizes
        self.filesystems = observe_filesystems(self._config, seen.root)
        for filesystem in self.filesystems:
            self.measures[_USED + filesystem.path] = filesystem.used
            self.measures[_TOTAL + filesystem.path] = filesystem.total
            self.measures[_INODES + filesystem.path] = filesystem.inodes
        try:
            with open_repository_at(access_of(self._config)) as repository:
                self._at_repository(repository)
        except HoldfastError as error:
            self.findings.append(unreachable("store-refuses", "repository", error))
            self.unseen.add("repository")
        self._judge_space()

    def _at_repository(self, repository: Repository) -> None:
        observed = observe_repository(self._config, repository, self._time, self._wanted)
        self.findings += observed.findings
        self.stacks, self.heads, self.verified = observed.stacks, observed.heads, observed.verified
        self.repository, self._counted = repository.id, observed.counted
        self.measures |= {measure: counts[-1][1] for measure, counts in observed.counted.items()}
        for seen in observed.stacks:
            if seen.size is not None:
                self.measures[_BYTES + seen.stack] = float(seen.size)
        self.measures["store-bytes"] = float(sum(info.size for info in repository.store.list("")))
        self._past = past = recall(repository, self._host, now=self._time, days=TREND_DAYS)
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

    def _judge_space(self) -> None:
        measured = {name: [*series(self._past, name), (self._time, value)] for name, value in self.measures.items()}
        self.trends = trends(measured | self._counted, {_USED + each.path: each.total for each in self.filesystems})
        own = self._config.monitor
        for filesystem in self.filesystems:
            self.findings += judge_filesystem(
                filesystem.path,
                used=filesystem.used,
                total=filesystem.total,
                inodes=filesystem.inodes,
                warning=share(own.space_warning),
                critical=share(own.space_critical),
                full_within=length(own.full_within),
                points=measured[_USED + filesystem.path],
            )

    def remember(self, findings: tuple[Finding, ...]) -> None:
        """Keep what was seen in the bucket. That it cannot be kept is a note: the finding is there already."""
        sample = Sample(time=self._time, measures=self.measures, heads=self.heads, findings=findings)
        try:
            with open_repository_at(access_of(self._config)) as repository:
                remember(repository, self._host, sample)
        except HoldfastError as error:
            self.notes.append(f"the history was not written: {error}")
