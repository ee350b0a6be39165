"""What is written into a restored data directory: one target, nothing of an earlier recovery, quoted as it must be."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from holdfast.model.base import BaseFacts, RecoveryTarget, TargetKind
from holdfast.model.wal import Lsn
from holdfast.postgres.recovery_settings import configure_recovery, target_settings

FACTS = BaseFacts(
    version=150018,
    system="42",
    timeline=1,
    start="0/2000028",
    stop="0/2000100",
    started=datetime(2026, 11, 25, tzinfo=UTC),
    stopped=datetime(2026, 11, 25, tzinfo=UTC),
    segment_size=16 << 20,
    checksums=True,
    directory="/data",
    how="stream",
    size=1,
    files=1,
    settings={"max_connections": "321", "config_file": "/etc/postgresql/15/main/postgresql.conf"},
)


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        (RecoveryTarget(TargetKind.LATEST), {}),
        (RecoveryTarget(TargetKind.CONSISTENT), {"recovery_target": "immediate"}),
        (RecoveryTarget(TargetKind.LSN, lsn=Lsn(0x3000060)), {"recovery_target_lsn": "0/3000060"}),
        (RecoveryTarget(TargetKind.XID, text="731"), {"recovery_target_xid": "731"}),
        (RecoveryTarget(TargetKind.NAME, text="a'b"), {"recovery_target_name": "a'b"}),
        (
            RecoveryTarget(TargetKind.TIME, time=datetime.fromisoformat("2026-11-25T12:00:00.5+02:00")),
            {"recovery_target_time": "2026-11-25 10:00:00.500000+00"},
        ),
    ],
)
def test_exactly_one_target_is_set(target: RecoveryTarget, wanted: dict[str, str]) -> None:
    found = target_settings(target, 3, "pause")
    assert found.pop("recovery_target_timeline") == "3"
    assert found.pop("recovery_target_action", None) == ("pause" if wanted else None)
    assert found == wanted


def test_just_before_a_target() -> None:
    target = RecoveryTarget(TargetKind.XID, text="731", inclusive=False)
    assert target_settings(target, 1, "promote")["recovery_target_inclusive"] == "off"
    assert str(target) == "just before xid 731"


def test_an_earlier_recovery_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "postgresql.conf").write_text("port = 1\n recovery_target_name='old'\n#recovery_target = ''\n")
    auto = tmp_path / "postgresql.auto.conf"
    auto.write_text(
        "work_mem = '8MB'\nrecovery_target_time = '2020-01-01'\nPrimary_ConnInfo='host=x'\narchive_mode=on\n"
    )
    (tmp_path / "standby.signal").touch()
    (tmp_path / "postmaster.pid").touch()
    for name in ("it's", "second"):
        configure_recovery(str(tmp_path), FACTS, RecoveryTarget(TargetKind.NAME, text=name), timeline=1)
    lines = auto.read_text().splitlines()
    assert lines[0] == "work_mem = '8MB'"
    assert [line for line in lines if "recovery_target_" in line] == [
        "recovery_target_timeline = '1'",
        "recovery_target_name = 'second'",
        "recovery_target_action = 'promote'",
    ]
    conf = (tmp_path / "postgresql.conf").read_text()
    assert conf == "port = 1\n# recovery_target_name='old'\n#recovery_target = ''\n", "PostgreSQL refuses two targets"
    assert sum("archive_mode" in line for line in lines) == 1
    assert not [line for line in lines if "onninfo" in line.lower()]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "postgresql.auto.conf",
        "postgresql.conf",
        "recovery.signal",
    ]


def test_quotes_are_doubled_and_outside_configuration_is_noted(tmp_path: Path) -> None:
    notes = configure_recovery(str(tmp_path), FACTS, RecoveryTarget(TargetKind.NAME, text="it's"), timeline=1)
    text = (tmp_path / "postgresql.auto.conf").read_text()
    assert "recovery_target_name = 'it''s'" in text
    assert "max_connections = '321'" in text
    assert "/etc/postgresql/15/main/postgresql.conf" in notes[0]
