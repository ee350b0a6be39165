"""The configuration's shape as data: its sections, and each key with type, default, meaning and example.

The sample, the reference and the hints for misplaced keys are made from it, so that none of them can differ from the
models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from holdfast.config.base import Model
from holdfast.config.models import Config
from holdfast.config.spelling import Commented, SampleKey, Spelling, Words


class Holding(Enum):
    """How a section hangs in the one above it."""

    ONE = auto()
    LIST = auto()
    NAMED = auto()


@dataclass(frozen=True, slots=True)
class Option:
    """One key. `words` is its type for people; `section` what it leads to, if it does."""

    key: str
    words: str
    required: bool
    default: object
    meaning: str
    examples: tuple[Any, ...]
    commented: bool = False
    section: Section | None = None
    holding: Holding = Holding.ONE
    sample_key: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """One mapping: its place (`stacks.NAME.volumes[]`), the model it is made from, its meaning, and its keys."""

    place: str
    model: str
    meaning: str
    shorthand: str | None
    options: tuple[Option, ...]


@cache
def whole() -> Section:
    """The whole file."""
    return _section(Config, "")


def sections(start: Section) -> Iterator[Section]:
    """A section and all below it, in the order of the file."""
    yield start
    for option in start.options:
        if option.section:
            yield from sections(option.section)


def home_of(key: str) -> str | None:
    """Where a key is at home: `stacks.NAME.retention`; None when no section, or the file itself, has it."""
    homes = [part.place for part in sections(whole()) for option in part.options if option.key == key and part.place]
    return " or ".join(homes) or None


def _section(model: type[Model], place: str) -> Section:
    options = tuple(_option(key, info, place) for key, info in model.model_fields.items())
    meaning = (model.__doc__ or "").strip().splitlines()[0]
    return Section(place, model.__name__, meaning, model.shorthand, options)


def _option(key: str, info: FieldInfo, place: str) -> Option:
    at = f"{place}.{key}" if place else key
    model, holding = _model_within(info.annotation)
    names = [item.name for item in info.metadata if isinstance(item, SampleKey)]
    suffix = {Holding.ONE: "", Holding.LIST: "[]", Holding.NAMED: ".NAME"}[holding]
    default = None if info.is_required() or isinstance(info.default, BaseModel) else info.default
    return Option(
        key=key,
        words=_words(info, model, holding),
        required=info.is_required(),
        default=default if default not in ((), {}) else None,
        meaning=info.description or "",
        examples=tuple(info.examples or ()),
        commented=any(isinstance(item, Commented) for item in info.metadata),
        section=_section(model, at + suffix) if model else None,
        holding=holding,
        sample_key=names[0] if names else "",
    )


def _model_within(annotation: Any) -> tuple[type[Model] | None, Holding]:
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return annotation, Holding.ONE
    origin, parts = get_origin(annotation), get_args(annotation)
    for part in parts:
        model, holding = _model_within(part)
        if model:
            return model, {tuple: Holding.LIST, Mapping: Holding.NAMED}.get(origin, holding)
    return None, Holding.ONE


def _words(info: FieldInfo, model: type[Model] | None, holding: Holding) -> str:
    given = [item.words for item in info.metadata if isinstance(item, Words)]
    if given:
        return given[0]
    if model is None:
        return _type_words(info.annotation, info.metadata)
    keys = f"text ({model.shorthand}) or keys and values" if model.shorthand else "keys and values"
    return {Holding.ONE: keys, Holding.LIST: f"list: {keys} each", Holding.NAMED: "names, with keys and values each"}[
        holding
    ]


def _type_words(annotation: Any, metadata: list[Any] | tuple[Any, ...] = ()) -> str:
    for item in metadata:
        if isinstance(item, (Spelling, Words)):
            return item.words
    origin, parts = get_origin(annotation), [part for part in get_args(annotation) if part not in (NoneType, Ellipsis)]
    if origin is Annotated:
        return _type_words(parts[0], annotation.__metadata__)
    if origin in (Union, UnionType):
        return " or ".join(_type_words(part) for part in parts)
    if origin is Literal:
        return " or ".join(f"`{part}`" for part in parts)
    if origin is tuple:
        return f"list: {_type_words(parts[0])} each"
    return {bool: "true or false", int: "a whole number", str: "text"}[annotation]
