"""How far a run has come: shares, rates and what is left."""

from __future__ import annotations

import pytest

from holdfast.policy.pace import Pace

MIB = 1 << 20


def test_half_way_at_a_steady_rate_as_much_is_left() -> None:
    pace = Pace({"a": 60 * MIB, "b": 40 * MIB}, 1000.0)
    pace.count("a", 10, 50 * MIB)
    assert pace.share == 0.5
    assert pace.left(1010.0) == pytest.approx(10)
    assert pace.words(1010.0) == "10 files, 50.0 MiB of about 100.0 MiB, 5.0 MiB/s, about 10.0 s left"
    pace.count("a", 20, 60 * MIB)
    pace.count("b", 1, 20 * MIB)
    assert pace.words(1020.0) == "21 files, 80.0 MiB of about 100.0 MiB, 4.0 MiB/s, about 5.0 s left"


def test_what_grew_is_not_done_before_it_is() -> None:
    pace = Pace({"a": 10 * MIB}, 0.0)
    pace.count("a", 1, 50 * MIB)
    assert pace.share == 0.99
    assert pace.words(5.0) == "1 file, 50.0 MiB, 10.0 MiB/s"


def test_without_a_last_time_there_is_no_estimate() -> None:
    pace = Pace({}, 0.0)
    pace.count("a", 3, 30 * MIB)
    assert (pace.share, pace.left(100.0)) == (None, None)
    assert pace.words(1.0) == "3 files, 30.0 MiB"
    assert pace.words(10.0) == "3 files, 30.0 MiB, 3.0 MiB/s"
