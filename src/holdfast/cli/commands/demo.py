"""`holdfast demo`: the main job on a sample stack, shown."""

from __future__ import annotations

import click

from holdfast.cli.sourcetree import run_module


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(arguments: tuple[str, ...]) -> int:
    """Back up a sample stack twice, verify, apply retention, destroy it, restore it, compare, show the proof.

    The demo is part of the source tree, beside the flows that it runs.
    """
    return run_module("deployments.demo", arguments, "the demo")
