"""Properties: what is written is read back; any misspelled key is found, in its line, with the key that was meant."""

from __future__ import annotations

import difflib
import re
import string
from typing import Any

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from holdfast.config.loading import dump, from_yaml
from holdfast.config.models import Config
from holdfast.config.problems import InvalidConfig
from holdfast.config.sample import sample
from holdfast.config.shapes import Holding, Section, whole

DOCKER_NAMES = st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{1,20}", fullmatch=True)
STACK_NAMES = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,20}", fullmatch=True) | st.sampled_from(
    ["no", "on", "null", "1", "true"]
)
LINES = st.text(st.characters(blacklist_categories=("Cc", "Cs")), min_size=1, max_size=20)
PATHS = st.lists(LINES.filter(lambda t: "/" not in t and t not in (".", "..")), min_size=1, max_size=3).map(
    lambda parts: "/" + "/".join(parts)
)
SCHEDULES = st.fixed_dictionaries(
    {"cron": st.sampled_from(["0 3 * * *", "*/5 * * * *", "30 4 * * sun"])},
    optional={"timezone": st.sampled_from(["UTC", "Europe/Berlin", "America/New_York"])},
)
EXCLUDES = st.lists(st.sampled_from(["*.tmp", "cache/**", "no", "~", "- a", "#x", "a: b"]), max_size=3)


def _sources(key: str, names: st.SearchStrategy[str]) -> st.SearchStrategy[list[Any]]:
    full = st.fixed_dictionaries({key: names}, optional={"exclude": EXCLUDES, "allow_empty": st.booleans()})

    def name_of(item: Any) -> str:
        return str(item if isinstance(item, str) else item[key])

    return st.lists(names | full, max_size=3, unique_by=name_of)


POSTGRES = st.lists(
    st.fixed_dictionaries(
        {"name": DOCKER_NAMES, "container": DOCKER_NAMES},
        optional={
            "user": LINES.filter(lambda text: len(text) < 64),
            "databases": st.just("all") | st.lists(LINES, min_size=1, max_size=3, unique=True),
            "compare": st.sampled_from(["digest", "rows"]),
            "password_env": st.just("A_WORD"),
        },
    ),
    max_size=2,
    unique_by=lambda item: str(item["name"]),
)
RETENTIONS = st.fixed_dictionaries(
    {"keep_last": st.integers(1, 100)},
    optional={"keep_daily": st.integers(1, 10**6), "keep_within": st.just("1y2m3d4h"), "schedule": SCHEDULES},
)
STACKS = st.fixed_dictionaries(
    {"volumes": _sources("name", DOCKER_NAMES), "paths": _sources("path", PATHS), "postgres": POSTGRES},
    optional={"schedule": SCHEDULES, "retention": RETENTIONS, "drill": SCHEDULES},
).filter(lambda stack: any(stack[key] for key in ("volumes", "paths", "postgres")))
CONFIGS = st.fixed_dictionaries(
    {
        "version": st.just(1),
        "repository": st.fixed_dictionaries(
            {
                "url": st.sampled_from(["/srv/b", "s3:https://h/bucket", "s3://bucket/p"]),
                "password_env": st.just("WORD"),
            },
            optional={"compression": st.sampled_from(["auto", "off", 1, 19])},
        ),
        "stacks": st.dictionaries(STACK_NAMES, STACKS, max_size=2),
    },
    optional={"timezone": st.sampled_from(["UTC", "Asia/Tokyo"]), "verify": SCHEDULES, "hostname": DOCKER_NAMES},
)


@settings(max_examples=60, deadline=None)
@given(CONFIGS)
def test_what_is_written_is_read_back(values: dict[str, Any]) -> None:
    config = Config.model_validate(values)
    written = dump(config)
    assert from_yaml(written) == config
    assert dump(from_yaml(written)) == written
    assert Config.model_validate(config.model_dump()) == config


def _keys() -> list[tuple[int, str, Section]]:
    """Each key of the sample that is in force: its line, its name, and the section that it stands in."""
    found: list[tuple[int, str, Section]] = []
    around: list[tuple[int, Section]] = [(0, whole())]
    for number, line in enumerate(sample().splitlines(), start=1):
        match = re.match(r"( *)(- )?([a-z_0-9]+):", line)
        if not match:
            continue
        indent, key = len(match[1] + (match[2] or "")), match[3]
        level = next((level for level, (column, _) in enumerate(around) if column == indent), None)
        if level is None:
            continue  # a stack's name: anything can be one
        del around[level + 1 :]
        section = around[-1][1]
        option = next((option for option in section.options if option.key == key), None)
        assert option is not None, line
        found.append((number, key, section))
        if option.section:
            around.append((indent + (4 if option.holding is not Holding.ONE else 2), option.section))
    return found


KEYS = _keys()
LETTERS = st.sampled_from(string.ascii_lowercase + "_-")


@st.composite
def misspelled(draw: st.DrawFn, key: str) -> str:
    place = draw(st.integers(0, len(key) - 1))
    letter = draw(LETTERS)
    changes = {
        "dropped": key[:place] + key[place + 1 :],
        "doubled": key[:place] + key[place] + key[place:],
        "replaced": key[:place] + letter + key[place + 1 :],
        "added": key[:place] + letter + key[place:],
        "swapped": key[:place] + key[place : place + 2][::-1] + key[place + 2 :],
        "capital": key[:place] + key[place].upper() + key[place + 1 :],
        "dashed": key.replace("_", "-"),
    }
    return changes[draw(st.sampled_from(sorted(changes)))]


def test_the_keys_are_found() -> None:
    assert len(KEYS) > 40
    assert {key for _, key, _ in KEYS} >= {
        "version",
        "url",
        "s3",
        "keep_within",
        "cron",
        "exclude",
        "read_data",
        "databases",
    }


def _likeness(left: str, right: str) -> float:
    return difflib.SequenceMatcher(None, left, right).ratio()


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(KEYS).flatmap(lambda at: st.tuples(st.just(at), misspelled(at[1]))))
@example((KEYS[0], "Version"))
def test_a_misspelled_key_is_found_in_its_line(change: tuple[tuple[int, str, Section], str]) -> None:
    (number, key, section), wrong = change
    known = [option.key for option in section.options]
    assume(wrong and wrong not in known and not wrong.startswith(("x-", "-")))
    lines = sample().splitlines()
    lines[number - 1] = lines[number - 1].replace(f"{key}:", f"{wrong}:", 1)
    problems: tuple[Any, ...] = ()
    try:
        from_yaml("\n".join(lines))
    except InvalidConfig as error:
        problems = error.problems
    unknown = [problem for problem in problems if problem.what == "unknown key"]
    assert [(problem.line, problem.path.rpartition(".")[2].strip('"')) for problem in unknown] == [(number, wrong)]
    named = re.fullmatch(r"did you mean (\w+)\?", unknown[0].hint or "")
    if named is None:  # only a key that is another section's own, or like none of this one, goes without
        assert (unknown[0].hint or "").startswith("it belongs in") or _likeness(wrong.lower(), key) < 0.5
    else:
        assert named[1] in known
        plain = wrong.lower().replace("-", "_")
        assert named[1] == key or _likeness(plain, named[1]) >= _likeness(plain, key)
    # Nothing else is made of one wrong key, but what its absence really changes.
    assert len(problems) == 1 or named is None or named[1] != key
