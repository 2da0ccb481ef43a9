"""What sweeping a gate costs: memory at 1e7 rows, and time beside the published sweep.

Run ``python benchmarks/gate.py`` (three minutes, 2 GB). Memory is the peak of a whole process that
reads a parquet file of 10,000,000 float64 scores, almost all distinct, counts every distinct value
and thins the curve; once with these alone, once with 3,333,334 groups and two directions; the bound
is 2 GiB. Time is core seconds of one process at 1,000,000 rows and
1,000 taus, median of five (least to most), beside ``zeroproof``'s sweep of the same, which sorts
three times and looks each tau up by itself; and at every distinct value, where the published one
is timed on a thousandth of the taus and multiplied.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from result import report
from zeroproof.metrics.tau_sweep import tau_infer_sweep_from_q_abs

from dagster_project.lib import tables
from dagster_project.lib.gate.config import parse_config
from dagster_project.lib.gate.scores import make_scores, read_scores
from dagster_project.lib.gate.sweep import curves, sweep, taus_of

CONFIG = parse_config({"gauge": {"head": "q", "magnitude": "abs", "normalisation": "none"}})
LARGE, ROWS, TURNS = 10_000_000, 1_000_000, 5
LIMIT = 2 << 30


def drawn(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Magnitudes and whether each row is in range."""
    rng = np.random.default_rng(0)
    in_range = rng.random(n) < 0.7
    return np.exp(rng.normal(np.where(in_range, 0.0, -2.0), 1.0)), in_range


def peak(path: Path) -> None:
    """The child: read, count every distinct value, thin; print rows, taus and the peak."""
    scores = read_scores(path, CONFIG)
    taus = taus_of(scores, "distinct")
    curves(sweep(scores, taus), scores.gauge)
    print(len(scores), taus.size, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def measured_peak(*, all_columns: bool) -> tuple[int, int, int]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scores.parquet"
        score, in_range = drawn(LARGE)
        table = pa.table({"score": score, "in_range": in_range})
        if all_columns:
            number = np.arange(LARGE)
            sides = pa.array(["above", "below"]).take(pa.array(number % 2))
            table = table.append_column("group", pa.array(number // 3).cast(pa.string()))
            table = table.append_column("direction_true", sides)
            table = table.append_column("direction_pred", sides)
        tables.write_arrow(path, table)
        del score, in_range, table
        child = [sys.executable, __file__, str(path)]
        out = subprocess.run(child, check=True, capture_output=True, text=True).stdout  # noqa: S603
    rows, taus, most = map(int, out.split())
    return rows, taus, most


def core_seconds(job: Callable[[], object], turns: int = TURNS) -> list[float]:
    found = []
    for _ in range(turns):
        start = time.process_time()
        job()
        found.append(time.process_time() - start)
    return found


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.3f} s ({min(values):.3f} to {max(values):.3f})"


def main() -> None:
    torch.set_num_threads(1)
    lines, peaks = [], []
    for all_columns in (False, True):
        rows, n_taus, most = measured_peak(all_columns=all_columns)
        peaks.append(most)
        columns = ", groups and directions" if all_columns else ""
        lines.append(
            {
                "what": f"peak, {rows:,} rows, {n_taus:,} taus{columns}",
                "ours": f"{most / (1 << 20):,.0f} MiB",
                "beside": f"limit {LIMIT >> 20:,} MiB",
                "ratio": f"{most / LIMIT:.2f}",
            }
        )
    score, in_range = drawn(ROWS)
    scores = make_scores(score, in_range, CONFIG)
    q_abs, mask = torch.from_numpy(score), torch.from_numpy(in_range)

    def published(taus: list[float]) -> list[float]:
        return core_seconds(lambda: tau_infer_sweep_from_q_abs(q_abs, is_in_range=mask, taus=taus))

    fixed = statistics.median(published([]))
    for name, taus, part in (
        ("1,000 taus", np.quantile(score, np.linspace(0, 1, 1000)), 1),
        ("every distinct value", taus_of(scores, "distinct"), 1000),
    ):
        ours = core_seconds(partial(sweep, scores, taus))
        some = statistics.median(published(taus[::part].tolist()))
        whole = fixed + (some - fixed) * part
        lines.append(
            {
                "what": f"{ROWS:,} rows, {name}",
                "ours": spread(ours),
                "beside": f"published {whole:.3f} s",
                "ratio": f"{whole / statistics.median(ours):.1f}",
            }
        )
    report("gate", lines)
    if max(peaks) > LIMIT:
        raise SystemExit(f"{max(peaks) >> 20} MiB is over the limit")


if __name__ == "__main__":
    peak(Path(sys.argv[1])) if sys.argv[1:] else main()
