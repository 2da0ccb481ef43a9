"""How the coverage curve compares, in one run, with one sort and with a loop over 101 masks.

Run ``python benchmarks/curve.py``. Ratios of medians; both rivals see the same rows in the same
process. The loop answers for 101 thresholds only, the curve for every distinct score.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import polars as pl
from result import save

from dagster_project.lib.tiers.curve import coverage_curve, curve_counts

SIZES = {15_561: 31, 1_000_000: 7}
"""Rows -> repetitions."""


def scored_rows(n: int, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    score = rng.beta(3, 1.2, n).astype(np.float32)
    top1 = rng.random(n) < score
    return pl.DataFrame({"score": score, "top1": top1, "top3": top1 | (rng.random(n) < 0.7)})


def loop_over_masks(scored: pl.DataFrame) -> list[tuple[float, int, float, float, float]]:
    score, top1, top3 = (scored[c].to_numpy() for c in ("score", "top1", "top3"))
    rows = []
    for threshold in np.linspace(0, 1, 101):
        mask = score >= threshold
        n = int(mask.sum())
        if n:
            right, near = top1[mask].mean(), top3[mask].mean()
            rows.append((float(threshold), n, right, near, (mask & ~top1).mean()))
    return rows


def median_ms(job: Callable[[], object], times: int) -> float:
    spent = []
    job()
    for _ in range(times):
        start = time.perf_counter()
        job()
        spent.append(time.perf_counter() - start)
    return 1000 * statistics.median(spent)


def main() -> None:
    """Print and save the ratios."""
    rows = []
    for n, times in SIZES.items():
        scored = scored_rows(n)
        scores = scored["score"].to_numpy()
        curve = median_ms(lambda: coverage_curve(scored), times)  # noqa: B023
        counts = median_ms(lambda: curve_counts(scored), times)  # noqa: B023
        sort = median_ms(lambda: np.sort(scores), times)  # noqa: B023
        loop = median_ms(lambda: loop_over_masks(scored), max(3, times // 3))  # noqa: B023
        print(
            f"{n:>9,} rows: curve {curve:.2f} ms (its counts alone {counts:.2f}); "
            f"one np.sort {sort:.2f} ms: ratio {curve / sort:.1f} ({counts / sort:.1f}); "
            f"loop over 101 masks {loop:.1f} ms: {loop / curve:.1f} x the curve "
            f"({loop / counts:.1f})"
        )
        rows.append({"rows": n, "curve_ms": curve, "sort_ms": sort, "loop_ms": loop})
    save("curve", rows)


if __name__ == "__main__":
    main()
