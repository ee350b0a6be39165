"""Measuring whole processes: wall time, CPU time and peak memory, alternating between those that are compared."""

from __future__ import annotations

import os
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

HEAD = "| job | who | wall | holdfast's share of it | CPU | peak memory |\n|---|---|---|---|---|---|"

# Programs that are installed are compiled: Python is let keep what it compiles in the first round.
_USUAL = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


class Run(NamedTuple):
    """One command: seconds from start to end, CPU seconds, the largest resident MiB of all its processes together."""

    wall: float
    cpu: float
    peak: float


def run(
    argv: Sequence[str | os.PathLike[str]],
    env: Mapping[str, str],
    *,
    folder: Path | None = None,
    output: str | os.PathLike[str] = os.devnull,
) -> Run:
    """Run a command to its end, its output into a file; its failure is the benchmark's."""
    started = time.monotonic()
    with open(output, "wb") as file:
        child = subprocess.Popen(argv, env={**_USUAL, **env}, stdout=file, cwd=folder)
    watch = _Watch(child.pid)
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.monotonic() - started
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0, argv
    return Run(wall, usage.ru_utime + usage.ru_stime, watch.stop())


class _Watch:
    """The memory of a process and its children, looked at ten times a second.

    The kernel's own `ru_maxrss` is of no use: it begins with the size of the process that forked, which is pytest's.
    """

    def __init__(self, pid: int) -> None:
        self._pid, self._peak = pid, 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """End it; the largest sum seen, in MiB."""
        self._ended.set()
        self._thread.join()
        return self._peak

    def _look(self) -> None:
        while not self._ended.wait(0.1):
            family = [self._pid, *_children(self._pid)]
            if len(family) == 1:
                self._peak = max(self._peak, _figure(f"/proc/{self._pid}/status", "VmHWM:"))
            else:  # pages that they share count once
                self._peak = max(self._peak, sum(_figure(f"/proc/{pid}/smaps_rollup", "Pss:") for pid in family))


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            found += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    return found + [below for child in found for below in _children(child)]


def _figure(path: str, name: str) -> float:
    """A line of a file of /proc, from KiB to MiB; 0 when the process is gone."""
    with suppress(OSError):
        for line in Path(path).read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) / 1024
    return 0.0


def compare(
    job: str,
    sides: Sequence[tuple[str, Callable[[], Run | None]]],
    *,
    rounds: int,
    before: Callable[[int], None] | None = None,
) -> Iterator[str]:
    """All sides in turn, `rounds` times, so that noise of the machine hits all; lines of a table with their medians.

    The first side is the one that the others are compared with. A side that has no such job is left out.
    """
    runs: list[list[Run]] = [[] for _ in sides]
    for number in range(rounds):
        if before is not None:
            before(number)
        for (_, work), found in zip(sides, runs, strict=True):
            one = work()
            if one is not None:
                found.append(one)
    first = median(runs[0])
    for (name, _), found in zip(sides, runs, strict=True):
        if found:
            middle = median(found)
            share = "" if found is runs[0] else f"{first.wall / middle.wall:.2f}"
            yield f"| {job} | {name} | {middle.wall:.2f} s | {share} | {middle.cpu:.1f} s | {middle.peak:.0f} MiB |"


def median(runs: Sequence[Run]) -> Run:
    """Each figure's median."""
    return Run(*(statistics.median(values) for values in zip(*runs, strict=True)))
