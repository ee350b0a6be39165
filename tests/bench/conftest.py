"""What several benchmarks share: a cluster that takes a minute to fill."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.bench.contest import Contest, made_contest


@pytest.fixture(scope="session")
def contest() -> Iterator[Contest]:
    """One cluster; two repositories beside each other."""
    with made_contest() as made:
        yield made
