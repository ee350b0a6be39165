"""The monitor: look, judge, remember, tell. One run of it; something else runs it every few minutes.

Rules upheld here:
- It never fails a backup, and does not fail itself because of what it finds, or because somebody cannot be told.
- A finding is told once when it starts and once when it ends; the host remembers which are open, the bucket keeps
  the history, so that both a lost host and a lost bucket leave one of the two.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection
from datetime import datetime
from typing import TYPE_CHECKING

from holdfast.config.place import state_folder
from holdfast.errors import ConfigError
from holdfast.model.monitor import Severity
from holdfast.model.snapshot import CANARY
from holdfast.policy.accepted import without_accepted
from holdfast.policy.cadence import next_moment
from holdfast.policy.freshness import Seen, carried, started_and_ended, with_since
from holdfast.services.known import Known, load_known, save_known
from holdfast.services.look import Look
from holdfast.services.notify import deliver, notices, ping, settled
from holdfast.services.report import MonitorReport, StackView, keep_report

if TYPE_CHECKING:
    from holdfast.config.models import Config

log = logging.getLogger(__name__)


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
    known = load_known()
    looked = Look(config, host, time, now, known, labelled)
    looked.at_everything()
    open_ones = carried(known.findings, looked.findings, looked.unseen)
    accepted = [(each.kind, each.about) for each in config.monitor.accept]
    findings = with_since(known.findings, without_accepted(open_ones, accepted), time)
    looked.remember(findings)
    started, ended = started_and_ended(known.findings, findings)
    waiting = settled([*known.waiting, *notices(config.notify, started, ended)])
    left, untold = deliver(config, host, waiting, **({"sleep": sleep} if sleep else {}))
    kept = save_known(Known(time=time, findings=findings, waiting=tuple(left), promises=looked.promises))
    report = MonitorReport(
        host=host,
        time=time,
        findings=findings,
        started=tuple(started),
        ended=tuple(ended),
        stacks=tuple(_view(config, seen, time) for seen in looked.stacks),
        filesystems=tuple(looked.filesystems),
        measures=looked.measures,
        trends=looked.trends,
        repository=looked.repository,
        verified=looked.verified,
        untold=tuple(untold),
        notes=(*looked.notes, *([kept] if kept else [])),
    )
    _export(config, report)
    return report


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
    """The report itself, metrics, the dead man's switch. What goes wrong is in the log."""
    from holdfast.services.metrics import write_textfile

    keep_report(report)
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
