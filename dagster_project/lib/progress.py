"""Progress on everything that takes more than two seconds.

Belongs: the one bar: drawn on a terminal, plain lines elsewhere, always on stderr.
Does not: what is counted; callers inject ``on_progress(done, total)``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

OnProgress = Callable[[int, int], None]
"""Called with (done, total) in the caller's unit; must be cheap."""

LINE_EVERY_S = 5.0


def silent(done: int, total: int) -> None:
    """The callback that shows nothing."""


@contextmanager
def bar(title: str, unit: str = "row") -> Iterator[OnProgress]:
    """Show ``title`` with count and rate while the block runs."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(desc=title, unit=unit, unit_scale=True, leave=True) as drawn:

            def draw(done: int, total: int) -> None:
                drawn.total = total
                drawn.update(done - drawn.n)

            yield draw
        return

    start = time.monotonic()
    last = [start, -1.0]

    def line(done: int, total: int) -> None:
        now = time.monotonic()
        if done == last[1] or (done < total and now - last[0] < LINE_EVERY_S):
            return
        last[:] = [now, done]
        rate = f", {_rate(done / max(now - start, 1e-9), unit)}" if done else ""
        print(f"{title}: {done}/{total} {unit}s{rate}", file=sys.stderr, flush=True)

    yield line


def _rate(per_second: float, unit: str) -> str:
    """Rows per second, or seconds per row when it is slow.

    >>> _rate(310.4, "row"), _rate(2.34, "row"), _rate(0.05, "row")
    ('310 rows/s', '2.3 rows/s', '20 s/row')
    """
    if per_second < 0.1:
        return f"{1 / per_second:.0f} s/{unit}"
    return f"{per_second:.0f} {unit}s/s" if per_second >= 10 else f"{per_second:.1f} {unit}s/s"
