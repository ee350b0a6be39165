"""Programs of this machine that make and show snapshots: LVM's, `zfs`, `mount`.

Rules upheld here:
- They are never killed, also not when we are interrupted: LVM that dies between suspending and resuming a volume leaves
  it suspended. Their output goes to files, so that they can go on without us.
- They get none of our secrets.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence

from holdfast.errors import SourceUnreadable
from holdfast.model.environment import for_children

_SECONDS, _BUSY_SECONDS = 60.0, 10.0


def run(argv: Sequence[str], which: str, *, seconds: float = _SECONDS) -> str:
    """What a program printed. Raises: SourceUnreadable when it fails, or does not end; then it may still be running.

    `which` is what it works on, for messages; `seconds` what it may take.
    """
    words = " ".join([os.path.basename(argv[0]), *(word for word in argv[1:2] if not word.startswith(("-", "/")))])
    by_hand = shlex.join(argv)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as problems:
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=problems,
                start_new_session=True,  # a Ctrl-C is for us
                env={**for_children(), "LC_ALL": "C"},
            )
        except OSError as error:
            raise SourceUnreadable(f"cannot start {words}", which=which, found=error.strerror, hint=by_hand) from error
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            process.terminate()  # which LVM heeds where it is safe
            wanted = f"within {seconds:.0f} s"
            raise SourceUnreadable(f"{words} does not end", which=which, wanted=wanted, hint=by_hand) from error
        problems.seek(0)
        if status != 0:
            found = problems.read().decode(errors="replace").strip()
            hint = "run as root" if os.geteuid() else by_hand
            raise SourceUnreadable(f"{words} failed", which=which, found=found or f"exit status {status}", hint=hint)
        out.seek(0)
        return out.read().decode(errors="replace")


def once_idle(work: Callable[[], object]) -> None:
    """Do what fails while something is in use: what was just read may be so for a moment longer.

    Raises: SourceUnreadable, what it raised after ten seconds of trying.
    """
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            work()
        except SourceUnreadable as error:
            if "busy" not in (error.found or "") or time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return
