"""Every command that a page shows, and every one that a message of the code names, exists with its options."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from deployments.operate.__main__ import main as operate
from holdfast.cli.main import COMMANDS, cli
from tests.docs.blocks import ROOT, blocks

PAGES = ["README.md", "CONTRIBUTING.md", *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/*.md"))]
IN_TEXT = re.compile(r"\bholdfast ([a-z]+(?: +(?:--?[a-z][a-z-]*|[A-Za-z.{][\w.{}/-]*))*)")


def found_command(words: list[str]) -> click.Command:
    """What these words call. Raises: KeyError for what there is not."""
    name = words[0]
    if name in operate.commands:
        return operate.commands[name]
    if name not in COMMANDS:
        raise KeyError(name)
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    return command.commands[words[1]] if isinstance(command, click.Group) and len(words) > 1 else command


def unknown_options(words: list[str]) -> list[str]:
    """The options among the words that the command has not."""
    command = found_command(words)
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    given = {word.partition("=")[0] for word in words if word.startswith("-") and not word.lstrip("-").isdigit()}
    return sorted(given - known - {"-h", "--help"}) if known else []


def shown(page: str) -> Iterator[list[str]]:
    """The commands of a page, in its blocks and in its sentences."""
    text = (ROOT / page).read_text(encoding="utf-8")
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    for line in [*lines, *re.findall(r"`(holdfast [^`]+)`", text)]:
        if line.startswith("holdfast "):
            yield shlex.split(line.replace("…", ""), comments=True)[1:]


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_a_page(page: str) -> None:
    for words in shown(page):
        assert unknown_options(words) == [], (page, words)


def told(path: Path) -> Iterator[str]:
    """The strings of a file, docstrings among them; what is put into them stands as `{}`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_commands_that_the_code_names() -> None:
    seen = 0
    for folder in ("src", "deployments", "tasks", "flows"):
        for path in (ROOT / folder).rglob("*.py"):
            for text in told(path):
                for match in IN_TEXT.finditer(text):
                    words = match[1].split()
                    if words[0] in COMMANDS:
                        seen += 1
                        assert unknown_options(words) == [], (path, match[0])
    assert seen > 100
