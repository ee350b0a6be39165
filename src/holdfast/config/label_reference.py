"""The reference of labels, `docs/reference/labels.md`, made from the table that reads them."""

from __future__ import annotations

from collections.abc import Iterator

from holdfast.config.label_table import LABELS

_HEAD = """\
# Labels

This page is made from the table that reads them: `python -m holdfast.config write` makes it again. Do not edit it.

Labels on volumes and containers say what a configuration file could say, where the stack itself is described: in its
Compose file. A stack is by default one Compose project.

- The configuration goes before labels, labels before defaults. `holdfast plan` shows for each thing what is done, and
  which rule said so.
- A label that is unknown, misspelled or wrong changes nothing; `holdfast plan` and every backup warn of it, with the
  nearest name.
- What holds for the whole stack (schedule, retention, drill) may stand on any of its volumes or containers. When two
  differ, that of the first by name holds, and a warning says so.
- `backup=daily` and `backup-schedule=daily` (or `hourly`, `weekly`, `monthly`, a cron expression, `true`, `false`) are
  understood as `holdfast.enable` with `holdfast.schedule`.

```yaml
services:
  cache:
    image: redis:7
    labels:
      holdfast.pre: redis-cli save
    volumes: [cache:/data]
volumes:
  cache:
    labels:
      holdfast.enable: "true"
      holdfast.schedule: daily
      holdfast.quiesce: pause
```

| Label | On | Value | Meaning | Example |
|---|---|---|---|---|
"""


def label_reference() -> str:
    """The page `docs/reference/labels.md`."""
    return _HEAD + "".join(_rows())


def _rows() -> Iterator[str]:
    for label in LABELS:
        cells = (f"`{label.name}`", " or ".join(label.on), label.words, label.meaning, f"`{label.example}`")
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"
