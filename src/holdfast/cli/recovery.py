"""The options that name a recovery target, and what they mean together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

import click

from holdfast.cli.options import Access

F = TypeVar("F", bound=Callable[..., Any])
ACTIONS = ("promote", "pause", "shutdown")


@dataclass(frozen=True, slots=True)
class Recovery:
    """A recovery that was asked for: exactly one of the first five, and how."""

    at: str | None
    lsn: str | None
    xid: str | None
    name: str | None
    latest: bool
    exclusive: bool
    timeline: int | None
    system: str | None
    action: str
    volume: str | None
    on_demand: bool
    tablespaces: tuple[str, ...]


def recovery_options(function: F) -> F:
    """Adds the options; the command gets `recovery`, None when no target was named."""

    @click.option("--at", metavar="TIME", help="Recover to the last commit up to this time (local without an offset).")
    @click.option("--lsn", metavar="LSN", help="Recover to this address in the WAL: 0/3000060.")
    @click.option("--xid", metavar="XID", help="Recover to the commit of this transaction.")
    @click.option("--name", metavar="NAME", help="Recover to this pg_create_restore_point.")
    @click.option("--latest", is_flag=True, help="Recover to the end of the archive.")
    @click.option("--exclusive", is_flag=True, help="With --at, --lsn or --xid: stop just before it, not just after.")
    @click.option("--timeline", type=click.IntRange(min=1), help="Along this timeline; else the newest one.")
    @click.option("--system", metavar="ID", help="Of this earlier cluster of the same name; else of the present one.")
    @click.option("--action", type=click.Choice(ACTIONS), default="promote", help="At the target.", show_default=True)
    @click.option("--volume", metavar="NAME", help="The new volume's name; else made from stack, source and time.")
    @click.option(
        "--on-demand", is_flag=True, help="Let the server fetch WAL by `holdfast wal get`, not all of it now."
    )
    @click.option(
        "--tablespace", "tablespaces", multiple=True, metavar="OID=DIR", help="Put a tablespace there; else inside."
    )
    @wraps(function)
    def wrapper(access: Access, **arguments: Any) -> Any:
        given = {name: arguments.pop(name) for name in Recovery.__slots__}
        asked = any(given[name] for name in ("at", "lsn", "xid", "name", "latest"))
        if not asked and (given["timeline"] or given["system"] or given["volume"] or given["on_demand"]):
            raise click.UsageError("this goes with a recovery target: --at, --lsn, --xid, --name or --latest")
        if given["exclusive"] and not (given["at"] or given["lsn"] or given["xid"]):
            raise click.UsageError("--exclusive goes with --at, --lsn or --xid")
        return function(access, **arguments, recovery=Recovery(**given) if asked else None)

    return wrapper  # type: ignore[return-value]  # click has replaced the parameters
