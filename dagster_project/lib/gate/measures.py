"""Every measure that a rule may order by, along all taus at once.

Belongs: cost, gap, and the F1 of what a gated model says of range and direction.
Does not: the counts of the gate itself (``sweep``), choosing (``points``).
Concept: below tau the model says a side instead of an answer, so that a row's answers are "in
range" and the sides (below, above). F1 = 2 tp / (2 tp + fp + fn), 0 where a class is neither
there nor said, as in the published reference. N = rows, T = taus.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dagster_project.lib.gate.gray_zone import tau_train_of
from dagster_project.lib.gate.sweep import RATES, sweep

if TYPE_CHECKING:
    import numpy.typing as npt

    from dagster_project.lib.gate.config import GateConfig
    from dagster_project.lib.gate.scores import Direction, GateScores

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]
    Bools = npt.NDArray[np.bool_]


def measures(
    scores: GateScores, taus: Floats, config: GateConfig, *, where: Bools | None = None
) -> dict[str, Floats]:
    """Each measure of ``config.Measure`` at each tau; NaN where it is undefined.

    Parameters
    ----------
    taus : (T,) rising, oriented.
    where : (N,) rows that count; None: all.

    Returns
    -------
    Name -> (T,): the rates of ``sweep.Sweep``; ``gap_rate`` (0 without a gray zone); ``cost``;
    ``macro_f1`` of the answers in range and each side, ``direction_f1`` of the sides among censored
    rows, where an accepted one is a miss (both NaN without directions); ``fp_cens+fn_in`` and
    ``|fp_cens-fn_in|``.
    """
    here = np.ones(len(scores), dtype=bool) if where is None else where
    found = sweep(scores, taus, where=here)
    values = {name: getattr(found, name) for name in RATES}
    values["cost"] = (
        config.cost.fault * values["fault_rate"]
        + config.cost.semantic * values["semantic_bottom_rate"]
    )
    values["fp_cens+fn_in"] = values["fp_cens"] + values["fn_in"]
    values["|fp_cens-fn_in|"] = np.abs(values["fp_cens"] - values["fn_in"])
    stricter = [tau_train_of(tau, config) for tau in taus.tolist()]
    train = np.where([tau is None for tau in stricter], taus, np.array(stricter, dtype=np.float64))
    rising = np.argsort(train, kind="stable")
    above = np.empty(taus.shape)
    above[rising] = sweep(scores, train[rising], where=here).accept_rate
    values["gap_rate"] = values["accept_rate"] - above
    undefined = np.full(taus.shape, np.nan)
    values["macro_f1"], values["direction_f1"] = (
        (undefined, undefined)
        if scores.direction is None
        else _f1(scores, scores.direction, taus, here)
    )
    return values


def _f1(
    scores: GateScores, direction: Direction, taus: Floats, here: Bools
) -> tuple[Floats, Floats]:
    """``macro_f1`` and ``direction_f1``."""

    def bottom(rows: Bools) -> Ints:
        """(T,) how many of ``rows`` get no answer."""
        scored = np.sort(scores.score[rows & ~scores.fault].astype(np.float64))
        faults = int((rows & scores.fault).sum())
        below: Ints = np.searchsorted(scored, taus, side="left") + faults
        return below

    in_range = here & scores.in_range
    censored = here & ~scores.in_range
    n_in, n_cens = int(in_range.sum()), int(censored.sum())
    bottom_in, bottom_cens = bottom(in_range), bottom(censored)
    all_answers = [_one(n_in - bottom_in, n_cens - bottom_cens, bottom_in)]
    sides = []
    for side in range(len(direction.names)):
        true, said = censored & (direction.true == side), direction.pred == side
        hit = bottom(true & said)
        missed = int(true.sum()) - hit
        wrong = bottom(censored & said) - hit
        all_answers.append(_one(hit, wrong + bottom(in_range & said), missed))
        sides.append(_one(hit, wrong, missed))
    nothing = np.full(taus.shape, np.nan)
    return (
        np.mean(all_answers, axis=0) if n_in + n_cens else nothing,
        np.mean(sides, axis=0) if n_cens and sides else nothing,
    )


def _one(hit: Ints, wrong: Ints, missed: Ints) -> Floats:
    total = 2 * hit + wrong + missed
    return np.where(total > 0, 2 * hit / np.maximum(total, 1), 0.0)
