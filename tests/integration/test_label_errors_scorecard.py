"""The comparison on real out-of-sample probabilities (not made here), with planted changes.

Needs ``../shared/data/label_errors``; skipped without it. docs/scorecard.md holds the same numbers.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dagster_project.lib.probability_table import ProbabilityTable
from dagster_project.lib.scorecard.answers import Answers, same_rows
from dagster_project.lib.scorecard.measures import measures
from dagster_project.lib.scorecard.paired import compare

DATA = Path(__file__).parents[2] / ".." / "shared" / "data" / "label_errors"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="shared/data/label_errors is not here")

WEIGHT = 8
"""By which the odds of one class are raised, as an over-weighted class in training does."""


@pytest.fixture(scope="module")
def answers() -> Answers:
    """20news: as it is, one class over-weighted, and flattened without changing an order."""
    arrays = np.load(DATA / "20news.npz")
    probs, given = np.clip(arrays["probs"], 0, 1), arrays["given"]
    weighted = probs.copy()
    weighted[:, 3] = WEIGHT * probs[:, 3] / (1 + (WEIGHT - 1) * probs[:, 3])
    classes = tuple(f"class_{at}" for at in range(probs.shape[1]))
    frame = pl.DataFrame({"image_uuid": [str(at) for at in range(len(given))]})
    values = {"base": probs, "weighted": weighted, "flattened": np.sqrt(probs)}
    return same_rows(
        {name: ProbabilityTable(classes, frame, {"probs": v}) for name, v in values.items()},
        frame.with_columns(label=pl.Series([classes[g] for g in given])),
    )


def test_an_over_weighted_class_is_the_sink_and_its_neighbours_pay(answers: Answers) -> None:
    sink = measures(answers, "weighted")["sink"]
    assert (sink["class"], sink["swallows"][0]["class"]) == ("class_3", "class_4")
    assert sink["overprediction"] == pytest.approx(2.117, abs=5e-4)
    found = compare(answers, "base")["weighted"]
    paid = found.per_class[4]
    assert (paid.baseline, paid.recall) == pytest.approx((0.8909, 0.7558), abs=5e-5)
    assert paid.p_holm is not None
    assert paid.p_holm < 1e-9
    gained = found.per_class[3].difference
    assert gained.z is not None
    assert gained.z > 5
    top1 = found.differences["top1"]
    assert (top1.estimate, top1.low, top1.high) == pytest.approx(
        (-0.0358, -0.0409, -0.0311), abs=5e-5
    )


def test_flattened_probabilities_rank_alike_and_are_worse_calibrated(answers: Answers) -> None:
    found = compare(answers, "base")["flattened"]
    for name in ("top1", "top3", "balanced_accuracy", "macro_f1"):
        assert found.differences[name].estimate == 0
    assert all(c.p_holm is None for c in found.per_class)
    assert (found.differences["nll"].low or 0) > 0.1
    assert (found.differences["brier"].low or 0) > 0.1
