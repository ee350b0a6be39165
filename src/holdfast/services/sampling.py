"""A sampled drill: where there is no room to restore, files are read back and checked, and nothing is written.

It proves less than a restore, and its proof says so: it is never called proven.
"""

from __future__ import annotations

import os
import random

from holdfast.errors import HoldfastError
from holdfast.model.words import size
from holdfast.repository.content import stream_content
from holdfast.repository.reader import walk
from holdfast.repository.repository import Repository
from holdfast.services.restore import SnapshotData

MOST = 1 << 30
"""Bytes of content that a sample reads back at most."""


def read_sample(
    repository: Repository, data: SnapshotData, *, chance: random.Random | None = None, most: int = MOST
) -> tuple[str, list[str]]:
    """Read files back in an order that nobody can foresee, up to so many bytes: what was read, and every problem."""
    files = [(path, node) for path, node in walk(repository.reader, data.tree) if node.type == "file"]
    total = len(files)
    (chance or random.SystemRandom()).shuffle(files)
    problems: list[str] = []
    read = count = 0
    for path, node in files:
        if read and read + node.size > most:
            continue
        try:
            got = sum(len(piece) for piece in stream_content(repository.reader, node))
        except HoldfastError as error:
            problems.append(f"{os.fsdecode(path)}: {error}")
            continue
        if got != node.size:
            problems.append(f"{os.fsdecode(path)}: wanted {node.size} bytes, found {got}")
        read, count = read + got, count + 1
    return f"{count:,} of {total:,} files read back, {size(read)}", problems
