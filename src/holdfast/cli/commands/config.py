"""`holdfast config`: check a configuration, or write a commented one to start from."""

from __future__ import annotations

import click

from holdfast.cli import text
from holdfast.config.access import find_config, no_config
from holdfast.config.problems import InvalidConfig


@click.group()
def command() -> None:
    """Check a configuration, or write one to start from."""


@command.command(short_help="Say all that is wrong with a configuration, a line each.")
@click.argument("file", required=False)
@click.option("--secrets", is_flag=True, help="Also whether every secret that it names can be read here.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def check(file: str | None, secrets: bool, as_json: bool) -> int:
    """Say all that is wrong with FILE (else HOLDFAST_CONFIG), a line each, as compilers do. Exits 4 when it is."""
    from holdfast.config.loading import load

    path = find_config(file)
    if path is None:
        raise no_config()
    try:
        config = load(path, check_secrets=secrets)
    except InvalidConfig as error:
        if as_json:
            raise
        text.tell(error.report())
        return error.exit_code
    if as_json:
        text.show_json({"file": path, "stacks": sorted(config.stacks)})
    else:
        text.show(f"{path}: valid, stacks: {', '.join(config.stacks) or 'none'}")
    return 0


@command.command()
def sample() -> None:
    """Write a commented configuration with every key to standard output."""
    from holdfast.config.sample import sample as commented

    click.echo(commented(), nl=False)


@command.command()
def schema() -> None:
    """Write the JSON Schema, for editors, to standard output."""
    from holdfast.config.schema import schema_text

    click.echo(schema_text(), nl=False)
