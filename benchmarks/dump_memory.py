"""Peak memory of the dump at 10,000 and at 100,000 rows: a whole `tier-refit dump` each.

Run ``python benchmarks/dump_memory.py`` (several minutes). The photographs and the network are
small, so that what grows with the rows would show.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import SMALL, make_artifact, make_dataset, report

ROWS = (10_000, 100_000)


def peak_and_seconds(model: Path, data: Path, out: Path) -> tuple[float, float]:
    """Peak resident memory (MB) and wall seconds of one command."""
    command = ["-m", "dagster_project.cli", "dump", "--model-dir", model, "--dataset-dir", data]
    command += ["--split", "test", "--device", "cpu", "--out", out]
    start = time.perf_counter()
    process = subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, *map(str, command)], stderr=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"tier-refit dump ended with {status}")
    return used.ru_maxrss / 1024, time.perf_counter() - start


def main() -> None:
    """Print the peaks and their ratio."""
    lines: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as temp:
        work = Path(temp)
        make_artifact(work / "model", SMALL)
        for rows in ROWS:
            make_dataset(work / str(rows), rows, 60, 80)
            peak, seconds = peak_and_seconds(
                work / "model", work / str(rows), work / f"{rows}.parquet"
            )
            lines.append({"rows": rows, "peak MB": round(peak), "seconds": round(seconds)})
    for line in lines:
        line["x the first"] = round(line["peak MB"] / lines[0]["peak MB"], 3)
    report("dump_memory", lines)


if __name__ == "__main__":
    main()
