"""Texts of configurations for tests, and the problems that they give."""

from __future__ import annotations

import pytest

from holdfast.config.loading import from_yaml
from holdfast.config.problems import InvalidConfig

REPOSITORY = "repository: {url: /srv/backup, password_file: /run/secrets/word}\n"
HEAD = "version: 1\n" + REPOSITORY


def problems(text: str) -> list[str]:
    with pytest.raises(InvalidConfig) as caught:
        from_yaml(text, "f")
    return caught.value.report().splitlines()


def stack(text: str) -> list[str]:
    """The problems of one stack that is written on line 3, without their place in the file."""
    return [
        line.partition(": stacks.s")[2].removeprefix(".") for line in problems(f"{HEAD}stacks: {{s: {{{text}}}}}\n")
    ]
