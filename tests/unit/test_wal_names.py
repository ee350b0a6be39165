"""WAL addresses, names and histories: what PostgreSQL writes is read, anything else is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.model.timeline import Switch, TimelineHistory
from holdfast.model.wal import Lsn, WalKind, WalSegment, is_segment_size, parse_wal_name

SIZES = st.integers(20, 30).map(lambda power: 1 << power)


@given(st.integers(0, (1 << 64) - 1))
def test_an_lsn_is_read_as_it_is_written(value: int) -> None:
    assert Lsn.parse(str(Lsn(value))) == value


@pytest.mark.parametrize("text", ["", "0", "0/", "/0", "0/123456789", "g/0", "0/0/0"])
def test_what_is_no_lsn_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an LSN"):
        Lsn.parse(text)


@given(st.integers(1, (1 << 32) - 1), st.integers(0, (1 << 40) - 1), SIZES)
def test_a_segment_is_known_by_its_name(timeline: int, lsn: int, size: int) -> None:
    segment = WalSegment.holding(timeline, lsn, size)
    assert segment.begin <= lsn < segment.end
    name = parse_wal_name(segment.name)
    assert name is not None
    assert name.kind is WalKind.SEGMENT
    assert name.segment(size) == segment


def test_names_as_the_manual_shows_them() -> None:
    assert WalSegment(1, 0x1234, 16 << 20).name == "000000010000001200000034"
    assert WalSegment(1, 5, 64 << 20).name == "000000010000000000000005"
    kinds = {
        "00000002.history": WalKind.HISTORY,
        "000000010000001200000034.partial": WalKind.PARTIAL,
        "000000010000001200000034.00000028.backup": WalKind.BACKUP,
    }
    for text, kind in kinds.items():
        found = parse_wal_name(text)
        assert found is not None
        assert found.kind is kind
    for text in ("000000010000001200000034.gz", "0000000100000012000000", "archive_status", "00000001.history.partial"):
        assert parse_wal_name(text) is None


def test_a_name_that_a_segment_size_cannot_have_is_refused() -> None:
    name = parse_wal_name("0000000100000000000000FF")
    assert name is not None
    with pytest.raises(ValueError, match="no segment"):
        name.segment(64 << 20)
    assert [size for size in (1 << 19, 3 << 20, 16 << 20, 1 << 31) if is_segment_size(size)] == [16 << 20]


HISTORY = "1\t0/3000148\tbefore 2026-11-25 10:00:00+00\n\n2\t0/5000000\tno recovery target specified\n"


def test_a_history_tells_which_timeline_holds_what() -> None:
    history = TimelineHistory.parse(3, HISTORY)
    assert history.switches == (Switch(1, Lsn(0x3000148)), Switch(2, Lsn(0x5000000)))
    assert TimelineHistory.parse(3, history.text()) == history
    assert history.contains(1, 0x3000148)
    assert not history.contains(1, 0x3000149)
    assert history.contains(3, 1 << 50)
    # The segment of the fork is the child's; what lies before it is only the parent's.
    assert [history.owner(number, 16 << 20) for number in (0, 2, 3, 4, 5, 9)] == [1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("text", ["1 0/5 x\n1 0/6 y", "2 0/5\n1 0/6", "1 0/6\n2 0/5", "3 0/5", "one 0/5", "1", "1 5"])
def test_a_history_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"history|timeline|LSN"):
        TimelineHistory.parse(3, text)
