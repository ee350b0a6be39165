"""The task of a verification."""

from __future__ import annotations

import time

from prefect import get_run_logger

from holdfast.errors import VerificationFailed
from holdfast.repository.check_trees import Checked
from holdfast.services.verify import VerifyReport, verify
from tasks.artifacts import seconds, show_table, size
from tasks.common import Ticker, configuration, explained, repository_of, step


@step("verify the repository", "verify, reading back {percent}%")
def verify_repository(config: str, percent: float) -> VerifyReport:
    """Check the structure, and read back a share of the data."""
    log = get_run_logger()
    ticker = Ticker(log)

    def tell(done: Checked) -> None:
        ticker.tell(lambda: f"{done.packs_read} packs read, {size(done.bytes_read)}, {done.trees} trees")

    with explained():
        started = time.monotonic()
        with repository_of(configuration(config)) as repository:
            report = verify(repository, read_share=percent / 100, on_progress=tell)
            location = repository.location
        log.info("verified in %s", seconds(time.monotonic() - started))
        _show(report, location)
        if not report.ok:
            raise VerificationFailed(
                f"{len(report.problems)} problems found",
                which=location,
                found=report.problems[0],
                hint="holdfast verify --read-data names every file that is affected; back up again now",
            )
        return report


def _show(report: VerifyReport, location: str) -> None:
    rows = [
        {"what": "snapshots", "found": f"{report.snapshots:,}"},
        {"what": "trees", "found": f"{report.trees:,}"},
        {"what": "blobs", "found": f"{report.blobs:,}"},
        {"what": "packs read back", "found": f"{report.packs_read:,} of {report.packs:,}, {size(report.bytes_read)}"},
        {"what": "problems", "found": f"{len(report.problems):,}"},
        *({"what": "problem", "found": line} for line in report.problems[:50]),
        *({"what": "lost", "found": line} for line in report.affected[:50]),
    ]
    verdict = "No damage found" if report.ok else "DAMAGED"
    show_table("verify", "repository", rows, f"{verdict}: {location}, in {seconds(report.seconds)}.")
