"""How sizes grow, as pictures: on the status page, and as one picture that stands alone.

Rules upheld here:
- The picture carries its own style and background, and names no other address: it is whole wherever it is shown.
- What grows is said in words above each plot: the picture is for the shape, the words are for the number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from markupsafe import Markup

from holdfast.model.monitor import Trend
from holdfast.model.words import growth, printable, seconds, size
from holdfast.reports.plot import HEIGHT, WIDTH, plot, plot_style, size_step

_MARGIN, _WORDS = 14, 44
_STYLE = Markup(
    "text { font-family: system-ui, 'Liberation Sans', 'DejaVu Sans', sans-serif; } "
    ".back { fill: var(--back); } .title { fill: var(--ink); font-size: 14px; font-weight: 600; } "
    ".words { fill: var(--soft); font-size: 12px; }"
)


def trend_words(trend: Trend) -> str:
    """A trend in words: how much there is, how it grows, when it is full."""
    used = size(trend.now)
    if trend.limit:
        used += f" of {size(trend.limit)} used ({trend.now / trend.limit:.0%})"
    return ", ".join(filter(None, [used, f"growth {growth(trend.per_day)}", full_words(trend)]))


def full_words(trend: Trend) -> str:
    """When it will be full by its trend; empty where it has no limit or does not grow."""
    return "" if trend.full_in is None else f"full in {seconds(trend.full_in)}"


def growth_plot(trend: Trend) -> Markup:
    """The size over time, with its limit as a line across."""
    points = [(when, value, True) for when, value in trend.points]
    return plot(
        points,
        title=f"{trend.kind} {printable(trend.name)}: {trend_words(trend)}",
        words=size,
        step=size_step,
        limit=trend.limit,
        limit_word="full",
        marked=False,
    )


def storage_picture(trends: Sequence[Trend]) -> str | None:
    """One SVG with a plot for each trend that has points; None when none has."""
    shown = [trend for trend in trends if trend.points]
    if not shown:
        return None
    height = _MARGIN + len(shown) * (HEIGHT + _WORDS)
    width = WIDTH + 2 * _MARGIN
    return Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {0} {1}" width="{0}" height="{1}"><style>{2}</style>'
        '<rect class="back" width="{0}" height="{1}"/>{3}</svg>'
    ).format(width, height, plot_style() + _STYLE, Markup("").join(_panels(shown)))


def _panels(shown: Sequence[Trend]) -> Iterator[Markup]:
    for number, trend in enumerate(shown):
        yield Markup(
            '<g transform="translate({} {})"><text class="title" y="12">{} {}</text>'
            '<text class="words" y="29">{}</text><g transform="translate(0 36)">{}</g></g>'
        ).format(
            _MARGIN,
            _MARGIN + number * (HEIGHT + _WORDS),
            trend.kind,
            printable(trend.name),
            trend_words(trend),
            growth_plot(trend),
        )
