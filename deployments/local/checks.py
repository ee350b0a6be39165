"""Run every check of the project, the tests last: `python -m deployments.local.checks [--no-tests] [pytest arguments]`.

Rules upheld here:
- All checks run, also after one failed: everything that is wrong is seen at once. The exit status is 0 only if all
  passed.
- pytest's summary comes last, and repeats which other checks failed.
- A check that passed is one line; a failed one shows what it said.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from deployments.local.machine import REPOSITORY_ROOT

FAILED_CHECKS = "HOLDFAST_FAILED_CHECKS"  # how pytest learns of them, for its summary
CHECKS = (
    ("ruff check", ("ruff", "check", ".")),
    ("ruff format", ("ruff", "format", "--check", ".")),
    ("mypy", ("mypy",)),
    ("import-linter", ("lint-imports",)),
)
# A file's tests stay in one process, because they share servers. Files come in the order of their names: the last are
# small, and leave no process idle. `-n 0` among the arguments: all in one process.
IN_PARALLEL = ("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder")


def main(arguments: list[str]) -> int:
    """Run the checks, then pytest with these arguments; 0 when all passed."""
    failed = [name for name, command in CHECKS if not _passes(name, command)]
    if arguments[:1] == ["--no-tests"]:
        return 1 if failed else 0
    status = _pytest(arguments, failed)
    return status or (1 if failed else 0)


def _passes(name: str, command: tuple[str, ...]) -> bool:
    started = time.monotonic()
    program = os.path.join(os.path.dirname(sys.executable), command[0])
    done = subprocess.run(
        [program, *command[1:]],
        cwd=REPOSITORY_ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        text=True,
        errors="replace",
    )
    passed = done.returncode == 0
    verdict = "passed" if passed else "FAILED"
    _say(f"{name:>20}: {verdict} ({time.monotonic() - started:.1f} s)")
    if not passed:
        _say(done.stdout.rstrip())
    return passed


def _pytest(arguments: list[str], failed: list[str]) -> int:
    environment = {**os.environ, FAILED_CHECKS: ", ".join(failed)}
    command = [sys.executable, "-m", "pytest", *IN_PARALLEL, *arguments]
    process = subprocess.Popen(command, cwd=REPOSITORY_ROOT, env=environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches pytest, too; we wait for it to clean up
    return process.wait()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
