"""What `holdfast wal` shows to people: what a server needs, what was shipped, how an archive stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.cli import text
from holdfast.policy.wal_server import lag_words

if TYPE_CHECKING:
    from holdfast.model.wal_state import Disk, Replica
    from holdfast.services.shipping import ShipReport
    from holdfast.services.wal import WalSource
    from holdfast.services.wal_setup import SetupReport
    from holdfast.services.wal_status import BaseStatus, WalStatus


def show_setup(report: SetupReport) -> None:
    """What a server needs, and what was changed."""
    text.show(f"{report.source} of {report.stack}: cluster {report.system}, spool {report.spool}")
    for need in report.requirements:
        state = (
            "ok" if need.met else "advice" if need.advice else "restart" if need.name in report.restart else "MISSING"
        )
        text.show(f"  {state:<8} {need.name}: {need.found or 'empty'}{'' if need.met else f'; wanted {need.wanted}'}")
        if not need.met and need.why:
            text.show(f"           {need.why}")
        if not need.met and not need.advice:
            for statement in need.sql:
                text.show(f"           {statement};")
        if not need.met and need.by_hand:
            text.show(f"           {need.by_hand}")
    for name in report.changed:
        text.show(f"  changed  {name}")


def show_shipped(source: WalSource, report: ShipReport) -> None:
    """What was shipped, and what was not."""
    rate = f", {text.size(report.bytes / report.seconds)}/s" if report.bytes and report.seconds else ""
    amount = f"{text.size(report.bytes)}, {text.size(report.stored)} stored in {text.seconds(report.seconds)}{rate}"
    counts = f"{text.files(report.shipped)} shipped, {report.known} were archived already, {report.left} left"
    text.show(f"{source.spec.label}: {counts}; {amount}")
    for line in report.failed[:10]:
        text.show(f"  not shipped: {line}")


def show_status(status: WalStatus) -> None:
    """Server, archive, what could be recovered, findings."""
    text.show(f"{status.source} of {status.stack}: cluster {status.system or 'unknown'}")
    text.show(f"  server at      {status.server_lsn or 'unknown'} on timeline {status.server_timeline or 'unknown'}")
    exposure = status.exposure
    text.show(f"  archived to    {exposure.archived_to or 'nothing that leads on from a base backup'}")
    if exposure.lost_bytes is not None:
        age = "unknown" if exposure.lost_seconds is None else text.seconds(exposure.lost_seconds)
        text.show(f"  at risk now    {text.size(exposure.lost_bytes)} of WAL, {age} since the last archived commit")
    text.show(f"  in the spool   {text.files(status.spool_files)}, {text.size(status.spool_bytes)}")
    text.show(f"  server's disk  {_disk_words(status.disk)}")
    for replica in status.replicas:
        text.show(f"  replica        {_replica_words(replica)}")
    if status.standby is not None:
        how = "streaming" if status.standby.streaming else "not connected to its primary"
        text.show(f"  standby        {lag_words(status.standby.bytes, status.standby.seconds)} behind, {how}")
    for timeline in status.timelines:
        stretches = "; ".join(timeline.stretches) or "none"
        text.show(f"  timeline {timeline.timeline:<5} {text.many(timeline.segments, 'segment')}: {stretches}")
        for gap in timeline.gaps:
            text.show(f"                 missing: {gap}")
    for base in status.bases:
        text.show(f"  base backup    {base.point}: {_verdict(base)}")
    for finding in status.findings:
        text.show(f"  {'FINDING' if finding.critical else 'finding'}        {finding.name}: {finding.text}")
        if finding.hint:
            text.show(f"                 hint: {finding.hint}")


def _verdict(base: BaseStatus) -> str:
    if base.lost:
        return "lost: it is incremental, and one that it builds on is gone"
    if not base.recoverable:
        return "waits for WAL: its own is not whole, it cannot be recovered yet"
    how = f"incremental, on {base.builds_on} below it; " if base.builds_on else ""
    return f"{how}recoverable from {base.range}"


def _disk_words(disk: Disk) -> str:
    if disk.free is None or disk.total is None:
        words = [f"unknown: {disk.unknown or 'the server does not answer'}"]
    else:
        words = [f"{text.size(disk.free)} of {text.size(disk.total)} free"]
    if disk.pg_wal is not None:
        rate = "" if disk.rate is None else f", {text.size(disk.rate)}/s lately"
        words.append(f"pg_wal {text.size(disk.pg_wal)}{rate}")
    if disk.held_by:
        full = "" if disk.full_in is None else f", full in {text.seconds(disk.full_in)}"
        words.append(f"{disk.held_by} holds {text.size(disk.held_bytes)} back{full}")
    return "; ".join(words)


def _replica_words(replica: Replica) -> str:
    parts = (
        ("sent", replica.sent_bytes, None),
        ("flushed", replica.flush_bytes, replica.flush_seconds),
        ("replayed", replica.replay_bytes, replica.replay_seconds),
    )
    lags = [f"{what} {lag_words(behind, age)}" for what, behind, age in parts if behind is not None]
    behind = f", behind: {', '.join(lags)}" if lags else ""
    return f"{replica.name} ({replica.client}), {replica.state}{behind}"
