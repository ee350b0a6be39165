"""What stays promised without an engine, and what nobody serves any more, decided without a clock."""

from __future__ import annotations

from datetime import UTC, datetime

from holdfast.policy.freshness import Wanted
from holdfast.policy.served import Origin, Promise, judge_unserved, still_wanted

WHEN = datetime(2026, 3, 10, 12, tzinfo=UTC)


def test_labels_promise_until_the_engine_was_asked_again() -> None:
    remembered = {
        "shop": Promise(wanted=Wanted(backup_within=26.0), labelled=True),
        "wiki": Promise(wanted=Wanted(backup_within=26.0, proven_within=8.0)),  # configured, its schedule is a label's
        "gone": Promise(wanted=Wanted(backup_within=26.0)),  # taken out of the configuration meanwhile
    }
    own = {"wiki": Wanted(proven_within=3.0, shrunk=0.2), "new": Wanted(backup_within=1.0)}
    assert still_wanted(own, remembered) == {
        "wiki": Wanted(backup_within=26.0, proven_within=3.0, shrunk=0.2),
        "new": Wanted(backup_within=1.0),
        "shop": Wanted(backup_within=26.0),
    }


def test_a_stack_that_nobody_serves_any_more_is_told() -> None:
    origins = {name: Origin(host="a", time=WHEN) for name in ("shop", "docs", "by-hand")}
    origins["moved"] = Origin(host="b", time=WHEN)
    (told,) = judge_unserved({"shop", "docs", "moved", "forgotten"}, {"docs"}, origins, "a")
    assert told.name == "stack-unserved shop"
    assert "2026-03-10 12:00 UTC" in told.found
    assert list(judge_unserved({"shop"}, {"docs", "shop"}, origins, "a")) == []
