"""`holdfast up`: see `deployments.operate`, which speaks to Prefect."""

from __future__ import annotations

import click

from holdfast.cli.sourcetree import run_module


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(arguments: tuple[str, ...]) -> int:
    """Start server, schedules and worker as the configuration says. Safe to repeat."""
    return run_module("deployments.operate", ["up", *arguments], "what runs Holdfast")
