"""Markdown that our reports are made of: tables, and text that means nothing else in them.

Belongs: what every report shares. Does not: any wording (each beside the numbers it tells).
Concept: a name comes from people and may hold anything; it is text, and stays in its cell.
"""

from __future__ import annotations

from collections.abc import Sequence


def cell(text: object) -> str:
    r"""Text that stays in its cell and means nothing else in Markdown.

    >>> cell("a | b\n*c*")
    'a \\| b \\*c\\*'
    >>> cell("![a](b) `c`")
    '!\\[a](b) \\`c\\`'
    """
    plain = " ".join(str(text).split())
    for mark in ("\\", "|", "*", "<", "[", "`"):
        plain = plain.replace(mark, f"\\{mark}")
    return plain


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A table of cells that are Markdown already.

    >>> print(table(("a", "b"), [("1", "2")]))
    | a | b |
    | --- | --- |
    | 1 | 2 |
    """
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def percent(value: float | None, digits: int = 1) -> str:
    """A share for a person; undefined is a word.

    >>> percent(0.7184), percent(None)
    ('71.8 %', 'undefined')
    """
    return "undefined" if value is None else f"{100 * value:.{digits}f} %"
