"""The `holdfast` command: finds the subcommand, runs it, turns errors into one line, a hint and an exit code.

Rules upheld here:
- Start-up stays under 0.3 s: a subcommand's module is imported when it is asked for; SDKs when they are used.
- Errors go to stderr: what, which, wanted, found, and a hint; with --json one JSON object. Tracebacks only for bugs,
  or with HOLDFAST_DEBUG set.
- Exit codes are documented (docs/reference/exit-codes.md); 3 means that the work was done but something is missing.
"""

from __future__ import annotations

import importlib
import io
import logging
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

import click

from holdfast import __version__
from holdfast.cli.failure import report, report_usage
from holdfast.errors import HoldfastError, Interrupted
from holdfast.services.memory import settle_memory

COMMANDS = {
    "backup": "Back up a stack of the configuration, or plain directories.",
    "canary": "Prove this installation: make data, back it up, destroy it, restore it.",
    "cat": "Write one file of a snapshot to standard output.",
    "config": "Check a configuration, or write one to start from.",
    "demo": "Back up, destroy, restore and prove a sample stack, and show it.",
    "doctor": "Check what Holdfast needs: repository, store, engine, databases.",
    "down": "Stop the worker and this host's own Prefect server, once nothing runs.",
    "drain": "Let no new run start, wait for those that are going, stop the worker.",
    "drill": "Prove a restore point: restore it in a sandbox, compare, destroy.",
    "forget": "Drop restore points by policy; shows the reasons.",
    "init": "Make a new repository.",
    "key": "List, add and remove the repository's passwords.",
    "list": "List restore points and snapshots.",
    "ls": "List what a snapshot holds.",
    "monitor": "Look whether backups are fresh and proven; tell people when not.",
    "plan": "Show what is protected and what is not, how, when and why.",
    "proofs": "List what was proven; notice proofs that were removed or altered.",
    "prune": "Delete data that no snapshot refers to any more.",
    "reap": "Remove sandboxes that killed drills left behind.",
    "repair": "Make a damaged or lost index anew from the packs.",
    "report": "Write the auditor's report, as HTML or JSON.",
    "restore": "Restore a snapshot into a directory, or a stack to its place.",
    "status": "Show what is backed up, how fresh it is, and what was proven.",
    "thaw": "Let go what a killed backup left paused or stopped.",
    "up": "Start Prefect server, schedules and worker as the configuration says.",
    "unlock": "Remove stale locks from the repository.",
    "wal": "Archive a PostgreSQL server's WAL, for recovery to any instant.",
    "verify": "Check that what is stored is what was written.",
}


class _Commands(click.Group):
    """Subcommands by name; each lives in a module of its own that is imported only when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  click's signature
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"holdfast.cli.commands.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            close = difflib.get_close_matches(args[0], COMMANDS, 1)
            if not close:
                raise
            raise click.UsageError(f"{error.message} Did you mean {close[0]!r}?", ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  click's
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="A repository is a plain restic repository: `restic -r REPO snapshots` reads it. "
    "Exit codes are listed in docs/reference/exit-codes.md.",
)
@click.version_option(__version__, "-V", "--version", prog_name="holdfast")
def cli() -> None:
    """Backups of Docker hosts that are proven by restoring them."""


def main() -> NoReturn:
    """Entry point of the `holdfast` command."""
    as_json = "--json" in sys.argv
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # `nohup` sees to that
        signal.signal(signal.SIGHUP, _interrupt)  # a terminal that goes away is no reason to leave things half done
    settle_memory()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may hold what no encoding has
    logging.basicConfig(level=logging.WARNING, format="holdfast: %(levelname)s: %(message)s", stream=sys.stderr)
    try:
        status = cli.main(standalone_mode=False)
    except HoldfastError as error:
        report(error, as_json=as_json)
        status = error.exit_code
    except click.ClickException as error:
        report_usage(error, as_json=as_json)
        status = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        status = _report_interruption(as_json=as_json)
    except BrokenPipeError:
        # `holdfast list | head`: nobody reads any more. Python must not complain about it while it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except Exception as error:
        # A signal between two steps of the standard library's locks: "release unlocked lock" is what comes of it.
        if not _made_by_interruption(error):
            raise
        status = _report_interruption(as_json=as_json)
    sys.exit(status if isinstance(status, int) else 0)


def _interrupt(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001  signal's signature
    raise KeyboardInterrupt


def _made_by_interruption(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def _report_interruption(*, as_json: bool) -> int:
    report(Interrupted("interrupted", hint="run it again: what was uploaded is re-used"), as_json=as_json)
    return Interrupted.exit_code
