"""Tasks of the WAL archive: ship what waits, look at everything."""

from __future__ import annotations

from datetime import UTC, datetime

from prefect import get_run_logger

from holdfast.services.shipping import Shipper, ShipReport
from holdfast.services.wal import archive_of, ask_cluster, wal_sources
from holdfast.services.wal_status import WalStatus, wal_status
from tasks.artifacts import seconds, show_table, size
from tasks.common import configuration, explained, repository_of, step


@step("ship WAL", "ship WAL of {stack}")
def ship_wal(config: str, stack: str) -> int:
    """Ship once what waits in the spools of a stack; how many files were new. A conflict fails the task."""
    with explained():
        loaded = configuration(config)
        shipped = 0
        with repository_of(loaded) as repository:
            for source in wal_sources(loaded, [stack]):
                system = source.spool.owner() or ask_cluster(loaded, source).system
                archive = archive_of(repository, system)
                report: ShipReport = Shipper(archive, source.spool, receiving=source.receiving).ship()
                for line in report.failed:
                    get_run_logger().warning("%s: not shipped: %s", source.spec.label, line)
                if report.error is not None:
                    raise report.error
                shipped += report.shipped
        return shipped


@step("look at the WAL archive", "look at the WAL of {stack}")
def look_at_wal(config: str, stack: str) -> list[WalStatus]:
    """What is archived, what a disaster now would cost, and what is wrong, as a table."""
    with explained():
        loaded = configuration(config)
        with repository_of(loaded) as repository:
            found = [
                wal_status(loaded, repository, source, now=datetime.now(UTC)) for source in wal_sources(loaded, [stack])
            ]
        rows = [_row(status) for status in found]
        critical = sum(finding.critical for status in found for finding in status.findings)
        show_table("wal", stack, rows, f"{stack}: {critical or 'no'} findings endanger recovery.")
        for status in found:
            for finding in status.findings:
                get_run_logger().warning("%s: %s: %s", status.source, finding.name, finding.text)
        return found


def _row(status: WalStatus) -> dict[str, str]:
    exposure = status.exposure
    lost = "unknown" if exposure.lost_bytes is None else size(exposure.lost_bytes)
    age = "unknown" if exposure.lost_seconds is None else seconds(exposure.lost_seconds)
    return {
        "source": status.source,
        "server at": status.server_lsn or "unknown",
        "archived to": exposure.archived_to or "nothing",
        "at risk now": f"{lost}, {age}",
        "findings": "; ".join(finding.name for finding in status.findings) or "none",
    }
