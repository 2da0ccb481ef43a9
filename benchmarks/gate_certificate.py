"""Whether a gate's certificate breaks its promise more often than delta, by simulation.

Run ``python benchmarks/gate_certificate.py [DRAWS]``. Each draw is a new file of scores from a
world whose true fp_cens and fn_in are known at every tau; the whole choice of points is run, and a
violation is a tau whose true rate is at or above the target. 2,000 seeded draws at delta = 5 %:
more than 138 violations (6.9 %) fail. A method that keeps 5 % fails with probability 1e-4, one that
is really wrong 8 % of the time with 96 %. Beside it the practice it replaces, with the same taus
and calibration rows: the plug-in (the smallest or largest tau whose observed rate meets the target)
and, where a group has several rows, the same test as if they were independent; nothing is promised
for either. The targets are such that the answer is neither never nor always given.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from result import report
from scipy.special import ndtr

from dagster_project.lib.gate.bounds import certified_taus
from dagster_project.lib.gate.config import Bounded, Certify, GateConfig, Gauge
from dagster_project.lib.gate.points import grid, operating_points
from dagster_project.lib.gate.scores import GateScores, make_scores
from dagster_project.lib.gate.sweep import sweep
from dagster_project.lib.progress import bar

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

DRAWS, ALLOWED, DELTA = 2000, 138, 0.05
ROWS = 1200
CENSORED = 0.4
FAULTS = 0.01
CENTRE = {"in_range": 1.0, "censored": -0.6}
TARGETS: dict[Bounded, float] = {"fp_cens": 0.10, "fn_in": 0.15}
POINTS: dict[Bounded, str] = {"fp_cens": "safety_first", "fn_in": "accuracy_first"}
CERTIFIED = "certified"
PLUG_IN = "no promise: plug-in"
BY_ROW = "no promise: rows as if independent"


@dataclass(frozen=True)
class World:
    """log score = centre + luck of the group + noise, normal; luck has ``shared`` of the variance.

    All rows of a group are of one kind, which makes them as alike as they can be.
    """

    rows: int
    shared: float

    def draw(self, seed: list[int], config: GateConfig) -> GateScores:
        """A new file."""
        rng = np.random.default_rng(seed)
        groups = ROWS // self.rows
        group = np.repeat(np.arange(groups), self.rows)
        in_range = (rng.random(groups) >= CENSORED)[group]
        luck = rng.normal(0, np.sqrt(self.shared), groups)[group]
        noise = rng.normal(0, np.sqrt(1 - self.shared), ROWS)
        centre = np.where(in_range, CENTRE["in_range"], CENTRE["censored"])
        score = np.exp(centre + luck + noise)
        score[rng.random(ROWS) < FAULTS] = np.nan
        names = pl.Series([f"draw {seed[-1]} group {number}" for number in range(groups)])
        return make_scores(score, in_range, config, group=names[group])

    @staticmethod
    def true(quantity: Bounded, tau: float) -> float:
        """The rate itself, of any row."""
        if quantity == "fp_cens":
            return float((1 - FAULTS) * ndtr(CENTRE["censored"] - np.log(tau)))
        return float(FAULTS + (1 - FAULTS) * ndtr(np.log(tau) - CENTRE["in_range"]))


WORLDS = {
    "one row a group": World(1, 0.5),
    "three rows a group": World(3, 0.5),
}


def configured(world: World) -> GateConfig:
    """The presets with the targets above."""
    return GateConfig.model_validate(
        {
            "gauge": Gauge(head="denominator", magnitude="abs", normalisation="none"),
            "certify": Certify(delta=DELTA, max_rows_per_group=world.rows),
            "points": {POINTS[name]: {"target": target} for name, target in TARGETS.items()},
        }
    )


def chosen(scores: GateScores, config: GateConfig) -> dict[tuple[str, Bounded], float | None]:
    """The tau of every method."""
    points: dict[str, Any] = operating_points(scores, config)["points"]
    taus, _ = grid(scores, config)
    seen = sweep(scores, taus, where=scores.first)
    found: dict[tuple[str, Bounded], float | None] = {}
    for quantity, target in TARGETS.items():
        found[CERTIFIED, quantity] = points[POINTS[quantity]]["tau"]
        found[PLUG_IN, quantity] = end(taus, getattr(seen, quantity) <= target, quantity)
        if scores.n_groups < len(scores):
            alone = replace(scores, group=None)
            held = certified_taus(alone, quantity, target, taus, level=DELTA, terms=config.certify)
            found[BY_ROW, quantity] = end(taus, held, quantity)
    return found


def end(taus: Floats, held: npt.NDArray[np.bool_], quantity: Bounded) -> float | None:
    """The last tau of the sequence that holds."""
    left = taus[held]
    return None if not left.size else float(left[-1 if quantity == "fn_in" else 0])


def simulate(name: str, draws: int) -> Iterator[dict[str, object]]:
    """Violations, how often a tau is given, and its true rate."""
    world = WORLDS[name]
    config = configured(world)
    rates: dict[tuple[str, Bounded], list[float]] = {}
    with bar(name, "draw") as progress:
        for number in range(draws):
            for key, tau in chosen(world.draw([11, number], config), config).items():
                into = rates.setdefault(key, [])
                if tau is not None:
                    into.append(world.true(key[1], tau))
            progress(number + 1, draws)
    for (method, quantity), true in rates.items():
        broken = sum(rate >= TARGETS[quantity] for rate in true)
        yield {
            "world": name,
            "quantity": quantity,
            "target": TARGETS[quantity],
            "method": method,
            "draws": draws,
            "violations": broken,
            "rate": round(broken / draws, 4),
            "given": round(len(true) / draws, 3),
            "mean_true": round(float(np.mean(true)), 4) if true else None,
        }


def main() -> None:
    """Print and save the table; exit 1 if the certificate breaks its promise too often."""
    draws = int(sys.argv[1]) if len(sys.argv) > 1 else DRAWS
    start = time.monotonic()
    table = [row for name in WORLDS for row in simulate(name, draws)]
    print(f"done after {time.monotonic() - start:.0f} s", file=sys.stderr)
    report("gate_certificate", table)
    judged = [int(str(row["violations"])) for row in table if row["method"] == CERTIFIED]
    sys.exit(int(max(judged) > ALLOWED * draws / DRAWS))


if __name__ == "__main__":
    main()
