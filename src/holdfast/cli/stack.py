"""What the commands do with the stacks of a configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from holdfast.cli import text
from holdfast.cli.restored import end, show_report
from holdfast.errors import EngineUnavailable

if TYPE_CHECKING:
    from holdfast.cli.options import Access
    from holdfast.config.models import Config
    from holdfast.services.backup import BackupReport, OnProgress
    from holdfast.services.extraction_contents import Extracted
    from holdfast.services.recovery import RestorePlan


def back_up_stacks(
    access: Access,
    names: Sequence[str],
    *,
    allow_empty: bool,
    on_progress: OnProgress,
    show: Callable[[BackupReport], None],
) -> list[BackupReport]:
    """Back up stacks, one after the other, also when one before it failed. Raises: as `services.stacks.back_up`."""
    with access.open(beside=True) as repository:
        from holdfast.services.failing import Failing
        from holdfast.services.stacks import back_up

        config, chosen = _chosen(access, names)
        reports: list[BackupReport] = []
        failing = Failing()
        for name in chosen:
            with failing.alone(name):
                reports.append(
                    back_up(
                        config,
                        repository,
                        name,
                        now=lambda: datetime.now(UTC),
                        allow_empty=allow_empty,
                        on_progress=on_progress,
                    )
                )
                show(reports[-1])
        failing.end(len(reports), len(chosen), "stacks")
        return reports


def _chosen(access: Access, names: Sequence[str]) -> tuple[Config, list[str]]:
    try:
        return access.stacks(names)
    except EngineUnavailable as error:
        if not names and access.config_path is None:  # nothing says that the engine is meant
            error.hint = f"{error.hint}; a directory needs none: holdfast backup --path DIR"
        raise


def restore_stack(access: Access, name: str, what: str, *, replace: bool, dry_run: bool) -> None:
    """Restore a stack to its place, or show what that would do. Raises: as `services.recovery`; CorruptObject."""
    from holdfast.services.recovery import plan_restore, restore_step

    config, _ = access.stacks((name,))
    progress = text.Progress(quiet=access.json)
    reports = []
    with access.open() as repository:
        plan = plan_restore(config, repository, name, what, replace=replace)
        if not access.json:
            _show_plan(plan)
        if dry_run:
            if access.json:
                text.show_json(plan)
            return
        for step in plan.steps:
            report = restore_step(config, repository, plan, step, _shown(progress, step.source))
            progress.clear()
            reports.append(report)
            if not access.json:
                show_report(report)
    end(access, reports)


def _shown(progress: text.Progress, source: str) -> Callable[[Extracted], None]:
    return lambda done: progress.update(f"{source}: {text.files(done.files)}, {text.size(done.bytes)}")


def _show_plan(plan: RestorePlan) -> None:
    text.show(f"restore point {plan.point} of {plan.stack}:")
    for step in plan.steps:
        text.show(f"  {step.source} ({step.snapshot[:8]}): {step.target}")
