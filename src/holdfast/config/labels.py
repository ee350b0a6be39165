"""Labels on volumes and containers: what they say together.

Rules upheld here:
- A label that is wrong or unknown is a warning that names the nearest one, and changes nothing: a spelling mistake on
  one container must not stop the backup of the others.
- `backup=daily` and `backup-schedule=daily`, which many people have on their volumes already, are understood.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from holdfast.config.label_table import LABELS, On
from holdfast.config.label_values import NO, YES, schedule

PREFIX = "holdfast."
OWN = (
    "holdfast.created",
    "holdfast.restored",
    "holdfast.sandbox",
    "holdfast.sidecar",
    "holdfast.demo",
    "holdfast.definition",
)
"""Labels that Holdfast itself sets: they say nothing about what is wanted."""

_BY_NAME = {label.name: label for label in LABELS}
_OTHERS = ("backup", "backup-schedule")


@dataclass(frozen=True, slots=True)
class Said:
    """What the labels of one volume or container say, by the part of the name after `holdfast.`; and what is wrong.

    `keys` gives the whole name of the label that said each.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    keys: Mapping[str, str] = field(default_factory=dict)


def read_labels(labels: Mapping[str, str], on: On, name: str) -> Said:
    """What the labels of the volume or container `name` say."""
    values: dict[str, Any] = {}
    keys: dict[str, str] = {}
    warnings: list[str] = []
    for key, text in sorted(labels.items()):
        if key in _OTHERS:
            others = _others(key, text, f"{on} {name}", warnings)
            values, keys = {**others, **values}, {**dict.fromkeys(others, key), **keys}
        if not key.startswith(PREFIX) or key.startswith(OWN):
            continue
        label = _BY_NAME.get(key)
        if label is None or on not in label.on:
            warnings.append(_unknown(key, on, name))
            continue
        try:
            values[key.removeprefix(PREFIX)] = label.read(text)
            keys[key.removeprefix(PREFIX)] = key
        except ValueError as error:
            warnings.append(f"{on} {name}: label {key}={text!r} is not {label.words}: {error}; it is ignored")
    return Said(values, tuple(warnings), keys)


def _others(key: str, text: str, where: str, warnings: list[str]) -> dict[str, Any]:
    """What `backup=daily` means: back it up, then."""
    word = text.strip().lower()
    if word in NO:
        return {"enable": False}
    if word in YES or not word:
        return {"enable": True}
    try:
        return {"enable": True, "schedule": schedule(text)}
    except ValueError as error:
        warnings.append(f"{where}: label {key}={text!r} is no schedule: {error}; it is backed up, by hand only")
        return {"enable": True}


def _unknown(key: str, on: On, name: str) -> str:
    known = _BY_NAME.get(key)
    if known is not None:
        return f"{on} {name}: label {key} belongs on a {' or '.join(known.on)}; it is ignored"
    near = difflib.get_close_matches(key, [label.name for label in LABELS if on in label.on], n=1, cutoff=0.5)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"{on} {name}: there is no label {key}{hint}; it is ignored"
