"""Whether there is room for a drill: decided before anything is written."""

from __future__ import annotations

from holdfast.model.words import size

SPARE = 64 << 20
"""Bytes that stay free beside what is restored: directories, journals, what others write meanwhile."""

DATABASE_FACTOR = 2.0
"""A loaded dump needs about this times its own bytes: indexes, write-ahead log."""

SERVER_MEMORY = 192 << 20
"""Bytes of memory that a scratch database server and a load take."""


def too_little_space(needed: float, free: float) -> str | None:
    """None when so many bytes fit; otherwise what is missing, in words."""
    wanted = needed * 1.05 + SPARE
    return None if free >= wanted else f"{size(wanted)} are needed, {size(free)} are free"


def too_little_memory(available: float | None) -> str | None:
    """None when a scratch server fits (or nobody knows); otherwise what is missing."""
    if available is None or available >= SERVER_MEMORY:
        return None
    return f"{size(SERVER_MEMORY)} of memory are needed, {size(available)} are available"
