"""Memory of the dump at 10,000 and at 100,000 rows, each in a process of its own.

Run ``python benchmarks/dump_memory.py`` (about two minutes). The photographs and the network are
small, so that what grows with the rows would show. The manifest itself is read into memory; what
the dump adds to that is the last column.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from common import SMALL, make_artifact, make_dataset
from result import report

ROWS = (10_000, 100_000)
CHILD = """
import json, resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from dump_speed import planned
from dagster_project.lib.inference import dump
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
work = Path(sys.argv[2])
plan = planned(work / "model", work / sys.argv[3])
after_planning, first = peak(), []
def on_progress(done, total, note=""):
    if done >= 2048 and not first:  # four segments are written
        first.append(peak())
dump.dump_to(plan, work / "out.parquet", work / "segments", on_progress=on_progress)
print(json.dumps([after_planning, first[0], peak()]))
"""


def main() -> None:
    """Print the peaks and their ratio."""
    lines: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as temp:
        work = Path(temp)
        make_artifact(work / "model", SMALL)
        for rows in ROWS:
            make_dataset(work / str(rows), rows, 60, 80)
            here = str(Path(__file__).parent)
            done = subprocess.run(  # noqa: S603 - our own text
                [sys.executable, "-c", CHILD, here, str(work), str(rows)],
                check=True,
                capture_output=True,
            )
            planning, first, last = json.loads(done.stdout)
            lines.append(
                {
                    "rows": rows,
                    "manifest read and planned, MB": round(planning),
                    "peak, MB": round(last),
                    "grown after row 2,048, MB": round(last - first),
                }
            )
    for line in lines:
        line["peak, x the first"] = round(line["peak, MB"] / lines[0]["peak, MB"], 3)
    report("dump_memory", lines)


if __name__ == "__main__":
    main()
