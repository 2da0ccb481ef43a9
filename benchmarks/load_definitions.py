"""What loading the code location costs, against `import dagster`: pairs of fresh interpreters.

Run: python benchmarks/load_definitions.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from result import save

PAIRS = 9
BUDGET = 1.35


def seconds(statement: str) -> float:
    """Wall seconds of a whole interpreter that runs one statement."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)  # noqa: S603 - our own text
    return time.perf_counter() - start


def main() -> None:
    """Print the median ratio and its range."""
    seconds("import dagster_project.definitions")  # warm the file cache
    ratios = sorted(
        seconds("import dagster_project.definitions") / seconds("import dagster")
        for _ in range(PAIRS)
    )
    print(
        f"definitions / import dagster: median {statistics.median(ratios):.2f} "
        f"({ratios[0]:.2f} to {ratios[-1]:.2f}, {PAIRS} pairs; budget {BUDGET})"
    )
    save("load_definitions", [{"ratio": statistics.median(ratios), "all": ratios}])


if __name__ == "__main__":
    main()
