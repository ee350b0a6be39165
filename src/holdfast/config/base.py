"""The base of every configuration model: strict, frozen, and complete in its complaints.

Rules upheld here:
- An unknown key is an error that names the nearest known one, or the place where it belongs.
- Wrong values and contradictions between keys are reported together: pydantic alone stops before comparing keys.
- What pydantic finds is said in Holdfast's words: what is wrong, wanted, found.
- A key that names a secret itself is refused with the reason.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from holdfast.config.spelling import KIND, spellings, wrong

_SECRETS = ("password", "passphrase", "access_key", "secret_key", "session_token")
_NO_SECRETS = "this file is committed, copied and backed up, so that no secret stands in it"

_WANTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "keys and values",
    "too_short": "one or more",
}
MISSING, UNKNOWN_KEY, SECRET_KEY = "missing", "unknown key", "a secret in the configuration"
EMPTY = "write what belongs there, or remove it"
_YAML = ("yes", "no", "on", "off", "y", "n")


class Model(BaseModel):
    """A mapping of the file. `shorthand` is the key that a plain text stands for where only that one is wanted."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    shorthand: ClassVar[str | None] = None

    @classmethod
    def contradictions(cls, given: Mapping[str, Any]) -> Iterator[PydanticCustomError]:  # noqa: ARG003 - for subclasses
        """What the keys that were given say against each other; their values are not checked yet."""
        yield from ()

    @model_validator(mode="wrap")
    @classmethod
    def _complain_at_once(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if isinstance(data, str) and cls.shorthand:
            data = {cls.shorthand: data}
        if not isinstance(data, (Mapping, cls)):
            raise ValidationError.from_exception_data(cls.__name__, [cls._misshapen(data)])
        if not isinstance(data, Mapping):
            return handler(data)
        meant = cls._meant(data)
        problems = [InitErrorDetails(type=error, input=None) for error in cls.contradictions(meant)]
        try:
            model = handler(data)
        except ValidationError as error:
            # A key that is only misspelled is not missing as well.
            found = [
                e for e in error.errors() if e["type"] != "missing" or len(e["loc"]) > 1 or e["loc"][0] not in meant
            ]
            problems.extend(cls._reworded(e) for e in found)
        if problems:
            raise ValidationError.from_exception_data(cls.__name__, problems)
        return model

    @classmethod
    def _misshapen(cls, data: Any) -> InitErrorDetails:
        wanted = f"text ({cls.shorthand}), or keys and values" if cls.shorthand else "keys and values"
        hint = _hint("string_type" if cls.shorthand else "model_type", data, hidden=False)
        return InitErrorDetails(type=wrong("not what belongs here", wanted=wanted, hint=hint), input=data)

    @classmethod
    def _meant(cls, data: Mapping[Any, Any]) -> dict[str, Any]:
        """What was given, under the keys that were probably meant; empty values count as absent."""
        given = {key: value for key, value in data.items() if value is not None}
        meant = {near: value for key, value in given.items() if (near := nearest(str(key), cls.model_fields))}
        return meant | {key: value for key, value in given.items() if key in cls.model_fields}

    @classmethod
    def _reworded(cls, error: ErrorDetails) -> InitErrorDetails:
        return InitErrorDetails(type=cls._reword(error), loc=error["loc"], input=error["input"])

    @classmethod
    def _reword(cls, error: ErrorDetails) -> PydanticCustomError:
        kind, value, context = error["type"], error["input"], error.get("ctx", {})
        if kind == KIND:
            return wrong(**context)
        name = str(error["loc"][0])
        if kind == "extra_forbidden":
            return cls._unknown(name)
        if kind == "missing":
            return wrong(MISSING, wanted=cls._example(name), hidden=True)
        spelled = list(spellings(cls.model_fields[name]))
        hidden = any(spelling.hidden for spelling in spelled)
        wanted = _WANTED.get(kind) or _bounds(context) or error["msg"]
        if kind == "string_type" and spelled:
            wanted = spelled[0].rule
        hint = _hint(kind, value, hidden=hidden)
        return wrong("not what belongs here", wanted=wanted, hint=hint, hidden=hidden)

    @classmethod
    def _unknown(cls, name: str) -> PydanticCustomError:
        choices = [f"{name}{end}" for end in ("_file", "_env") if f"{name}{end}" in cls.model_fields]
        if name in _SECRETS and choices:
            return wrong(SECRET_KEY, wanted=" or ".join(choices), hidden=True, hint=_NO_SECRETS)
        near = nearest(name, cls.model_fields)
        hint = f"did you mean {near}?" if near else None
        return wrong(UNKNOWN_KEY, wanted=None if near else ", ".join(cls.model_fields), hidden=True, hint=hint)

    @classmethod
    def _example(cls, name: str) -> str:
        info = cls.model_fields[name]
        words = next((spelling.words for spelling in spellings(info)), name)
        return f"{words}, for example {info.examples[0]}" if info.examples else words


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known key that was probably meant."""
    near = difflib.get_close_matches(name.lower().replace("-", "_"), known, n=1, cutoff=0.5)
    return near[0] if near else None


def _hint(kind: str, value: object, *, hidden: bool) -> str | None:
    """What to do about a value of the wrong type."""
    if value is None:
        return EMPTY
    if kind == "string_type" and isinstance(value, (bool, int, float)):
        return "put it in quotes"
    if kind == "bool_type" and isinstance(value, str) and value.lower() in _YAML:
        return "YAML 1.2 knows true and false only"
    if kind == "tuple_type" and isinstance(value, str) and not hidden:
        return f"a list of one is written in brackets: [{json.dumps(value, ensure_ascii=False)}]"
    return None


def _bounds(context: Mapping[str, Any]) -> str | None:
    if "expected" in context:
        return str(context["expected"]).replace("'", "")
    limits = [f"{words} {context[name]}" for name, words in (("ge", "at least"), ("le", "at most")) if name in context]
    return " and ".join(limits) or None


def exactly_one(given: Mapping[str, Any], *names: str) -> Iterator[PydanticCustomError]:
    """A contradiction unless one of these keys is there, and no other of them."""
    if not any(name in given for name in names):
        yield wrong(MISSING, wanted=f"one of {', '.join(names)}", hidden=True)
    yield from at_most_one(given, *names)


def at_most_one(given: Mapping[str, Any], *names: str) -> Iterator[PydanticCustomError]:
    """A contradiction when more than one of these keys is there."""
    found = [name for name in names if name in given]
    if len(found) > 1:
        yield wrong("these exclude each other", wanted=f"one of {', '.join(names)}", found=" and ".join(found))
