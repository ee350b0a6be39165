"""YAML to plain values, remembering where each of them stood.

Rules upheld here:
- A scalar means the same to every reader. Only `true` and `false` are booleans and only plain decimals are numbers:
  `yes`, `no`, `on`, `off`, `010`, `1_000`, `12:30` and dates, on which YAML 1.1 and 1.2 disagree, stay text. So a value
  that should be a boolean or a number is refused when it is one of them, and never becomes something else in silence.
- Keys are text, whatever they look like. A key that stands twice in one mapping is a problem.
- Anchors, aliases and merge keys (`<<`) work; tags, and aliases that contain themselves or multiply, do not.
- Whatever the text is, the outcome is a `Document` or an `InvalidConfig`: no exception of the parser escapes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

import yaml

from holdfast.config.problems import InvalidConfig, Problem

Path: TypeAlias = tuple[str | int, ...]
"""The keys and positions that lead to a value."""

MAX_VALUES = 20_000
"""Values in one file, aliases followed: three lines of aliases can spell a billion."""

MAX_DEPTH = 40

_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"
_Mark: TypeAlias = tuple[int, int]


class _Loader(yaml.SafeLoader):
    """PyYAML's loader with the few implicit types on which YAML 1.1 and 1.2 agree."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML's name, which it fills by add_implicit_resolver below


for _kind, _regex, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", [*"tTfF"]),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", [*"-+0123456789"]),
    ("float", r"[-+]?(?:0|[1-9][0-9]*)\.[0-9]+", [*"-+0123456789"]),
    ("null", r"~|null|Null|NULL|", [*"~nN", ""]),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(f"{_TAG}{_kind}", re.compile(f"^(?:{_regex})$"), _first)


@dataclass
class Document:
    """The values of one file, the place of each, and the problems that were seen while reading."""

    source: str
    data: object = None
    problems: list[Problem] = field(default_factory=list)
    _values: dict[Path, _Mark] = field(default_factory=dict)
    _keys: dict[Path, _Mark] = field(default_factory=dict)

    def problem(
        self,
        path: Path,
        what: str,
        *,
        wanted: str | None = None,
        found: str | None = None,
        hint: str | None = None,
        key: bool = False,
    ) -> Problem:
        """A problem at the place of a value, or of its key; of the nearest thing around it if it is not there."""
        line, column = self._place(path, key)
        return Problem(self.source, line, column, dotted(path), what, wanted, found, hint)

    def _place(self, path: Path, key: bool) -> _Mark:
        first, second = (self._keys, self._values) if key else (self._values, self._keys)
        if path in first or path in second:
            return first[path] if path in first else second[path]
        while path := path[:-1]:  # what is missing is missing from the mapping of this key
            if path in self._keys or path in self._values:
                return self._keys[path] if path in self._keys else self._values[path]
        return 1, 1


