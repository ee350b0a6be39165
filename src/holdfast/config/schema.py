"""The JSON Schema of `holdfast.yaml`, for editors: completion, and red lines while one types.

What a schema cannot say (a time zone that exists, one of two keys) is checked when the file is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from holdfast.config.models import Config
from holdfast.config.shapes import sections, whole


def schema() -> dict[str, Any]:
    """The schema, draft 2020-12."""
    made = Config.model_json_schema()
    names = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Holdfast configuration"}
    own = {"patternProperties": {"^x-": {"description": "Your own: a place for anchors. It is not read."}}}
    shorthands = _shorthands(made["$defs"])
    return {**names, **{key: _shortened(value, shorthands) for key, value in made.items() if key != "title"}, **own}


def schema_text() -> str:
    """The schema as it is committed."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def _shorthands(definitions: Mapping[str, Any]) -> dict[str, Any]:
    """For each mapping that may be written as a plain text: the schema of that text, by the mapping's reference."""
    keys = {section.model: section.shorthand for section in sections(whole()) if section.shorthand}
    return {f"#/$defs/{name}": _shortened(definitions[name]["properties"][key], {}) for name, key in keys.items()}


def _shortened(value: Any, shorthands: Mapping[str, Any]) -> Any:
    """The same schema, with the plain text allowed wherever one of those mappings is, and without idle titles."""
    if isinstance(value, list):
        return [_shortened(item, shorthands) for item in value]
    if not isinstance(value, dict):
        return value
    value = {key: item for key, item in value.items() if key != "title" or not isinstance(item, str)}
    if value.get("$ref") in shorthands:
        rest = {key: item for key, item in value.items() if key != "$ref"}
        return {**rest, "anyOf": [shorthands[value["$ref"]], {"$ref": value["$ref"]}]}
    closed = {"additionalProperties": False} if "patternProperties" in value else {}
    return {**{key: _shortened(item, shorthands) for key, item in value.items()}, **closed}
