"""The volume that is measured: big, medium and many small files, half of their bytes compressible, one sparse file."""

from __future__ import annotations

import random
from pathlib import Path

_TEXT = 4 << 20
_HALF = 512 << 10


def build_volume(root: Path, *, scale: float = 1.0, seed: int = 1) -> None:
    """1 GiB in 4 big files, 512 MiB in 512 medium ones, 50,000 small ones (400 MiB), one sparse: times `scale`."""
    chance = random.Random(seed)
    words = [chance.randbytes(chance.randint(3, 9)).hex().encode() for _ in range(4000)]
    text = b" ".join(chance.choices(words, k=_TEXT // 8))[:_TEXT]

    def mixed(size: int) -> bytes:
        at = chance.randrange(len(text) - _HALF)
        return (chance.randbytes(_HALF) + text[at : at + _HALF])[:size]

    root.mkdir(parents=True)
    for number in range(4):
        with open(root / f"big-{number}", "wb") as file:
            for _ in range(int(256 * scale)):
                file.write(mixed(1 << 20))
    (root / "medium").mkdir()
    for number in range(int(512 * scale)):
        (root / "medium" / f"{number:04}").write_bytes(mixed(1 << 20))
    for number in range(int(50_000 * scale)):
        folder = root / "small" / f"{number // 500:03}"
        folder.mkdir(parents=True, exist_ok=True)
        size = chance.randint(200, 16_000)
        at = chance.randrange(len(text) - size)
        (folder / f"{number:05}").write_bytes(b"%d " % number + text[at : at + size])
    with open(root / "sparse", "wb") as file:
        file.truncate(int((1 << 30) * scale))
        file.seek(int((300 << 20) * scale))
        file.write(chance.randbytes(8 << 20))


def change_some(root: Path, *, seed: int = 2) -> None:
    """A day's changes: some small files new or rewritten, a page in a big file, a medium file grown, some removed."""
    chance = random.Random(seed)
    small = sorted((root / "small").rglob("*"))
    files = [path for path in small if path.is_file()]
    for path in chance.sample(files, len(files) // 50):
        path.write_bytes(chance.randbytes(chance.randint(200, 16_000)))
    for path in chance.sample(files, len(files) // 200):
        path.unlink(missing_ok=True)
    for number in range(len(files) // 100):
        (root / "small" / f"new-{number}").write_bytes(chance.randbytes(5_000))
    with open(root / "big-0", "r+b") as file:
        for _ in range(20):
            file.seek(chance.randrange(file.seek(0, 2)) & ~4095)
            file.write(chance.randbytes(8192))
    with open(root / "medium" / "0000", "ab") as file:
        file.write(chance.randbytes(100_000))
