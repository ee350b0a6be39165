"""A sample `holdfast.yaml` with every key, its meaning and its default, made from the models.

The sample is valid as it stands. Keys that contradict another one, or that few people need, are there as comments
without a space after the hash: `#password_env: …`.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from holdfast.config.shapes import Holding, Option, Section, whole

_WIDTH = 110

_HEAD = """\
# yaml-language-server: $schema=holdfast.schema.json
#
# A sample of holdfast.yaml with every key. Most of them can be left out: what is not written has the default that its
# comment names. Lines that begin with # and no space are alternatives. Check your own file with
#   holdfast config check holdfast.yaml
"""

# Words that some reader of YAML takes for something else than text.
_SPECIAL = re.compile(r"(?i)y|n|yes|no|on|off|true|false|null|[-+.\d][\d_.:e+-]*")
_PLAIN = re.compile(r"[A-Za-z0-9/][A-Za-z0-9_./:%+-]*")


def sample() -> str:
    """The sample, as it is committed."""
    return _HEAD + "\n".join(_section(whole(), "")).rstrip() + "\n"


def value_text(value: object) -> str:
    """A value as one writes it in YAML, on one line."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(value_text(item) for item in value)}]"
    if isinstance(value, str) and _PLAIN.fullmatch(value) and not _SPECIAL.fullmatch(value) and value[-1] != ":":
        return value
    return json.dumps(value, ensure_ascii=False)


def _section(section: Section, indent: str, example: Mapping[str, object] = MappingProxyType({})) -> Iterator[str]:
    """The keys of a section; `example` has values that go before the keys' own examples."""
    for option in section.options:
        if not indent:
            yield ""
        yield from _option(option, indent, example.get(option.key, _shown(option)))


def _option(option: Option, indent: str, shown: Any) -> Iterator[str]:
    yield from _comment(option, indent)
    if option.section is None:
        yield f"{indent}{'#' if option.commented else ''}{option.key}: {value_text(shown)}"
        return
    yield f"{indent}{option.key}:"
    if option.holding is Holding.NAMED:
        yield f"{indent}  {option.sample_key}:"
        yield from _section(option.section, indent + "    ")
    elif option.holding is Holding.LIST:
        yield from _items(option.section, indent + "  ")
    else:
        yield from _section(option.section, indent + "  ", shown or {})


def _items(section: Section, indent: str) -> Iterator[str]:
    """One item in the short form if there is one, then one with every key."""
    if section.shorthand:
        short = next(option for option in section.options if option.key == section.shorthand)
        yield f"{indent}- {value_text(short.examples[-1])}"
    lines = list(_section(section, indent + "  "))
    first = next(place for place, line in enumerate(lines) if not line.lstrip().startswith("#"))
    lines[first] = f"{indent}- {lines[first].lstrip()}"
    yield from (line.removeprefix("  ") for line in lines[:first])  # its comment stands above the dash
    yield from lines[first:]


def _comment(option: Option, indent: str) -> Iterator[str]:
    start = f"{indent}# "
    yield from textwrap.wrap(
        option.meaning, _WIDTH, initial_indent=start, subsequent_indent=start, break_on_hyphens=False
    )
    if option.default is not None:
        yield f"{start}Default: {value_text(option.default)}"


def _shown(option: Option) -> object:
    return option.examples[0] if option.examples else option.default
