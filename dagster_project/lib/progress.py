"""Progress on everything that takes more than two seconds.

Belongs: the one bar (drawn on a terminal, plain lines elsewhere, always on stderr), and the lines
alone for whoever logs them elsewhere.
Does not: what is counted; callers inject ``on_progress(done, total, note)``.
Concept: the rate is of what was done since the first call, so that a continued dump does not claim
the speed of what it found finished.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

LINE_EVERY_S = 5.0
_SCALES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


class OnProgress(Protocol):
    """Called with counts in the caller's unit and what else is worth seeing; must be cheap."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """``done`` of ``total``; ``note`` in a few words."""


def silent(done: int, total: int, note: str = "") -> None:
    """The callback that shows nothing."""


@contextmanager
def bar(title: str, unit: str = "row") -> Iterator[OnProgress]:
    """Show ``title`` with count, rate, time left and note while the block runs."""
    if not sys.stderr.isatty():
        yield lines(title, lambda text: print(text, file=sys.stderr, flush=True), unit)
        return
    from tqdm import tqdm

    # bytes as B, with the prefix that unit_scale finds: 1.7GB
    with tqdm(desc=title, unit="B" if unit == "byte" else unit, unit_scale=True) as drawn:

        def draw(done: int, total: int, note: str = "") -> None:
            if drawn.total != total:
                drawn.reset(total)
                drawn.initial = drawn.n = done  # found finished: no part of the rate
            drawn.set_postfix_str(note, refresh=False)
            drawn.update(done - drawn.n)

        yield draw


def lines(title: str, emit: Callable[[str], object], unit: str = "row") -> OnProgress:
    """A callback that hands ``emit`` a line every :data:`LINE_EVERY_S` and one at the end."""
    began = time.monotonic()
    first: tuple[float, int] | None = None
    last = (began, -1)

    def line(done: int, total: int, note: str = "") -> None:
        nonlocal first, last
        now = time.monotonic()
        if first is None:
            first = (now, done) if done < total else (began, 0)
        if done == last[1] or (done < total and now - last[0] < LINE_EVERY_S):
            return
        last = (now, done)
        seconds, here = max(now - first[0], 1e-9), done - first[1]
        parts = [f"{title}: {_count(done, total, unit)}"]
        if here > 0:
            parts.append(_rate(here / seconds, unit))
            if done < total:
                parts.append(f"{_duration((total - done) * seconds / here)} left")
        emit(", ".join([*parts, *([note] if note else [])]))

    return line


def _count(done: int, total: int, unit: str) -> str:
    """How much of how much.

    >>> _count(3, 7, "row"), _count(1_500_000, 2_000_000_000, "byte")
    ('3/7 rows', '0.0/2.0 GB')
    """
    if unit != "byte":
        return f"{done}/{total} {unit}s"
    scale, name = _scale(total)
    return f"{done / scale:.1f}/{total / scale:.1f} {name}"


def _rate(per_second: float, unit: str) -> str:
    """Rows per second, or seconds per row when it is slow.

    >>> _rate(310.4, "row"), _rate(2.34, "row"), _rate(0.05, "row"), _rate(3.1e8, "byte")
    ('310 rows/s', '2.3 rows/s', '20 s/row', '310.0 MB/s')
    """
    if unit == "byte":
        scale, name = _scale(per_second)
        return f"{per_second / scale:.1f} {name}/s"
    if per_second < 0.1:
        return f"{1 / per_second:.0f} s/{unit}"
    return f"{per_second:.0f} {unit}s/s" if per_second >= 10 else f"{per_second:.1f} {unit}s/s"


def _scale(n_bytes: float) -> tuple[float, str]:
    return next(((scale, name) for scale, name in _SCALES if n_bytes >= scale), (1, "B"))


def _duration(seconds: float) -> str:
    """Time left, roughly.

    >>> _duration(42.2), _duration(1300), _duration(9000)
    ('42 s', '22 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
