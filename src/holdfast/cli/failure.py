"""How a command that failed says so, on stderr: a line, each problem, a hint; with --json one object.

Rules upheld here:
- An error of the command line has the same fields in JSON as every other one.
- What an error lists, it lists once: a line for each problem.
"""

from __future__ import annotations

import json
import os
import sys

import click

from holdfast.errors import HoldfastError


def report(error: HoldfastError, *, as_json: bool = False) -> None:
    """Say what failed; with HOLDFAST_DEBUG set, where."""
    if as_json:
        sys.stderr.write(json.dumps(error.as_dict()) + "\n")
        return
    problems: tuple[object, ...] = getattr(error, "problems", ())
    lines = [f"holdfast: error: {HoldfastError.__str__(error) if problems else error}"]
    lines += [f"  {problem}" for problem in problems]
    lines += [f"hint: {error.hint}"] if error.hint else []
    sys.stderr.write("\n".join(lines) + "\n")
    if os.environ.get("HOLDFAST_DEBUG"):
        import traceback

        traceback.print_exception(error)


def report_usage(error: click.ClickException, *, as_json: bool = False) -> None:
    """Say what is wrong with the command line."""
    if not as_json:
        error.show()
        return
    context = error.ctx if isinstance(error, click.UsageError) else None
    what = error.format_message()
    data = {
        "error": "UsageError",
        "message": what,
        "what": what,
        **dict.fromkeys(("which", "wanted", "found")),
        "hint": f"{context.command_path} --help" if context else None,
        "exit_code": error.exit_code,
        "transient": False,
    }
    sys.stderr.write(json.dumps(data) + "\n")
