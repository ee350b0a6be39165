"""Tests that need a kernel which this machine has not: they run once more, in a guest that has it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import pytest

from deployments.local.guest import INSIDE, Ended, guest_is_possible, run_in_guest
from deployments.local.machine import REPOSITORY_ROOT, CannotProvide, find_tool
from deployments.local.packages import ensure_tool


def inside() -> bool:
    """Whether this is the guest."""
    return INSIDE in os.environ


def run_tests_in_guest(
    selection: Sequence[str], *, seconds: float, modules: Sequence[str], tools: Sequence[tuple[str, str]] = ()
) -> Ended:
    """Run pytest in a guest; `tools` are programs and the packages that have them. Skips where no guest can be had."""
    if reason := guest_is_possible():
        pytest.skip(reason)
    try:
        for name, package in tools:
            if find_tool(name) is None:
                ensure_tool(name, (package,))
        ensure_tool("qemu-system-x86_64", ("qemu-system-x86",))
    except CannotProvide as error:
        pytest.skip(str(error))
    argv = [
        sys.executable,
        "-m",
        "pytest",
        "-n0",
        "-q",
        "--tb=short",
        "--durations=20",
        "-m",
        "soak or engine",
        *selection,
    ]
    return run_in_guest(argv, folder=REPOSITORY_ROOT, seconds=seconds, modules=modules)
