"""`holdfast verify`: the stored bytes are what was written."""

from __future__ import annotations

import click

from holdfast.cli import text
from holdfast.cli.options import Access, repository_options
from holdfast.errors import VerificationFailed
from holdfast.services.verify import VerifyReport, verify

_SHOWN = 50


class _Share(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    name = "PERCENT"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            share = float(str(value).rstrip("%")) / 100
        except ValueError:
            share = -1.0
        if not 0 < share <= 1:
            self.fail(f"{value!r} is not a share between 0% and 100%", param, ctx)
        return share


@click.command()
@repository_options
@click.option(
    "--read-data",
    type=_Share(),
    is_flag=False,
    flag_value="100%",
    metavar="[PERCENT]",
    help="Read packs back and check every blob in them: all, or a random share such as 5%.",
)
def command(access: Access, read_data: float | None) -> None:
    """Check the repository: structure always, data with --read-data. Damage is traced to the files that it costs."""
    progress = text.Progress(quiet=access.json)
    with access.open() as repository:
        report = verify(
            repository,
            read_share=read_data or 0.0,
            on_progress=lambda done: progress.update(
                f"{text.many(done.packs_read, 'pack')} read, {text.size(done.bytes_read)}, "
                f"{text.many(done.trees, 'tree')}"
            ),
        )
        progress.clear()
        location = repository.location
    if access.json:
        text.show_json(report)
    else:
        _show(report)
    if not report.ok:
        raise VerificationFailed(
            f"{len(report.problems)} problems found",
            which=location,
            found=f"{text.files(len(report.affected))} affected",
            hint="what is not named is whole; back up again now: files still at their source are stored anew",
        )


def _show(report: VerifyReport) -> None:
    for title, lines in (("problem", report.problems), ("lost", report.affected), ("notice", report.notices)):
        for line in lines[:_SHOWN]:
            text.show(f"{title}: {line}")
        if len(lines) > _SHOWN:
            text.show(f"{title}: … and {len(lines) - _SHOWN} more (--json shows all)")
    text.show(
        f"checked {text.many(report.snapshots, 'snapshot')}, {text.many(report.trees, 'tree')}, "
        f"{text.many(report.blobs, 'blob')} in {text.many(report.packs, 'pack')}; "
        f"read {text.many(report.packs_read, 'pack')} ({text.size(report.bytes_read)}) "
        f"in {text.seconds(report.seconds)}"
    )
    if report.ok:
        text.show("no damage found")