def dotted(path: Path) -> str:
    """A path as people write it: `stacks.shop.volumes[0].name`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            name = step if re.fullmatch(r"[\w-]+", step) else f'"{step}"'
            text += f".{name}" if text else name
    return text


def parse(text: str, source: str) -> Document:
    """Read a YAML document. Raises: InvalidConfig when it is no YAML, or not one document."""
    document = Document(source)
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
        if node is not None:
            document.data = _Builder(document).build(node, ())
    except yaml.MarkedYAMLError as error:
        raise InvalidConfig(source, [*document.problems, _syntax(source, error)]) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        what = f"a character that YAML does not allow: U+{ord(text[error.position]):04X}"
        raise InvalidConfig(source, [Problem(source, line, column, "", what)]) from None
    except RecursionError:
        raise InvalidConfig(source, [Problem(source, 1, 1, "", "the values are nested too deeply")]) from None
    return document


class _Refused(yaml.MarkedYAMLError):
    """Valid YAML that is not accepted here."""


def _syntax(source: str, error: yaml.MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    words = error.problem or "not readable as YAML"
    if isinstance(error, _Refused):
        return Problem(source, line, column, "", words)
    if r"'\t'" in words:
        return Problem(source, line, column, "", "a tab", "spaces: YAML is not indented by tabs")
    if "expected a single document" in (error.context or ""):
        return Problem(source, line, column, "", "a second document begins", "one document", hint="remove the ---")
    details = f"{words} {error.context}" if error.context else words
    return Problem(source, line, column, "", f"not valid YAML: {details}", hint=_syntax_hint(details))


def _syntax_hint(words: str) -> str | None:
    if "mapping values are not allowed" in words:
        return "text that holds a colon and a space is put in quotes; keys of one mapping start in one column"
    if "cannot start any token" in words or "scanning an alias" in words:
        return "text that begins with *, &, %, @, ` or ! is put in quotes"
    return None


class _Builder:
    """Turns PyYAML's nodes into values and notes their places."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._open: list[yaml.Node] = []
        self._left = MAX_VALUES

    def build(self, node: yaml.Node, path: Path) -> object:
        """The value of a node that stands at `path`. Raises: yaml.MarkedYAMLError."""
        self._document._values[path] = _mark(node)
        if isinstance(node, yaml.ScalarNode):
            self._count(node)
            return _scalar(node)
        with self._inside(node):
            if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
                return self._mapping(node.value, path)
            if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
                return [self.build(item, (*path, place)) for place, item in enumerate(node.value)]
            raise _foreign(node)

    def _count(self, node: yaml.Node) -> None:
        self._left -= 1
        if self._left < 0 or len(self._open) > MAX_DEPTH:
            raise _refused(node, f"more than {MAX_VALUES} values or {MAX_DEPTH} levels (aliases multiply them)")

    @contextmanager
    def _inside(self, node: yaml.Node) -> Iterator[None]:
        self._count(node)
        if node in self._open:
            raise _refused(node, "an alias that contains itself")
        self._open.append(node)
        yield
        self._open.pop()  # not in a finally: whatever is raised here ends the whole document

    def _mapping(self, pairs: _Pairs, path: Path) -> dict[str, object]:
        own: dict[str, object] = {}
        merged: list[yaml.Node] = []
        for key, value in pairs:
            if not isinstance(key, yaml.ScalarNode):
                raise _refused(key, "a key that is not text")
            at = (*path, key.value)
            if key.tag == _MERGE:
                merged.append(value)
            elif key.value in own:
                first = self._document._keys[at][0]
                what = f"the key stands twice, first in line {first}"
                self._document.problems.append(Problem(self._document.source, *_mark(key), dotted(at), what))
            else:
                self._document._keys[at] = _mark(key)
                own[key.value] = self.build(value, at)
        for value in merged:
            self._merge(value, path, own)
        return own

    def _merge(self, node: yaml.Node, path: Path, own: dict[str, object]) -> None:
        """Add what `<<` names: the mapping's own keys go before it, and an earlier source goes before a later."""
        for source in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            if not isinstance(source, yaml.MappingNode):
                raise _refused(node, "<< wants a mapping that stands elsewhere, or a list of them")
            with self._inside(source):
                new = [pair for pair in source.value if pair[0].tag == _MERGE or str(pair[0].value) not in own]
                own.update(self._mapping(new, path))


_Pairs: TypeAlias = list[tuple[yaml.Node, yaml.Node]]


def _scalar(node: yaml.ScalarNode) -> object:
    kind, text = node.tag.removeprefix(_TAG), node.value
    try:
        match kind:
            case "str" | "merge":
                return text
            case "null":
                return None
            case "bool":
                return {"true": True, "false": False}[text.lower()]
            case "int":
                return int(text)
            case "float":
                return float(text)
            case _:
                raise _foreign(node)
    except (KeyError, ValueError):
        raise _refused(node, f"not a value of the tag {_tag(node)}") from None


def _foreign(node: yaml.Node) -> _Refused:
    return _refused(node, f"a tag that means nothing here: {_tag(node)}")


def _refused(node: yaml.Node, problem: str) -> _Refused:
    return _Refused(problem=problem, problem_mark=node.start_mark)


def _tag(node: yaml.Node) -> str:
    return str(node.tag).replace(_TAG, "!!")


def _mark(node: yaml.Node) -> _Mark:
    return node.start_mark.line + 1, node.start_mark.column + 1
