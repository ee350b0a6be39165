"""A plot of values over time, as inline SVG whose colours come from plot.css (light and dark).

Rules upheld here:
- The axis of values starts at zero: a plot that starts elsewhere makes small things look large.
- Every mark has a title, so that a pointer or a screen reader gets the exact value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import TypeAlias

from markupsafe import Markup, escape

from holdfast.model.words import seconds

Point: TypeAlias = tuple[datetime, float, bool]
"""When, how much, and whether it is good."""

WIDTH, HEIGHT = 560, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 12, 12, 26
_LINES = 4
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400)


def time_step(wanted: float) -> float:
    """The distance of grid lines for lengths of time: one that people count in, in seconds."""
    if wanted < 1:
        tens = 10 ** math.floor(math.log10(wanted))
        return float(tens) * (5 if wanted > 5 * tens else 2)
    return float(next((step for step in _STEPS if step >= wanted), math.ceil(wanted / 86400) * 86400))


def size_step(wanted: float) -> float:
    """The same for sizes in bytes: a power of two."""
    return float(2 ** max(0, math.ceil(math.log2(wanted))))


def plot(
    points: Sequence[Point],
    *,
    title: str,
    words: Callable[[float], str] = seconds,
    step: Callable[[float], float] = time_step,
    limit: float | None = None,
    limit_word: str = "objective",
    marked: bool = True,
) -> Markup:
    """The plot; `limit` is drawn as a line across. Without `marked` only the newest of many points has a mark."""
    if not points:
        return Markup('<p class="none">no values yet</p>')
    scale = _Scale(points, limit, step)
    parts = [
        *_grid(scale, words),
        *_limit(scale, limit, words, limit_word),
        _line(scale, points),
        *_marks(scale, points if marked else points[-1:], words),
    ]
    return Markup('<svg viewBox="0 0 {0} {1}" width="{0}" height="{1}" role="img" aria-label="{2}">{3}</svg>').format(
        WIDTH, HEIGHT, title, Markup("").join(parts)
    )


@cache
def plot_style() -> Markup:
    """The style that plots need."""
    return Markup((files("holdfast.reports") / "plot.css").read_text(encoding="utf-8"))  # noqa: S704  our own file


class _Scale:
    """From moments and values to coordinates."""

    def __init__(self, points: Sequence[Point], limit: float | None, step: Callable[[float], float]) -> None:
        self.first, self.last = points[0][0], points[-1][0]
        if self.last - self.first < timedelta(seconds=1):
            self.first, self.last = self.first - timedelta(hours=12), self.last + timedelta(hours=12)
        highest = max([limit or 0.0, *(value for _, value, _ in points)])
        self.step = step(highest / _LINES) if highest > 0 else 1.0
        self.top = max(self.step, math.ceil(highest / self.step) * self.step)

    def x(self, when: datetime) -> float:
        share = (when - self.first) / (self.last - self.first)
        return _LEFT + share * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return _TOP + (1 - value / self.top) * (HEIGHT - _TOP - _BOTTOM)


def _grid(scale: _Scale, words: Callable[[float], str]) -> Iterator[Markup]:
    for number in range(round(scale.top / scale.step) + 1):
        value = number * scale.step
        yield Markup(
            '<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>'
            '<text class="label" x="{}" y="{:.1f}" text-anchor="end">{}</text>'
        ).format(_LEFT, WIDTH - _RIGHT, scale.y(value), scale.y(value), _LEFT - 6, scale.y(value) + 4, words(value))
    for when, anchor in ((scale.first, "start"), (scale.last, "end")):
        yield Markup('<text class="label" x="{:.1f}" y="{}" text-anchor="{}">{}</text>').format(
            scale.x(when), HEIGHT - 6, anchor, f"{when:%Y-%m-%d %H:%M}"
        )


def _limit(scale: _Scale, limit: float | None, words: Callable[[float], str], name: str) -> Iterator[Markup]:
    if limit is not None:
        yield Markup('<line class="limit" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"><title>{}: {}</title></line>').format(
            _LEFT, WIDTH - _RIGHT, scale.y(limit), scale.y(limit), name, words(limit)
        )


def _line(scale: _Scale, points: Sequence[Point]) -> Markup:
    path = " ".join(f"{scale.x(when):.1f},{scale.y(value):.1f}" for when, value, _ in points)
    return Markup('<polyline class="line" points="{}"/>').format(path)


def _marks(scale: _Scale, points: Sequence[Point], words: Callable[[float], str]) -> Iterator[Markup]:
    for when, value, good in points:
        told = f"{when:%Y-%m-%d %H:%M} UTC: {words(value)}{'' if good else ', failed'}"
        yield Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="4"><title>{}</title></circle>').format(
            "good" if good else "bad", scale.x(when), scale.y(value), escape(told)
        )
