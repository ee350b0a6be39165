"""The `holdfast` command in this process, as a process of its own does it, without the second that starting takes."""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from unittest.mock import patch

from holdfast.cli.main import main


def run_here(arguments: tuple[str, ...], env: Mapping[str, str]) -> tuple[int, str]:
    """Its exit code, and what it said: standard output, then standard error."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", "replace", write_through=True) for _ in range(2))
    logged = logging.StreamHandler(err)
    logged.setLevel(logging.WARNING)
    before = signal.getsignal(signal.SIGTERM)
    logging.getLogger().addHandler(logged)
    try:
        with (
            patch.dict(os.environ, env, clear=True),
            patch.object(sys, "argv", ["holdfast", *arguments]),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            try:
                main()
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 1
    finally:
        logging.getLogger().removeHandler(logged)
        signal.signal(signal.SIGTERM, before)
    for said in (out, err):
        said.seek(0)
    return code, out.read() + err.read()


_DEFAULT = "[signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGHUP)]"


def heeding(argv: Sequence[str]) -> list[str]:
    """The same command, as one that signals end: what a script starts in the background, or nohup, ignores some."""
    return [sys.executable, "-c", f"import os, signal; {_DEFAULT}; os.execv({argv[0]!r}, {list(argv)!r})"]
