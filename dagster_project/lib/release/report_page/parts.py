"""The few kinds of things that a section holds, and how a number becomes text.

Belongs: tables, lists, sentences, drawings; rounding for the eye.
Does not: what stands in them (``sections``, ``slider``).
Concept: text is rounded half up on the exact double, as the page's script does it, so that a number
reads the same whether Python or the browser wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from markupsafe import Markup

UNDEFINED = "undefined"
MAX_NAME = 120
MAX_ROWS = 200
"""Rows of one table; a page for 1,000 classes must stay below 2 MB."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Table:
    """Rows of text; the first cell of a row names it. ``wide``: cells by index that are words."""

    caption: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str | Markup, ...]]
    words: frozenset[int] = frozenset()
    kind: str = "table"


@dataclass(frozen=True)
class Items:
    """A list of sentences."""

    items: Sequence[str]
    kind: str = "items"


@dataclass(frozen=True)
class Text:
    """One sentence or a few; ``strong``: what a reader must not miss."""

    text: str
    strong: bool = False
    kind: str = "text"


@dataclass(frozen=True)
class Heading:
    """A heading inside a section."""

    text: str
    kind: str = "heading"


@dataclass(frozen=True)
class Figure:
    """A drawing and what it shows in words."""

    svg: Markup
    caption: str
    kind: str = "figure"


Part = Table | Items | Text | Heading | Figure


@dataclass(frozen=True)
class Section:
    """A part of the page; ``key`` is its anchor."""

    key: str
    title: str
    parts: Sequence[Part]


def fixed(value: float, places: int) -> str:
    """A decimal with so many places, half up on the exact double: JavaScript's ``toFixed``.

    >>> fixed(12.25, 1), fixed(0.145, 2), fixed(-0.04, 1)
    ('12.3', '0.14', '-0.0')
    """
    step = Decimal(1).scaleb(-places)
    return f"{Decimal(value).quantize(step, ROUND_HALF_UP):f}"


def count(value: float | None) -> str:
    """A whole number with thousands separated."""
    return UNDEFINED if value is None else f"{int(value):,}"


def percent(value: float | None, places: int = 1) -> str:
    """A share as per cent; null says so."""
    return UNDEFINED if value is None else f"{fixed(100 * value, places)} %"


def per_1000(value: float | None) -> str:
    """A share as a rate per 1,000."""
    return UNDEFINED if value is None else fixed(1000 * value, 1)


def points(value: float | None) -> str:
    """A difference of shares in percentage points, with its sign."""
    if value is None:
        return UNDEFINED
    text = fixed(100 * value, 1)
    return text if text.startswith("-") else f"+{text}"


def threshold(value: float | None) -> str:
    """A threshold: three decimals on the release grid, four or more off it."""
    if value is None:
        return "none"
    text = fixed(value, 3)
    return text if float(text) == value else fixed(value, 4)


def span(limits: Sequence[float] | None, show: Any = percent) -> str:
    """``low to high``; empty where there is no interval."""
    if limits is None:
        return ""
    low, high = show(limits[0]), show(limits[1])
    return f"{low.removesuffix(' %')} to {high}" if high.endswith(" %") else f"{low} to {high}"


def with_span(text: str, limits: Sequence[float] | None, show: Any = percent) -> str:
    """A value, and its interval in brackets where there is one."""
    return f"{text} ({span(limits, show)})" if limits is not None else text


def name(value: object) -> str:
    """A class, column or group as text: of bounded length, without control characters."""
    text = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(value))
    return text if len(text) <= MAX_NAME else text[: MAX_NAME - 1] + "…"


def words(key: str) -> str:
    """A key as words, where no better ones are known."""
    return name(key).replace("_", " ")


def amount(value: object) -> str:
    """Any plain value as text: whole numbers counted, others to four digits, null undefined."""
    if value is None:
        return UNDEFINED
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return count(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(amount(item) for item in value)
    return name(value)


def facts(values: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    """(words, text) of every value of a plain object, inner objects flattened."""
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        title = f"{before}{words(str(key))}"
        if isinstance(value, Mapping):
            rows += facts(value, f"{title}, ")
        else:
            rows.append((title, amount(value)))
    return rows


def capped(rows: Sequence[Any], what: str) -> tuple[Sequence[Any], list[Part]]:
    """The first rows, and a sentence where some are left out."""
    if len(rows) <= MAX_ROWS:
        return rows, []
    left = f"{MAX_ROWS} of {count(len(rows))} {what} are shown; all are in tier_reports.json."
    return rows[:MAX_ROWS], [Text(left)]


def interval(item: Mapping[str, Any], of: str = "") -> tuple[float, float] | None:
    """Low and high of a row, or of its rate ``of``; None unless both are known."""
    low, high = (item.get(f"{of}_{end}" if of else end) for end in ("low", "high"))
    return None if low is None or high is None else (low, high)


def said(value: bool | None, yes: str, no: str, unknown: str = "not tested") -> str:
    """A verdict in words; null is its own answer."""
    return unknown if value is None else yes if value else no
