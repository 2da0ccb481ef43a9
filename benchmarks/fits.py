"""Curve, fits and scoring beside what one would write without them, and beside the peers.

Run ``python benchmarks/fits.py`` (20 minutes, most of them for ten million rows; 3 GB of disk), or
``python benchmarks/fits.py 15561 1000000`` for some sizes only. Everything that is compared runs in
one process on the same rows, in turns: ratios are of medians, beside the quickest and the slowest.
The loop over every distinct score is run at 15,561 rows only; nothing is extrapolated. Peers
(``pip install '.[bench]'``) are left out, with a line, where they are not installed.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from result import save

from dagster_project.lib.probability_table import ProbabilityTable
from dagster_project.lib.tiers import rules
from dagster_project.lib.tiers.curve import coverage_curve, curve_counts
from dagster_project.lib.tiers.scored_rows import rank_of_truth, score_rows
from dagster_project.lib.tiers.selection import DESIGN_TARGETS

SIZES = (10_000, 15_561, 100_000, 1_000_000, 10_000_000)
TURNS = {10_000: 21, 15_561: 21, 100_000: 15, 1_000_000: 9, 10_000_000: 3}
CLASSES, SHARDS, BATCH = 25, 16, 125_000
EVERY_SCORE = 15_561
RULES = [(rule, target) for side in DESIGN_TARGETS.values() for rule, target in side.items()]
NAMES = [f"condition {i:02d}" for i in range(CLASSES)]

Job = Callable[[], object]
Floats = npt.NDArray[np.float32]


def rows_of(n: int, seed: int = 0) -> Iterator[tuple[Floats, npt.NDArray[np.int64]]]:
    """Probabilities and truths whose curve lies near the original one, in batches."""
    rng = np.random.default_rng(seed)
    for first in range(0, n, BATCH):
        b = min(BATCH, n - first)
        best = np.where(rng.random(b) < 0.5, rng.beta(14, 1.2, b), rng.beta(3.2, 2.4, b))
        probs = (0.3 * best[:, None] * rng.random((b, CLASSES))).astype(np.float32)
        top = rng.integers(0, CLASSES, b)
        probs[np.arange(b), top] = best
        right = rng.random(b) < 0.28 + 0.69 * best
        yield probs, np.where(right, top, rng.integers(0, CLASSES, b))


def curve_and_fits(scored: pl.DataFrame) -> list[int | None]:
    """Counts at every distinct score, and what each rule but ``fixed`` (its target) chooses."""
    counts = curve_counts(scored)
    return [rules.choose(rule, target, counts) for rule, target in RULES]


def table_and_fits(scored: pl.DataFrame) -> object:
    return coverage_curve(scored), curve_and_fits(scored)


def loop_over_masks(scored: pl.DataFrame) -> object:
    return _loop(scored, np.linspace(0, 1, 101))


def loop_over_scores(scored: pl.DataFrame) -> object:
    return _loop(scored, np.unique(scored["score"].to_numpy()))


def _loop(scored: pl.DataFrame, thresholds: npt.NDArray[Any]) -> list[tuple[float, ...]]:
    score, top1, top3 = (scored[c].to_numpy() for c in ("score", "top1", "top3"))
    rows: list[tuple[float, ...]] = []
    for threshold in thresholds:
        mask = score >= threshold
        n = int(mask.sum())
        if n:
            right, near = top1[mask].mean(), top3[mask].mean()
            rows.append((float(threshold), n, right, near, (mask & ~top1).mean()))
    return rows


def with_argsort(probs: Floats, true: npt.NDArray[np.int64]) -> object:
    order = np.argsort(-probs, axis=1, kind="stable")
    return probs.max(axis=1), (order == true[:, None]).argmax(axis=1), order[:, :3]


def peers(scored: pl.DataFrame) -> dict[str, Job]:
    """What the peers can do of this: thresholds that hold a risk, and the area under the curve."""
    found: dict[str, Job] = {}
    score, right = scored["score"].to_numpy(), scored["top1"].to_numpy()
    try:
        from mapie.risk_control import BinaryClassificationController, precision  # noqa: PLC0415

        both = np.stack([1 - score, score], axis=1)
        found["MAPIE, precision at 100 thresholds"] = lambda: BinaryClassificationController(
            lambda rows: rows, precision, target_level=0.9, confidence_level=0.95
        ).calibrate(both, right.astype(int))
    except ImportError as error:
        print(f"MAPIE is left out: {error}")
    try:
        import torch  # noqa: PLC0415
        from torch_uncertainty.metrics.classification import AURC  # noqa: PLC0415

        probs, truth = torch.from_numpy(score.copy()), torch.from_numpy(right.astype(np.int64))

        def area() -> object:
            metric = AURC()
            metric.update(probs, truth)
            return metric.compute()

        found["torch-uncertainty, AURC of every row"] = area
    except ImportError as error:
        print(f"torch-uncertainty is left out: {error}")
    try:
        from fd_shifts.analysis.rc_stats import RiskCoverageStats  # noqa: PLC0415

        found["fd-shifts, curve and AURC"] = lambda: (
            RiskCoverageStats(confids=score, residuals=1.0 - right).aurc
        )
    except ImportError as error:
        print(f"fd-shifts is left out: {error}")
    return found


def timed(jobs: Mapping[str, Job], turns: int) -> dict[str, list[float]]:
    """Milliseconds of each job, one after another in every turn, so that load falls on all."""
    spent: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(turns + 1):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            if turn or turns == 1:  # the first turn warms up
                spent[name].append(1000 * (time.perf_counter() - start))
    return spent


def compare(n: int) -> list[dict[str, Any]]:
    """All that is timed at one size; what it takes, and how many times the curve with its fits."""
    parts = list(rows_of(n))
    probs, true = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    del parts
    ids = pl.DataFrame({"image_uuid": pl.int_range(n, eager=True).cast(pl.String)})
    labels = ids.with_columns(pl.Series("label", NAMES).gather(true))
    table = ProbabilityTable(tuple(NAMES), ids, {"probs": probs})
    scored = score_rows(table, labels, compact=True)
    turns = TURNS.get(n, 3)
    fits = {
        "counts and fits": lambda: curve_and_fits(scored),
        "counts, fits and the table": lambda: table_and_fits(scored),
        "one np.sort of the scores": lambda: np.sort(scored["score"].to_numpy()),
        "loop over 101 masks": lambda: loop_over_masks(scored),
        **(peers(scored) if n <= 1_000_000 else {}),
    }
    scoring: dict[str, Job] = {
        "score: max": lambda: probs.max(axis=1),
        "score: rank by counting": lambda: rank_of_truth(probs, true),
        "score: join, max, rank, three best": lambda: score_rows(table, labels, compact=True),
    }
    if n <= 1_000_000:  # an argsort of ten million rows takes 2 GB for its result
        scoring["score: max, rank, three best by argsort"] = lambda: with_argsort(probs, true)
    spent = timed(fits, turns)
    if n == EVERY_SCORE:
        spent |= timed({"loop over every distinct score": lambda: loop_over_scores(scored)}, 5)
    spent |= timed(scoring, min(turns, 5))
    base = statistics.median(spent["counts and fits"])
    rows = [
        {
            "rows": n,
            "what": name,
            "median_ms": round(statistics.median(ms), 2),
            "low_ms": round(min(ms), 2),
            "high_ms": round(max(ms), 2),
            "times_fits": round(statistics.median(ms) / base, 2),
        }
        for name, ms in spent.items()
    ]
    for row in rows:
        print(
            f"{n:>10,}  {row['what']:40} {row['median_ms']:>12,.2f} ms "
            f"({row['low_ms']:,.2f} to {row['high_ms']:,.2f})  {row['times_fits']:>10,.2f} x",
            flush=True,
        )
    return rows


def write_shards(folder: Path, n: int) -> list[Path]:
    """``n`` rows as parquet shards with UUIDs, patients and labels, a batch in memory at a time."""
    rng = np.random.default_rng(1)
    paths = [folder / f"{i:02d}.parquet" for i in range(SHARDS)]
    first = 0
    for i, path in enumerate(paths):
        writer = None
        for probs, true in rows_of(n // SHARDS, seed=i):
            b = len(probs)
            digits = rng.bytes(16 * b).hex()
            uuids = [digits[32 * j : 32 * j + 32] for j in range(b)]
            columns = {
                "image_uuid": [
                    "-".join((u[:8], u[8:12], u[12:16], u[16:20], u[20:])) for u in uuids
                ],
                "patient_id": [f"patient_{(first + j) // 2:08d}" for j in range(b)],
                "label": pl.Series(NAMES).gather(true).to_arrow(),
                "probs": pa.FixedSizeListArray.from_arrays(pa.array(probs.ravel()), CLASSES),
            }
            made = pa.table(columns).replace_schema_metadata({"classes": json.dumps(NAMES)})
            writer = writer or pq.ParquetWriter(path, made.schema, compression="zstd")
            writer.write_table(made)
            first += b
        if writer is not None:
            writer.close()
    return paths


# not ru_maxrss: on Linux a child starts with the peak of the process that started it
CHILD = """
import json, resource, sys, time
from pathlib import Path
from dagster_project import cli
start = time.perf_counter()
code = cli.main(sys.argv[1:])
usage = resource.getrusage(resource.RUSAGE_SELF)
status = Path("/proc/self/status").read_text().split()
print(json.dumps({"code": code, "seconds": time.perf_counter() - start,
    "core_seconds": usage.ru_utime + usage.ru_stime,
    "peak_mib": int(status[status.index("VmHWM:") + 1]) / 1024}))
"""


def whole_refit(n: int) -> dict[str, Any]:
    """Peak memory and time of a whole ``tier-refit refit`` from shards, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        shards = write_shards(Path(folder), n)
        size = sum(path.stat().st_size for path in shards) / 2**20
        arguments = ["refit", "--probs", *map(str, shards), "--out", f"{folder}/out"]
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-c", CHILD, *arguments], capture_output=True, text=True, check=True
        )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert found["code"] == 0, done.stderr
    print(
        f"{n:>10,}  whole refit from {size:,.0f} MiB of shards: peak {found['peak_mib']:,.0f} MiB, "
        f"{found['seconds']:.0f} s, {found['core_seconds']:.0f} core seconds",
        flush=True,
    )
    return {"rows": n, "what": "whole refit", **found}


def main(sizes: list[int]) -> None:
    """Print and save everything."""
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    rows: list[dict[str, Any]] = []
    for n in sizes:
        rows += compare(n)
        save("fits", rows)
    for n in sizes:
        if n >= 1_000_000:
            rows.append(whole_refit(n))
            save("fits", rows)


if __name__ == "__main__":
    main([int(n) for n in sys.argv[1:]] or list(SIZES))
