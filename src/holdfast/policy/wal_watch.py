"""From what is wrong with a WAL archive to what the monitor tells: one finding per trouble and source. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from holdfast.model.monitor import Finding, Severity
from holdfast.model.wal_state import Finding as WalFinding
from holdfast.model.wal_state import Name
from holdfast.model.words import seconds, size
from holdfast.policy.wal_findings import Exposure


def judge_wal(subject: str, troubles: Sequence[WalFinding], exposure: Exposure, *, behind: float) -> Iterator[Finding]:
    """The findings about one source's WAL; `behind` in seconds is what may be lost.

    How far the archive is behind is judged here, by the stack's own limit, and not by that of `holdfast wal run`.
    """
    for trouble in troubles:
        if trouble.name is not Name.BEHIND:
            severity = Severity.CRITICAL if trouble.critical else Severity.WARNING
            yield Finding(
                kind=f"wal-{trouble.name}", subject=subject, severity=severity, found=trouble.text, hint=trouble.hint
            )
    lost = exposure.lost_seconds
    if exposure.lost_bytes and lost is not None and lost > behind:
        yield Finding(
            kind="wal-behind",
            subject=subject,
            severity=Severity.CRITICAL,
            found=f"a disaster now would cost the last {seconds(lost)} ({size(exposure.lost_bytes)})",
            wanted=f"at most {seconds(behind)}",
            hint="is `holdfast wal run` at work, and the store reachable? holdfast wal status",
        )
