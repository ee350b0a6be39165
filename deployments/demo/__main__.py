"""`make demo`, `holdfast demo`, `python -m deployments.demo`: the main job on a sample stack, shown in three minutes.

Rules upheld here:
- The exit status is 0 only when the comparison held; 130 or 143 after a signal; an error's own code otherwise.
- However it ends, what was started is stopped and what was made is removed before the process ends.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import sys

from deployments.demo import stopping
from deployments.demo.files import make_repository, write_files
from deployments.demo.place import CHOICES, provide_place
from deployments.demo.prefect_server import PrefectServer
from deployments.demo.story import fill, play, show_proof
from deployments.demo.tell import Teller
from deployments.local.kept import Kept
from deployments.local.s3 import RcloneServer
from holdfast.errors import HoldfastError


def main(arguments: list[str]) -> int:
    """Run the demo; the exit status."""
    options = _parser().parse_args(arguments)
    tell = Teller()
    stopping.listen()
    try:
        held = _run(options, tell)
    except KeyboardInterrupt as error:
        tell.verdict("Stopped. Nothing was left behind.", good=False)
        return 128 + getattr(error, "number", 2)
    except HoldfastError as error:
        tell.verdict(f"error: {error}", good=False)
        for line in (f"hint: {error.hint}" if error.hint else None, *getattr(error, "__notes__", ())):
            if line:
                tell.line(line)
        return error.exit_code
    return 0 if held else 1


def _run(options: argparse.Namespace, tell: Teller) -> bool:
    with contextlib.ExitStack() as ending:
        server = ending.enter_context(PrefectServer(verbose=options.verbose))
        tell.heading("Prepare")
        with tell.step("Find a place: an engine, or what stands in for one"):
            place = provide_place(options.engine, ending)
        tell.line(place.words)
        for line in place.replaced:
            tell.line(f"replaced: {line}")
        with tell.step("Start an S3 server (rclone)"):
            endpoint = ending.enter_context(RcloneServer())
        fill(place.stack, tell)
        folder = _folder(ending)
        config = write_files(folder, endpoint, place.stack.configuration())
        tell.line(f"repository: {make_repository(config)}")
        with tell.step("Wait for the private Prefect server"):
            server.wait()
        tell.line(f"watch it work: {server.url}/runs")
        result = play(place.stack, config, tell)
        show_proof(result, tell)
        _look_around(server.url, config, tell, keep_open=options.keep_open)
        stopping.ignore()
        with tell.step("Stop and remove everything that the demo made"):
            ending.close()
    return result.held


def _folder(ending: contextlib.ExitStack) -> str:
    """A folder that goes with the demo, even when it is killed."""
    kept = Kept()
    ending.callback(kept.stop)
    return kept.folder


def _look_around(url: str, config: str, tell: Teller, *, keep_open: bool) -> None:
    if not keep_open:
        tell.line("to look around in the Prefect UI, run it again: make demo ARGS=--keep-open")
        return
    tell.heading("Look around")
    tell.line(f"runs:       {url}/runs")
    tell.line(f"artifacts:  {url}/artifacts  (what was captured, verified, forgotten, restored, proven)")
    tell.line(f"by hand:    holdfast --config {config} list")
    tell.line("Enter or Ctrl-C ends it and removes everything.")
    with contextlib.suppress(stopping.Stopped):
        if not sys.stdin.readline():  # no terminal: only a signal can end it
            while True:
                select.select([], [], [])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="holdfast demo", description=__doc__.splitlines()[0] if __doc__ else None)
    words = (
        "where the sample stack lives: auto (an engine that is found, else a private one, else none), found, private, "
        "or none (a directory and a PostgreSQL server of this machine)"
    )
    parser.add_argument("--engine", choices=CHOICES, default="auto", help=words)
    parser.add_argument("--keep-open", action="store_true", help="wait at the end, so that the UI can be looked at")
    parser.add_argument("--verbose", action="store_true", help="show the runs' own log lines, too")
    return parser


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # Prefect's background threads would go on trying to reach the server that has just ended.
    os._exit(status)
