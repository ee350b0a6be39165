"""When a base backup is incremental, and what belongs together, decided purely."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from holdfast.model.base import BaseBackup, BaseFacts
from holdfast.model.ids import PointId, SnapshotId
from holdfast.model.wal import Lsn
from holdfast.policy.incremental import Present, Summarized, depending, plan_incremental, with_chains
from holdfast.policy.recovery import is_recoverable
from holdfast.policy.wal import Stock

SIZE = 1 << 20
START = datetime(2026, 11, 1, tzinfo=UTC)
FACTS = BaseFacts(
    version=180004,
    system="42",
    timeline=1,
    start="0/0",
    stop="0/0",
    started=START,
    stopped=START,
    segment_size=SIZE,
    checksums=True,
    directory="/data",
    how="stream",
    size=0,
    files=0,
)
PRESENT = Present(180004, "42", 1, Lsn(90 * SIZE), True, Summarized(True, Lsn(SIZE)))


def base(number: int, on: int | None = None, *, timeline: int = 1, system: str = "42") -> BaseBackup:
    start, name = Lsn(number * SIZE), f"{system}-{timeline}-{number}"
    builds_on = None if on is None else (1, Lsn(on * SIZE))
    stopped = START + timedelta(hours=number)
    return BaseBackup(
        SnapshotId(name), PointId(name), system, timeline, start, Lsn(start + 99), stopped, SIZE, builds_on=builds_on
    )


CHAIN = with_chains([base(2), base(3, 2), base(4, 3), base(7), base(8, 7)])


def test_a_chain_is_everything_down_to_the_full_one() -> None:
    assert [len(one.below) for one in CHAIN] == [0, 1, 2, 0, 1]
    assert CHAIN[2].below == (CHAIN[0].snapshot, CHAIN[1].snapshot)
    assert depending(CHAIN)[CHAIN[2].point] == (CHAIN[0].point, CHAIN[1].point)
    assert not any(one.lost for one in CHAIN)


def test_what_builds_on_something_that_is_gone_is_lost_and_cannot_be_recovered() -> None:
    without_full = with_chains([base(3, 2), base(4, 3), base(7)])
    assert [one.lost for one in without_full] == [True, True, False]
    other_cluster = with_chains([base(2, system="43"), base(3, 2)])
    assert other_cluster[1].lost
    whole = Stock(SIZE, {1: frozenset(range(1, 99))})
    assert [is_recoverable(one, whole) for one in without_full] == [False, False, True]


def test_a_chain_that_leads_upwards_or_round_is_lost() -> None:
    assert with_chains([base(4, 4)])[0].lost
    assert with_chains([base(4, 5), base(5, 4)])[0].lost


@pytest.mark.parametrize(
    ("change", "facts", "reason"),
    [
        ({}, {}, ""),
        ({"version": 160014}, {}, "16 has no incremental"),
        ({"summaries": Summarized(False, None)}, {}, "summarize_wal is off"),
        ({"summaries": Summarized(True, None)}, {}, "begin at no address yet"),
        ({"summaries": Summarized(True, Lsn(5 * SIZE))}, {}, "summaries begin at 0/500000"),
        ({"system": "43"}, {}, "another cluster"),
        ({"lsn": Lsn(3 * SIZE)}, {}, "set back"),
        ({"checksums": False}, {}, "checksums were switched"),
        ({}, {"how": "direct"}, "not taken over the stream"),
        ({"timeline": 0}, {}, "later one"),
    ],
)
def test_the_reason_for_a_full_one_is_said(change: dict[str, Any], facts: dict[str, Any], reason: str) -> None:
    earlier = [(one, msgspec.structs.replace(FACTS, **facts)) for one in CHAIN[:3]]
    plan = plan_incremental(dataclasses.replace(PRESENT, **change), earlier, 6)
    assert (plan.base is None) == bool(reason), plan
    assert reason in plan.reason
    if not reason:
        assert plan.base == CHAIN[2], "it builds on the last one"


def test_the_length_of_a_chain_is_limited_and_the_first_is_full() -> None:
    earlier = [(one, FACTS) for one in CHAIN[:3]]
    assert plan_incremental(PRESENT, earlier, 2).reason.startswith("2 incremental ones follow")
    assert plan_incremental(PRESENT, earlier, 3).base is not None
    assert plan_incremental(PRESENT, [], 3).reason == "there is none before it"
