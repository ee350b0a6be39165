"""What `holdfast restore --delta` does: bring a directory to a snapshot's state in place, and say what that took."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from holdfast.cli import text
from holdfast.cli.restored import SHOWN, end, folder_name
from holdfast.services.choosing import chosen_snapshots

if TYPE_CHECKING:
    from holdfast.cli.options import Access
    from holdfast.services.delta import DeltaReport


def restore_in_place(
    access: Access, what: str, source: str | None, target: str, *, dry_run: bool, anything: bool
) -> None:
    """Restore, and show what was done. Raises: as `services.delta.restore_delta`; CorruptObject for damage."""
    from holdfast.services.delta import restore_delta

    progress = text.Progress(quiet=access.json)
    reports = []
    with access.open() as repository:
        chosen = chosen_snapshots(repository.snapshots().snapshots, what, source)
        for snapshot in chosen:
            into = target if len(chosen) == 1 else os.path.join(target, folder_name(snapshot.source))
            report = restore_delta(
                repository,
                snapshot,
                into,
                dry_run=dry_run,
                anything=anything,
                on_progress=lambda done: progress.update(
                    f"{text.files(done.files)}, {text.size(done.bytes_kept)} kept, "
                    f"{text.size(done.bytes_fetched)} fetched"
                ),
            )
            progress.clear()
            reports.append(report)
            if not access.json:
                _show(report)
    end(access, reports)


def _show(report: DeltaReport) -> None:
    would = "would be " if report.dry_run else ""
    text.show(
        f"{report.source} ({report.snapshot[:8]}) in {report.target}: {text.files(report.files)}, {report.directories} "
        f"directories; {text.size(report.bytes_kept)} kept, {text.size(report.bytes_fetched)} {would}fetched, "
        f"{text.files(report.changed)} {would}written, {text.many(report.removed, 'entry')} {would}removed, "
        f"{report.settled} {would}given other metadata, in {text.seconds(report.seconds)}"
    )
    shown = (("", report.lines if report.dry_run else ()), ("lost: ", report.damaged), ("note: ", report.notes))
    for title, lines in shown:
        for line in lines[:SHOWN]:
            text.show(f"  {title}{line}")
        if len(lines) > SHOWN:
            text.show(f"  … and {len(lines) - SHOWN} more (--json shows more)")
