"""The look for files that look like secrets: what it takes for one, what it leaves alone, where it ends."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from holdfast.services.sensitive import Cut, look_for_secrets

PEM = b"-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEA\n"
CERTIFICATE = b"-----BEGIN CERTIFICATE-----\n" + b"MIIB" * 100 + b"\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    ("name", "content", "sensitive"),
    [
        ("id_ed25519", b"x", True),
        ("id_ed25519.pub", b"ssh-ed25519 AAAA", False),
        (".env", b"KEY=1", True),
        (".env.production", b"KEY=1", True),
        (".env.example", b"KEY=", False),
        (".pgpass", b"*:*:*:*:x", True),
        ("Passwords.KDBX", b"x", True),
        ("tls.key", b"x", True),
        ("credentials", b"x", True),
        ("empty/.env", b"", False),
        ("ca.pem", CERTIFICATE, False),
        ("server.pem", CERTIFICATE + PEM, True),
        ("deep/er/still/backup-of-a-key", PEM, True),
        ("story.txt", b"He wrote -----BEGIN and no more", False),
        ("big", PEM + bytes(20_000), False),
    ],
)
def test_one_file(tmp_path: Path, name: str, content: bytes, sensitive: bool) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    look = look_for_secrets(str(tmp_path))
    assert (look.count, look.paths, look.cut) == ((1, (name,), None) if sensitive else (0, (), None))


def test_no_link_is_followed_and_nothing_is_waited_for(tmp_path: Path) -> None:
    outside, top = tmp_path / "outside", tmp_path / "top"
    outside.mkdir()
    top.mkdir()
    (outside / "id_rsa").write_bytes(PEM)
    (top / "folder").symlink_to(outside)
    (top / "id_rsa").symlink_to(outside / "id_rsa")
    (top / "key").symlink_to(outside / "id_rsa")
    os.mkfifo(top / "pipe")
    os.mkfifo(top / ".env")
    assert look_for_secrets(str(top)).count == 0


def test_what_is_near_the_top_is_seen_although_there_is_no_end(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"a{number:02}" / "b").mkdir(parents=True)
        for each in range(10):
            (tmp_path / f"a{number:02}" / "b" / f"{each}.key").write_text("x")
    (tmp_path / ".env").write_text("x")
    look = look_for_secrets(str(tmp_path), entries=100)
    assert ".env" in look.paths
    assert (look.count, look.cut) == (20, Cut.ENTRIES)  # 41 at the top, 40 below, and 19 of the 400 keys
    ticks = itertools.count()
    look = look_for_secrets(str(tmp_path), seconds=60, clock=lambda: float(next(ticks)))
    assert look.cut is Cut.TIME
    assert len(look_for_secrets(str(tmp_path)).paths) == 3


def test_reading_leaves_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_bytes(PEM)
    os.utime(path, ns=(1, 2))
    assert look_for_secrets(str(tmp_path)).count == 1
    assert path.stat().st_atime_ns == 1
