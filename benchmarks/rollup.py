"""What rolling up a million rows with two taxonomies costs, beside what one would write first.

Run ``python benchmarks/rollup.py`` (two minutes, 1.5 GB). 1,000,000 x 25 float32 sigmoid outputs,
the two shipped taxonomies, a mask of two classes; core seconds of one process, median of five
(least to most). The bound is 5 s for everything but reading. The yardsticks add up the same shares
with a matrix product and with ``np.add.reduceat``.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from result import report

from dagster_project.lib.demo.classes import CLASSES
from dagster_project.lib.rollup.config import Mask, RollupConfig
from dagster_project.lib.rollup.place import place
from dagster_project.lib.rollup.prepare import prepare
from dagster_project.lib.rollup.taxonomy import EXAMPLES, Taxonomy, read_taxonomy
from dagster_project.lib.rollup.walk import node_scores

ROWS, TURNS = 1_000_000, 5
MASK = Mask(exclude=("scabies", "cellulitis"))
THRESHOLDS = np.array([0.8, 0.7, 0.6])
RULES: dict[str, dict[str, Any]] = {
    "lineage": {},
    "distribution": {},
    "antenna": {},
    "speciesnet": {},
    "climbing": {"parameter": 0.7},
    "darts": {"parameter": 1.0},
}


def probabilities(n: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Sigmoid outputs with one class ahead in most rows."""
    rng = np.random.default_rng(0)
    rows = (0.3 * rng.random((n, len(CLASSES)), dtype=np.float32)) ** 2
    rows[np.arange(n), rng.integers(0, len(CLASSES), n)] = rng.beta(3, 2, n)
    return rows


def core_seconds(job: Callable[[], object], turns: int = TURNS) -> list[float]:
    found = []
    for _ in range(turns):
        start = time.process_time()
        job()
        found.append(time.process_time() - start)
    return found


def by_matrix(values: Any, tree: Taxonomy) -> Any:
    member = np.zeros((len(tree.classes), len(tree.nodes)))
    member[np.arange(len(tree.classes))[:, None], tree.ancestors] = 1
    return values @ member


def by_reduceat(values: Any, tree: Taxonomy) -> Any:
    parts = []
    for rank in range(len(tree.ranks)):
        column = tree.ancestors[:, rank]
        order = np.argsort(column, kind="stable")
        starts = np.flatnonzero(np.diff(column[order], prepend=-1))
        parts.append(np.add.reduceat(values[:, order], starts, axis=1))
    return np.concatenate(parts, axis=1)


def line(what: str, rows: int, found: list[float]) -> dict[str, Any]:
    middle = statistics.median(found)
    return {
        "what": what,
        "rows": f"{rows:,}",
        "core seconds": f"{middle:.2f} ({min(found):.2f} to {max(found):.2f})",
        "microseconds a row": f"{1e6 * middle / rows:.2f}",
    }


def everything(probs: Any, trees: list[Taxonomy], config: RollupConfig) -> None:
    prepared = prepare(probs, CLASSES, config)
    for tree in trees:
        place(prepared, tree, config, THRESHOLDS)


def main() -> None:
    trees = [read_taxonomy(path, CLASSES) for path in EXAMPLES.values()]
    probs = probabilities(ROWS)
    lines = []
    for how in ("l1", "odds"):
        config = RollupConfig(normalisation=how, mask=MASK)
        found = core_seconds(lambda c=config: everything(probs, trees, c))  # type: ignore[misc]
        lines.append(line(f"prepare ({how}) and place, two taxonomies", ROWS, found))
        found = core_seconds(lambda c=config: prepare(probs, CLASSES, c))  # type: ignore[misc]
        lines.append(line(f"of it prepare ({how})", ROWS, found))
    prepared = prepare(probs, CLASSES, config)
    for rule, options in RULES.items():
        one = RollupConfig(rule=rule, **options)
        found = core_seconds(lambda c=one: place(prepared, trees[0], c, THRESHOLDS))  # type: ignore[misc]
        lines.append(line(f"place, {rule}, one taxonomy", ROWS, found))
    sums = {"ours, by rank": node_scores, "matrix product": by_matrix, "reduceat": by_reduceat}
    for what, job in sums.items():
        found = core_seconds(lambda j=job: j(prepared.values, trees[0]))  # type: ignore[misc]
        lines.append(line(f"sums only: {what}", ROWS, found))
    report("rollup", lines)


if __name__ == "__main__":
    main()
