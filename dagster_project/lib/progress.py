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
        rate = done / max(now - start, 1e-9)
        print(f"{title}: {done}/{total} {unit}s, {rate:.0f} {unit}s/s", file=sys.stderr, flush=True)

    yield line
