"""What every way of restoring into a directory says at its end: what was restored, what was lost, and the exit code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from holdfast.cli import text
from holdfast.errors import CorruptObject

if TYPE_CHECKING:
    from holdfast.cli.options import Access
    from holdfast.services.delta import DeltaReport
    from holdfast.services.restore import RestoreReport

SHOWN = 50
"""How many lines of one kind a terminal gets."""


def end(access: Access, reports: Sequence[RestoreReport | DeltaReport]) -> None:
    """Show what was done as JSON where that was asked for. Raises: CorruptObject when something was lost."""
    if access.json:
        text.show_json(reports)
    damaged = [line for report in reports for line in report.damaged]
    if damaged:
        raise CorruptObject(
            f"{text.many(len(damaged), 'entry')} could not be restored, everything else was",
            which=reports[0].target,
            found=damaged[0],
            hint="an older snapshot may have them whole: holdfast list",
        )


def show_report(report: RestoreReport) -> None:
    """What was restored, for people."""
    text.show(
        f"restored {report.source} ({report.snapshot[:8]}) to {report.target}: {text.files(report.files)}, "
        f"{text.size(report.bytes)} in {text.seconds(report.seconds)}"
    )
    for title, lines in (("lost", report.damaged), ("note", report.notes)):
        for line in lines[:SHOWN]:
            text.show(f"  {title}: {line}")
        if len(lines) > SHOWN:
            text.show(f"  {title}: … and {len(lines) - SHOWN} more (--json shows all)")


def folder_name(source: str) -> str:
    """A directory name for a source: `volume:app-data` → `volume-app-data`."""
    return "".join(char if char.isalnum() or char in "-_." else "-" for char in source).strip("-.") or "source"
