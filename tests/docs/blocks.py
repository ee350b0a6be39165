"""The code blocks of a page, as a reader would copy them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def blocks(page: str, language: str) -> list[str]:
    """Every fenced block of a language, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def marked(page: str, mark: str) -> str:
    """The block below `<!-- test: mark -->`."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.search(rf"<!-- test: {mark} -->\n```\w+\n(.*?)```", text, re.DOTALL)
    assert found, f"{page} has no block marked {mark}"
    return found[1]
