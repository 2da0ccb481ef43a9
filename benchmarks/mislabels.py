"""Candidates beside the bare cleanlab call, by method, and how much memory a million rows take.

Run ``python benchmarks/mislabels.py`` (3 minutes idle). ``find_candidates`` (normalisation, labels
by id, all judged rows worst first, rates with intervals by patient) and ``find_label_issues`` on
ready arrays run in one process, in turns; ratios are of seconds and of processor seconds, of
medians and of the quickest turns (other work on the machine changes these less). Memory is the peak
of a process of its own, its data included.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from fits import CLASSES, NAMES, rows_of
from result import report

from dagster_project.lib.mislabels.candidates import METHODS, find_candidates
from dagster_project.lib.probability_table import ProbabilityTable

ROWS, MILLION, TURNS = 121_514, 1_000_000, 15
IMAGES_A_PATIENT = 3


def world(n: int) -> tuple[ProbabilityTable, pl.DataFrame]:
    """A table with UUIDs and patients, and its labels in the same order."""
    parts = list(rows_of(n))
    probs, given = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    del parts
    rng = np.random.default_rng(1)
    ids = [str(uuid.UUID(bytes=rng.bytes(16))) for _ in range(n)]
    patient = rng.integers(0, n // IMAGES_A_PATIENT, n)
    frame = pl.DataFrame({"image_uuid": ids, "patient_id": [f"patient_{p:07d}" for p in patient]})
    labels = frame.select("image_uuid", label=pl.Series(NAMES).gather(given))
    return ProbabilityTable(tuple(NAMES), frame, {"probs": probs}), labels


def seconds(job: Callable[[], object]) -> tuple[float, float]:
    wall, core = time.perf_counter(), time.process_time()
    job()
    return time.perf_counter() - wall, time.process_time() - core


def compare(turns: int) -> list[dict[str, Any]]:
    from cleanlab.filter import find_label_issues  # noqa: PLC0415

    table, labels = world(ROWS)
    given = labels["label"].cast(pl.Enum(NAMES)).to_physical().cast(pl.Int64).to_numpy()
    ready = table.probs.astype(np.float64)
    ready /= ready.sum(axis=1, keepdims=True)
    shuffled = labels.sample(fraction=1, shuffle=True, seed=2)
    found = []
    for method in METHODS:
        jobs: dict[str, Callable[[], object]] = {
            "bare": partial(find_label_issues, given, ready, filter_by=method, n_jobs=1),
            "labels in the table's order": partial(
                find_candidates, table, labels, in_sample=False, method=method
            ),
            "labels in another order": partial(
                find_candidates, table, shuffled, in_sample=False, method=method
            ),
        }
        spent: dict[str, list[tuple[float, float]]] = {name: [] for name in jobs}
        for turn in range(turns + 1):
            for name, job in jobs.items():
                if turn:  # the first warms up
                    spent[name].append(seconds(job))
                else:
                    job()
        found += [_row(method, name, spent) for name in jobs]
    return found


def _row(method: str, name: str, spent: dict[str, list[tuple[float, float]]]) -> dict[str, Any]:
    """Milliseconds, and times the bare call: medians, and the least of all turns."""
    row: dict[str, Any] = {"method": method, "what": name}
    for at, clock in enumerate(("wall", "core")):
        own, bare = ([1000 * pair[at] for pair in spent[what]] for what in (name, "bare"))
        for word, of in (("median", statistics.median), ("least", min)):
            row[f"{clock}_{word}_ms"] = round(of(own), 1)
            row[f"{clock}_{word}_times"] = round(of(own) / of(bare), 2)
    return row


CHILD = """
import json, sys
from pathlib import Path
sys.path.insert(0, "benchmarks")
import mislabels
def peak():
    status = Path("/proc/self/status").read_text().split()
    return int(status[status.index("VmHWM:") + 1]) / 1024
table, labels = mislabels.world(int(sys.argv[1]))
before = peak()
found = mislabels.find_candidates(table, labels, in_sample=False, quality=sys.argv[2])
print(json.dumps({"data_mib": before, "peak_mib": peak(), "n": found.rows.height}))
"""


def memory(n: int, quality: str) -> dict[str, Any]:
    """Peak of a fresh process: its data alone, and with the call."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", CHILD, str(n), quality], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert found["n"] == n
    return {"rows": n, "quality": quality, **{k: round(v) for k, v in found.items() if k != "n"}}


def main(turns: int) -> None:
    """Print and save both."""
    print(f"{ROWS:,} x {CLASSES}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    report("mislabels", compare(turns))
    report(
        "mislabels_memory", [memory(MILLION, q) for q in ("self_confidence", "normalized_margin")]
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else TURNS)
