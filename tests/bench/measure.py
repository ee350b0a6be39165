"""Measuring whole processes: wall time and peak memory, alternating between the two that are compared."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple


class Run(NamedTuple):
    """One process: seconds from start to end, CPU seconds, and the largest resident size in MiB."""

    wall: float
    cpu: float
    peak: float


class Versus(NamedTuple):
    """The medians of both sides of one job."""

    job: str
    ours: Run
    theirs: Run

    def __str__(self) -> str:
        return (
            f"| {self.job} | {self.ours.wall:.2f} s | {self.theirs.wall:.2f} s | "
            f"{self.ours.wall / self.theirs.wall:.2f} | {self.ours.cpu:.1f} s | {self.theirs.cpu:.1f} s | "
            f"{self.ours.peak:.0f} MiB | {self.theirs.peak:.0f} MiB |"
        )


HEAD = (
    "| job | holdfast | restic | ratio of wall | CPU holdfast | CPU restic | peak holdfast | peak restic |\n"
    "|---|---|---|---|---|---|---|---|"
)


def run(
    argv: Sequence[str | os.PathLike[str]], env: Mapping[str, str], output: str | os.PathLike[str] = os.devnull
) -> Run:
    """Run a process to its end, its output into a file; its failure is the benchmark's."""
    started = time.monotonic()
    with open(output, "wb") as file:
        child = subprocess.Popen(argv, env={**os.environ, **env}, stdout=file)
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.monotonic() - started
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0, argv
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def versus(job: str, ours: Callable[[int], Run], theirs: Callable[[int], Run], *, rounds: int) -> Versus:
    """Both sides in turn, `rounds` times, so that noise of the machine hits both; the medians."""
    runs = [(ours(number), theirs(number)) for number in range(rounds)]
    return Versus(job, _median([pair[0] for pair in runs]), _median([pair[1] for pair in runs]))


def _median(runs: Sequence[Run]) -> Run:
    return Run(*(statistics.median(values) for values in zip(*runs, strict=True)))
