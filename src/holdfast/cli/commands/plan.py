"""`holdfast plan`: what is protected, how and when, which rule said so; first of all what is not."""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING

import click

from holdfast.cli import text
from holdfast.cli.options import Access, repository_options
from holdfast.errors import ConfigError

if TYPE_CHECKING:
    from holdfast.policy.protection import Item, StackProtection


_ANONYMOUS = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")


@click.command()
@repository_options
@click.argument("stacks", nargs=-1, metavar="[STACK]...")
def command(access: Access, stacks: tuple[str, ...]) -> None:
    """Show what would be lost, and what is protected: every volume, bind mount and database of the engine.

    Needs no repository. Nothing is changed.
    """
    from holdfast.services.discovery import discover

    found = discover(access.config_or_default()).protection
    if unknown := set(stacks) - {protection.stack for protection in found}:
        names = ", ".join(sorted(p.stack for p in found if p.stack))
        raise ConfigError(
            "there is no such stack",
            which=", ".join(sorted(unknown)),
            wanted=f"one of {names}" if names else None,
            found=None if names else "no stack on this engine",
            hint="holdfast plan",
        )
    chosen = [protection for protection in found if not stacks or protection.stack in stacks]
    if access.json:
        text.show_json(chosen)
        return
    _show_unprotected(chosen)
    for line in (line for protection in chosen if not protection.stack for line in protection.warnings):
        text.show(f"  warning: {line}")
    _show_unscheduled(chosen)
    for protection in chosen:
        if protection.stack:
            _show_stack(protection)


def _show_unprotected(found: list[StackProtection]) -> None:
    lost = [(protection, item) for protection in found for item in protection.items if item.state == "unprotected"]
    if not lost:
        text.show("everything that was found is protected" if found else "the engine holds no stack, no volume")
        return
    text.show(f"NOT PROTECTED: {len(lost)} that would be lost")
    for hint, alike in groupby(lost, lambda found: found[1].hint):
        for protection, item in alike:
            text.show(f"  {item.what}{f' of stack {protection.stack}' if protection.stack else ''}: {item.how}")
            text.show(f"      because: {item.rule}")
        if hint:
            text.show(f"      to do: {hint}")


def _show_unscheduled(found: list[StackProtection]) -> None:
    """Stacks that somebody enabled and that nothing backs up by itself."""
    names = [protection.stack for protection in found if protection.unscheduled]
    if names:
        text.show(f"NO SCHEDULE: {', '.join(sorted(names))}")
        text.show("      backed up only when somebody runs holdfast backup")
        text.show("      hint: label one of its volumes or containers holdfast.schedule=daily, or stacks.NAME.schedule")


def _show_stack(protection: StackProtection) -> None:
    state = {"configuration": "in the configuration", "labels": "enabled by labels", "found": "found; not enabled"}
    text.show("")
    text.show(f"stack {protection.stack} ({state[protection.origin]})")
    for setting in protection.settings:
        text.show(f"  {setting.name:<10} {setting.value}  [{setting.rule}]")
    rows = [_row(item) for item in protection.items if item.state != "unprotected"]
    if rows:
        for line in text.table(("SOURCE", "STATE", "HOW", "WHEN", "RULE"), rows).splitlines():
            text.show(f"  {line}")
    for line in protection.warnings:
        text.show(f"  warning: {line}")


def _row(item: Item) -> tuple[str, ...]:
    return (_ANONYMOUS.sub(r"\1…", item.what), item.state, item.how, item.when or "-", item.rule)
