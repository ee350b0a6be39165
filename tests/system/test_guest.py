"""A guest runs a program on this machine's files with a kernel of its own, keeps nothing, and ends with its owner.

`pytest -m soak tests/system/test_guest.py`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deployments.local.guest import guest_is_possible, run_in_guest
from deployments.local.machine import REPOSITORY_ROOT, CannotProvide

pytestmark = pytest.mark.soak

SLEEPS = (
    "from deployments.local.guest import run_in_guest\n"
    "run_in_guest(['/bin/sleep', {name!r}], folder='/', seconds=250)\n"
)


@pytest.fixture(autouse=True)
def _possible() -> None:
    if reason := guest_is_possible():
        pytest.skip(reason)


def test_a_program_runs_with_another_kernel_and_what_it_writes_does_not_stay(tmp_path: Path) -> None:
    (tmp_path / "here").write_text("from outside\n")
    script = f"modprobe dm-thin-pool && cat {tmp_path}/here && echo gone > {tmp_path}/there; id -u; exit 7"
    ended = run_in_guest(["/bin/sh", "-c", script], folder=str(tmp_path), seconds=200)
    assert (ended.status, ended.said.split()) == (7, ["from", "outside", "0"])
    assert os.listdir(tmp_path) == ["here"]


def test_a_guest_that_takes_too_long_is_ended() -> None:
    started = time.monotonic()
    with pytest.raises(CannotProvide, match="took too long"):
        run_in_guest(["/bin/sleep", "1000"], folder="/", seconds=10)
    assert time.monotonic() - started < 60


def test_a_guest_ends_with_its_owner() -> None:
    owner = subprocess.Popen([sys.executable, "-c", SLEEPS.format(name="1234")], cwd=REPOSITORY_ROOT)
    try:
        deadline = time.monotonic() + 60
        while not (found := _guests_of(owner.pid)):
            assert owner.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
    finally:
        owner.kill()
        owner.wait()
    deadline = time.monotonic() + 20
    while any(os.path.exists(f"/proc/{pid}") for pid in found):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _guests_of(owner: int) -> list[int]:
    """The emulators below a process."""
    from deployments.local.sweep import command_name, descendants

    return [pid for pid in descendants([owner]) if command_name(pid).startswith("qemu")]
