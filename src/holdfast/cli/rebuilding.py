"""What `holdfast restore STACK` prints: the plan, the steps on the way, and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.cli import text

if TYPE_CHECKING:
    from holdfast.cli.options import Access
    from holdfast.policy.rebuild import RebuildPlan
    from holdfast.services.rebuild import RebuildReport


def rebuild_stack(access: Access, stack: str, point: str, *, replace: bool, dry_run: bool) -> None:
    """Make a stack again, or show what that would do. Raises: as `services.rebuild`."""
    from holdfast.services.quiesce import alone
    from holdfast.services.rebuild import Rebuild, refuse
    from holdfast.services.stacks import engine_of, place_of

    progress = text.Progress(quiet=access.json)
    config = access.config_or_default()
    with access.open() as repository, engine_of(config) as engine:
        rebuild = Rebuild(repository, engine, stack, point, replace=replace, host=config.hostname)
        if dry_run:
            _show(access, rebuild.plan)
            refuse(rebuild.plan, shown=not access.json)
            return

        def tell(step: str) -> None:
            progress.clear()
            if not access.json:
                text.tell(f"  {step}")

        with alone(stack, place_of(config), wait=False):
            report = rebuild.run(
                tell, lambda done: progress.update(f"    {text.files(done.files)}, {text.size(done.bytes)}")
            )
    progress.clear()
    if access.json:
        text.show_json(report)
    else:
        _show_report(report)


def _show(access: Access, plan: RebuildPlan) -> None:
    if access.json:
        text.show_json(plan)
        return
    text.show(f"restore point {plan.point} of {plan.stack} would:")
    for step in plan.steps:
        text.show(f"  {step.verb:<8} {step.what}{f' ({step.detail})' if step.detail else ''}")
    for problem in plan.problems:
        text.show(f"  FORBIDDEN: {problem}")


def _show_report(report: RebuildReport) -> None:
    for each in report.restored:
        text.show(
            f"restored {each.source}: {text.files(each.files)}, {text.size(each.bytes)}, compared with the backup"
        )
    for line in report.compared:
        text.show(f"restored {line}")
    for line in report.made:
        text.show(f"made {line}")
    for name, state in report.health.items():
        text.show(f"started {name}: {state}")
    for line in report.notes:
        text.show(f"  note: {line}")
    text.show(f"stack {report.stack} is back at {report.point}, after {text.seconds(report.seconds)}")
