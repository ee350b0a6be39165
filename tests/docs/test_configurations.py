"""Every piece of a configuration that a page shows is valid where it belongs."""

from __future__ import annotations

import textwrap

import pytest

from holdfast.config.label_table import LABELS
from holdfast.config.loading import from_yaml
from tests.docs.blocks import ROOT, blocks

HEAD = "version: 1\nrepository: {url: /srv/backup, password_file: /srv/password}\n"
SHOP = "stacks:\n  shop:\n    volumes: [shop_uploads]\n    postgres: [{name: shop-db, container: shop-db-1}]\n"
PAGES = [str(path.relative_to(ROOT)) for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")))]
SHOWN = [(page, block) for page in PAGES for block in blocks(page, "yaml")]


def whole(block: str) -> str | None:
    """The piece with what is around it; None for what is no configuration (a Compose file)."""
    block = textwrap.dedent(block)
    if "repository:" in block:
        return block
    if block.startswith("stacks:"):
        return HEAD + block
    return HEAD + SHOP + textwrap.indent(block, "    ") if block.startswith(("checks:", "commands:")) else None


@pytest.mark.parametrize(("page", "block"), SHOWN, ids=[f"{page}-{number}" for number, (page, _) in enumerate(SHOWN)])
def test_a_piece_of_a_configuration(page: str, block: str) -> None:
    text = whole(block)
    if text is not None:
        assert from_yaml(text).stacks
    else:
        named = {word.rstrip(":") for word in block.replace("{", " ").replace(",", " ").split() if "holdfast." in word}
        assert named, f"{page}: neither a configuration nor labels: {block}"
        assert named <= {label.name for label in LABELS}
