"""Pages from templates: everything that is filled in is escaped, whatever it holds."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from holdfast.model.words import count, growth, seconds, size
from holdfast.reports.picture import growth_plot, trend_words
from holdfast.reports.plot import plot, plot_style
from holdfast.services.audit import AuditReport, series


def audit_page(report: AuditReport) -> str:
    """The auditor's report as one self-contained HTML file."""
    return page("audit.html.j2", report=report, series=series)


def page(template: str, **values: Any) -> str:
    """A page of this package, filled."""
    return (
        _environment()
        .get_template(template)
        .render(style=_style(), plot=plot, growth_plot=growth_plot, trend_words=trend_words, **values)
    )


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("holdfast.reports", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(utc=_utc, span=_span, size=size, growth=growth, count_of=count, files_growth=_files_growth)
    return made


@cache
def _style() -> Markup:
    own = (files("holdfast.reports") / "style.css").read_text(encoding="utf-8")
    return plot_style() + Markup(own)  # noqa: S704  our own file


def _utc(when: datetime) -> str:
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _span(length: float | None) -> str:
    return "" if length is None else seconds(length)


def _files_growth(per_day: float | None) -> str:
    return growth(per_day, count)
