"""Cron expressions, with the scheduler that will run them as the referee."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.config.cron import check_cron


@pytest.mark.parametrize(
    "text",
    [
        "0 3 * * *",
        "*/15 * * * *",
        "0 0 1,15 * *",
        "0 22 * * mon-fri",
        "5 4 * JAN-mar sun",
        "0 0 29 2 *",
        "0 0 31 2 mon",
    ],
)
def test_accepts(text: str) -> None:
    assert check_cron(text) == text


def test_evens_out_spaces() -> None:
    assert check_cron(" 0  3 *\t* * ") == "0 3 * * *"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "0 fields instead of 5"),
        ("0 3 * *", "4 fields instead of 5"),
        ("0 0 3 * * *", "6 fields instead of 5"),
        ("@daily", "@daily is not accepted: write 0 0 * * *"),
        ("@reboot", "@reboot is not accepted"),
        ("60 * * * *", "60 is no minute: wanted 0 to 59"),
        ("* 24 * * *", "24 is no hour: wanted 0 to 23"),
        ("* * 0 * *", "0 is no day of the month: wanted 1 to 31"),
        ("* * * 13 *", "13 is no month"),
        ("* * * * 8", "8 is no day of the week"),
        ("* * * foo *", "foo is no month"),
        ("* 22-3 * * *", "the hours 22-3 run backwards"),
        ("*/90 * * * *", "the step of '*/90' is not from 1 to 59"),
        ("*/0 * * * *", "the step of '*/0' is not from 1 to 59"),
        ("5/15 * * * *", "write 5-59/15"),
        ("0 0 L * *", "L is no day of the month"),
        ("0 0 * * mon#2", "'mon#2' is no day of the week"),
        ("0 0 30 2 *", "it never fires: no such month has a day 30"),
        ("0 0 31 4,6,9,11 *", "it never fires"),
        ("1,,2 * * * *", "'' is no minute"),
        ("\u0661 * * * *", "is no minute"),
    ],
)
def test_refuses(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        check_cron(text)


def _fields() -> st.SearchStrategy[str]:
    def field(low: int, high: int, names: list[str]) -> st.SearchStrategy[str]:
        number = st.integers(max(low - 1, 0), high + 1).map(str) | (st.sampled_from(names) if names else st.nothing())
        spans = st.just("*") | st.tuples(number, number).map("-".join)
        steps = st.tuples(spans, st.integers(0, high + 1).map(str)).map("/".join)
        return st.lists(number | spans | steps, min_size=1, max_size=3).map(",".join)

    months, days = ["jan", "Feb", "DEC"], ["sun", "Mon", "SAT"]
    return st.tuples(field(0, 59, []), field(0, 23, []), field(1, 31, []), field(1, 12, months), field(0, 7, days)).map(
        " ".join
    )


@settings(max_examples=300, deadline=None)
@given(_fields())
def test_what_is_accepted_fires_in_prefect(text: str) -> None:
    croniter = pytest.importorskip("prefect._vendor.croniter", reason="Prefect is not installed").croniter
    try:
        checked = check_cron(text)
    except ValueError:
        return
    assert croniter.is_valid(checked)
    assert croniter(checked, datetime(2026, 1, 1, tzinfo=UTC)).get_next(datetime)
