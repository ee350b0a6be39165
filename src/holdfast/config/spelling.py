"""How a text value is spelled: its pattern, its words for people, and whether it may be shown, in one place.

Rules upheld here:
- The check of a value, its pattern in the JSON Schema and its type in the reference come from the same `Spelling`.
- What is `hidden` is never repeated in a message: where a file's or a variable's name belongs, people paste the secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from holdfast.errors import ConfigError

KIND = "holdfast"
"""The type of every error of ours among pydantic's own."""


def wrong(
    what: str, *, wanted: str | None = None, found: str | None = None, hint: str | None = None, hidden: bool = False
) -> PydanticCustomError:
    """An error for pydantic to collect. Without `found` the value itself is shown, unless it is `hidden`."""
    details = {"what": what, "wanted": wanted, "found": found, "hint": hint, "hidden": hidden}
    return PydanticCustomError(KIND, "{what}", details)


@dataclass(frozen=True, slots=True)
class Spelling:
    """Metadata for `Annotated[str, …]`.

    Args:
        words: what the value is, with its article: "a volume's name".
        rule: how it is spelled, in words.
        pattern: the same as an expression that Python and ECMAScript (JSON Schema) read alike.
        check: what no pattern can tell; gives the value, or raises ValueError or ConfigError saying what is wrong.
        hint: what to do about a wrong one.
        hidden: whether a wrong value may be a secret.
    """

    words: str
    rule: str
    pattern: str | None = None
    check: Callable[[str], str] | None = None
    hint: str | None = None
    hidden: bool = False

    def accept(self, text: str) -> str:
        """The value as it is used. Raises: PydanticCustomError."""
        if self.pattern and not re.fullmatch(self.pattern, text, re.ASCII):
            raise wrong(f"not {self.words}", wanted=self.rule, hint=self.hint, hidden=self.hidden)
        try:
            return self.check(text) if self.check else text
        except ConfigError as error:
            hint = error.hint or self.hint
            raise wrong(error.what, wanted=error.wanted, found=error.found, hint=hint, hidden=True) from None
        except ValueError as error:
            what = f"not {self.words}: {error}"
            raise wrong(what, wanted=self.rule, hint=self.hint, hidden=self.hidden) from None

    def __get_pydantic_core_schema__(self, source: type[Any], handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.accept, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        described = handler(schema)
        return {**described, "pattern": self.pattern} if self.pattern else described


def spellings(info: FieldInfo) -> Iterator[Spelling]:
    """Every spelling in a field's type, the parts of unions and lists included."""
    for item in (*info.metadata, *_metadata(info.annotation)):
        if isinstance(item, Spelling):
            yield item


def _metadata(annotation: Any) -> Iterator[object]:
    if get_origin(annotation) is Annotated:
        yield from annotation.__metadata__
    for part in get_args(annotation):
        yield from _metadata(part)


@dataclass(frozen=True, slots=True)
class Words:
    """Metadata: the type of a value in words, where they do not follow from the type itself."""

    words: str


@dataclass(frozen=True, slots=True)
class Commented:
    """Metadata: the sample shows this key as a comment, since it contradicts another one or is seldom needed."""


@dataclass(frozen=True, slots=True)
class SampleKey:
    """Metadata for a mapping whose keys are names: the one that the sample shows."""

    name: str
