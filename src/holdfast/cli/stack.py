"""What the commands do with the stacks of a configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from holdfast.cli import text
from holdfast.errors import ConfigError
from holdfast.services.access import open_repository_at

if TYPE_CHECKING:
    from holdfast.cli.options import Access
    from holdfast.config.models import Config
    from holdfast.services.backup import BackupReport, OnProgress
    from holdfast.services.extraction import Extracted
    from holdfast.services.recovery import RestorePlan
    from holdfast.services.restore import RestoreReport


def chosen_stacks(config: Config, names: Sequence[str]) -> list[str]:
    """The stacks that are meant: the named ones, or all. Raises: ConfigError."""
    from holdfast.services.stacks import stack_of

    for name in names:
        stack_of(config, name)
    found = list(names) or sorted(config.stacks)
    if not found:
        raise ConfigError(
            "the configuration has no stacks",
            wanted="one or more below `stacks`",
            hint="to back up a directory without one: holdfast backup --path DIR",
        )
    return found


def back_up_stacks(
    access: Access, names: Sequence[str], *, allow_empty: bool, on_progress: OnProgress
) -> list[BackupReport]:
    """Back up stacks, one after the other. Raises: as `services.stacks.back_up`."""
    from holdfast.services.stacks import access_of, back_up

    config = access.config()
    with open_repository_at(access_of(config)) as repository:
        return [
            back_up(
                config,
                repository,
                name,
                now=lambda: datetime.now(UTC),
                allow_empty=allow_empty,
                on_progress=on_progress,
            )
            for name in chosen_stacks(config, names)
        ]


def restore_stack(access: Access, name: str, what: str, *, replace: bool, dry_run: bool) -> list[RestoreReport]:
    """Restore a stack to its place, or show what that would do. Raises: as `services.recovery`."""
    from holdfast.cli.commands.restore import show_report
    from holdfast.services.recovery import plan_restore, restore_step
    from holdfast.services.stacks import access_of

    config = access.config()
    progress = text.Progress(quiet=access.json)
    reports = []
    with open_repository_at(access_of(config)) as repository:
        plan = plan_restore(config, repository, name, what, replace=replace)
        if not access.json:
            _show_plan(plan)
        for step in () if dry_run else plan.steps:
            report = restore_step(config, repository, plan, step, _shown(progress, step.source))
            progress.clear()
            reports.append(report)
            if not access.json:
                show_report(report)
    return reports


def _shown(progress: text.Progress, source: str) -> Callable[[Extracted], None]:
    return lambda done: progress.update(f"{source}: {done.files} files, {text.size(done.bytes)}")


def _show_plan(plan: RestorePlan) -> None:
    text.show(f"restore point {plan.point} of {plan.stack}:")
    for step in plan.steps:
        text.show(f"  {step.source} ({step.snapshot[:8]}): {step.target}")
