"""YAML to values and places: what is accepted, what is not, and where."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.config.document import dotted, parse
from holdfast.config.problems import InvalidConfig, Problem


def refused(text: str) -> str:
    with pytest.raises(InvalidConfig) as caught:
        parse(text, "f")
    assert len(caught.value.problems) == 1
    report = caught.value.report()
    assert "\n" not in report
    return report


def test_knows_places() -> None:
    document = parse("a:\n  b: [1, {c: x}]\n", "f")
    assert document.data == {"a": {"b": [1, {"c": "x"}]}}
    problem = document.problem(("a", "b", 1, "c"), "bad")
    assert str(problem) == "f:2:14: a.b[1].c: bad"
    assert str(document.problem(("a", "b", 1, "c"), "bad", key=True)) == "f:2:11: a.b[1].c: bad"
    assert str(document.problem(("a", "none"), "missing")) == "f:1:1: a.none: missing"
    assert str(document.problem(("none",), "missing")) == "f:1:1: none: missing"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("FALSE", False),
        ("12", 12),
        ("-3", -3),
        ("1.5", 1.5),
        ("~", None),
        ("null", None),
        ("", None),
        ("'12'", "12"),
        ("!!str 12", "12"),
    ],
)
def test_scalars_that_all_readers_agree_on(text: str, value: object) -> None:
    found = parse(f"v: {text}", "f").data
    assert found == {"v": value}
    assert isinstance(found, dict)
    assert type(found["v"]) is type(value)


@pytest.mark.parametrize(
    "text",
    ["yes", "no", "on", "Off", "y", "010", "0x1F", "1_000", "12:30:45", "2024-01-01", "1e3", ".5", ".inf", "0o7"],
)
def test_scalars_that_readers_disagree_on_stay_text(text: str) -> None:
    assert parse(f"v: {text}", "f").data == {"v": text}


def test_keys_are_text() -> None:
    assert parse("on: 1\n010: 2\nnull: 3\n1: 4\n", "f").data == {"on": 1, "010": 2, "null": 3, "1": 4}


def test_duplicate_keys_are_named_and_the_rest_is_read() -> None:
    document = parse("a: 1\nb:\n  c: 1\n  'c': 2\na: 3\nd: 4\n", "f")
    assert [str(problem) for problem in document.problems] == [
        "f:4:3: b.c: the key stands twice, first in line 3",
        "f:5:1: a: the key stands twice, first in line 1",
    ]
    assert document.data == {"a": 1, "b": {"c": 1}, "d": 4}


def test_anchors_and_merges() -> None:
    text = """\
base: &base {a: 1, b: 1}
more: &more {b: 2, c: 2}
one: {<<: *base, b: 9}
two: {<<: [*more, *base], d: 4}
nested: &nested {<<: *base, e: 5}
three: {<<: *nested}
list: [*base, *base]
"""
    document = parse(text, "f")
    assert not document.problems
    assert isinstance(document.data, dict)
    assert document.data["one"] == {"a": 1, "b": 9}
    assert document.data["two"] == {"a": 1, "b": 2, "c": 2, "d": 4}
    assert document.data["three"] == {"a": 1, "b": 1, "e": 5}
    assert document.data["list"] == [{"a": 1, "b": 1}] * 2
    assert document.data == yaml.safe_load(text)
    assert str(document.problem(("two", "b"), "bad")) == "f:2:17: two.b: bad"


@pytest.mark.parametrize(
    ("text", "report"),
    [
        ("a:\n\tb: 1\n", "f:2:1: a tab: wanted spaces: YAML is not indented by tabs"),
        ("a: 1\n---\nb: 2\n", "f:2:1: a second document begins: wanted one document (remove the ---)"),
        ("a: &x [*x]\n", "f:1:4: an alias that contains itself"),
        ("a: &x {<<: *x}\n", "f:1:4: an alias that contains itself"),
        ("a: !!python/object:os.system x\n", "f:1:4: a tag that means nothing here: !!python/object:os.system"),
        ("a: !Ref x\n", "f:1:4: a tag that means nothing here: !Ref"),
        ("a: !!set {x}\n", "f:1:4: a tag that means nothing here: !!set"),
        ("a: !!int x\n", "f:1:4: not a value of the tag !!int"),
        ("a: !!bool yes\n", "f:1:4: not a value of the tag !!bool"),
        ("? [a, b]\n: 1\n", "f:1:3: a key that is not text"),
        ("a: {<<: 1}\n", "f:1:9: << wants a mapping that stands elsewhere, or a list of them"),
        ("a: 1\n\x07: 2\n", "f:2:1: a character that YAML does not allow: U+0007"),
        ("a: " + "[" * 60 + "]" * 60, "f:1:44: more than 20000 values or 40 levels (aliases multiply them)"),
        ("[" * 5_000, "f:1:1: the values are nested too deeply"),
    ],
)
def test_refuses_in_one_line(text: str, report: str) -> None:
    assert refused(text) == report


@pytest.mark.parametrize(
    ("text", "start", "hint"),
    [
        ("a: b: c\n", "f:1:5: not valid YAML: mapping values are not allowed here", "put in quotes"),
        ("a: @daily\n", "f:1:4: not valid YAML: found character '@'", "put in quotes"),
        ("a: *\n", "f:1:5: not valid YAML:", "put in quotes"),
        ("a: [1, 2\nb: 3\n", "f:2:2: not valid YAML:", ""),
        ("a: *none\n", "f:1:4: not valid YAML: found undefined alias 'none'", ""),
        ("a: 'open\n", "f:2:1: not valid YAML: found unexpected end of stream", ""),
    ],
)
def test_says_what_the_parser_found(text: str, start: str, hint: str) -> None:
    report = refused(text)
    assert report.startswith(start)
    assert hint in report


def test_aliases_cannot_fill_the_memory() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert "aliases multiply" in refused("\n".join(lines))
    merges = ["a0: &a0 {}"]
    merges += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 10)]
    assert "aliases multiply" in refused("\n".join(merges))


def test_dotted() -> None:
    assert dotted(("stacks", "a.b", "volumes", 0, "name")) == 'stacks."a.b".volumes[0].name'
    assert dotted(()) == ""


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=50, deadline=None)
@given(PLAIN)
def test_what_pyyaml_writes_is_read_as_pyyaml_reads_it(value: object) -> None:
    text = yaml.safe_dump({"v": value}, allow_unicode=True)
    assert parse(text, "f").data == yaml.safe_load(text)


@settings(deadline=None)
@given(st.text(max_size=60) | st.text(alphabet="ab:-[]{}&*!<>?|'\"#\n\t ,0", max_size=40))
def test_any_text_is_a_document_or_an_error_of_ours(text: str) -> None:
    found: tuple[Problem, ...] = ()
    try:
        parse(text, "f")
    except InvalidConfig as error:
        found = error.problems or (Problem("f", 0, 0, "", "an error without a problem"),)
    assert all(problem.line >= 1 and problem.column >= 1 for problem in found)
