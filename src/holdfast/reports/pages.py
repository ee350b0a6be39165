"""Pages from templates: everything that is filled in is escaped, whatever it holds."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from holdfast.model.words import seconds, size
from holdfast.reports.plot import plot
from holdfast.services.audit import AuditReport, series


def audit_page(report: AuditReport) -> str:
    """The auditor's report as one self-contained HTML file."""
    return page("audit.html.j2", report=report, series=series)


def page(template: str, **values: Any) -> str:
    """A page of this package, filled."""
    return _environment().get_template(template).render(style=_style(), plot=plot, **values)


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("holdfast.reports", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(utc=_utc, span=_span, size=size)
    return made


@cache
def _style() -> Markup:
    return Markup((files("holdfast.reports") / "style.css").read_text(encoding="utf-8"))  # noqa: S704  our own file


def _utc(when: datetime) -> str:
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _span(count: float | None) -> str:
    return "" if count is None else seconds(count)
