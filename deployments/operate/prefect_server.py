"""Prefect's own command, with one thing remembered: `python -m deployments.operate.prefect_server server start …`.

Rules upheld here:
- The names of all time zones are read once for each process. Prefect reads them anew, some 600 files of the system,
  whenever a schedule comes from a client or from its database, several times for each: that was two thirds of what its
  server used of the processor, and most of the time that a first `holdfast up` with many stacks took.
- Nothing else of Prefect is touched. A time zone that the system gets while the server runs is known after a restart.
"""

from __future__ import annotations

import functools
import runpy
import zoneinfo


def remember_time_zones() -> None:
    """Before Prefect is imported: it takes the function by its name."""
    zoneinfo.available_timezones = functools.cache(zoneinfo.available_timezones)


if __name__ == "__main__":
    remember_time_zones()
    runpy.run_module("prefect", run_name="__main__", alter_sys=True)
