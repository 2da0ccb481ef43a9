from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from dagster_project.lib.errors import InputError, RefusedError
from dagster_project.lib.evidence.label_noise import (
    bounds,
    label_noise_report,
    reviewed_noise,
    symmetric_accuracy,
)
from dagster_project.lib.tiers.policy import DEFAULT_POLICY, TierNoise

NOISE = TierNoise(confident=0.05, possible=0.1, refer=0.2)
REPORT: dict[str, Any] = {
    "tiers": {
        "confident": {"share": 0.5, "top1": 0.96},
        "possible": {"share": 0.4, "top1": 0.6},
        "refer": {"share": 0.0, "top1": None},
    },
    "outcomes": {"confident_wrong": 0.02},
}


def test_bounds_stop_at_nothing_and_at_everything() -> None:
    assert bounds(0.03, 0.1) == pytest.approx((0.0, 0.13))
    assert bounds(0.95, 0.1) == pytest.approx((0.85, 1.0))
    with pytest.raises(InputError, match=r"eta 1\.2"):
        bounds(0.5, 1.2)


def test_no_noise_of_that_rate_leaves_the_bounds() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        truth, predicted, labels = rng.integers(0, 3, (3, 50))
        low, high = bounds(float((predicted == labels).mean()), float((truth != labels).mean()))
        assert low - 1e-12 <= (predicted == truth).mean() <= high + 1e-12


def test_symmetric_noise_is_undone() -> None:
    for accuracy, eta, n_classes in ((0.9, 0.1, 25), (0.3, 0.2, 4), (1.0, 0.3, 2), (0.0, 0.1, 3)):
        observed = accuracy * (1 - eta) + (1 - accuracy) * eta / (n_classes - 1)
        assert symmetric_accuracy(observed, eta, n_classes) == pytest.approx(accuracy, abs=1e-9)


@pytest.mark.parametrize(
    ("observed", "eta", "n_classes", "why"),
    [
        pytest.param(0.96, 0.1, 25, r"above 1 - eta = 0\.9000.*not independent", id="above_one"),
        pytest.param(0.01, 0.5, 3, "below eta / .*not independent", id="below_zero"),
        pytest.param(0.5, 0.5, 2, "no better than a guess", id="coin"),
    ],
)
def test_an_impossible_correction_is_refused(
    observed: float, eta: float, n_classes: int, why: str
) -> None:
    with pytest.raises(RefusedError, match=why):
        symmetric_accuracy(observed, eta, n_classes)


def test_the_report_bounds_each_tier_and_w_and_names_the_scenario() -> None:
    policy = DEFAULT_POLICY.model_copy(update={"label_noise": NOISE})
    found = label_noise_report(REPORT, policy, 25)
    assert found["assumed"] == {"confident": 0.05, "possible": 0.1, "refer": 0.2}
    shown = [(b["tier"], b["statistic"], b["source"], b["low"], b["high"]) for b in found["bounds"]]
    assert shown == [
        ("confident", "top1", "declared", pytest.approx(0.91), 1.0),
        ("confident", "confident_wrong", "declared", 0.0, pytest.approx(0.045)),
        ("possible", "top1", "declared", pytest.approx(0.5), pytest.approx(0.7)),
    ]
    confident, possible, refer = found["scenario"]["tiers"]
    assert confident["top1"] is None
    assert "not independent" in confident["refused"]
    assert possible["top1"] == pytest.approx(symmetric_accuracy(0.6, 0.1, 25))
    assert (refer["top1"], refer["refused"]) == (None, None)


def test_without_a_rate_nothing_is_said() -> None:
    found = label_noise_report(REPORT, DEFAULT_POLICY, 25)
    assert found == {"assumed": None, "bounds": [], "scenario": None, "reviewed": None}


def rows(**columns: Any) -> pl.DataFrame:
    """Twelve rows: two asked with certainty and five of ten drawn, one wrong in either."""
    n = 12
    table = {
        "image_uuid": [f"i{i:02d}" for i in range(n)],
        "patient_id": [None] * n,
        "score": [0.9] * n,
        "given_label": ["a"] * n,
        "label": ["b", "a", "b", *["a"] * 9],
        "reviewed": [True] * 7 + [False] * 5,
        "asked": [True] * 7 + [False] * 5,
        "inclusion_probability": [1.0] * 2 + [0.5] * 10,
        **columns,
    }
    return pl.DataFrame(table, schema_overrides={"patient_id": pl.String}).with_columns(
        top1=pl.col("label") == "a",
        top_classes=pl.lit(["a", "b"]),
        top_probs=pl.lit([0.9, 0.1]),
    )


def test_reviews_give_a_rate_by_tier_weighted_by_how_they_were_drawn() -> None:
    tier = pl.Series("tier", ["confident"] * 12)
    found = reviewed_noise(rows(), tier)
    assert found is not None
    confident, possible, _ = found["tiers"]
    # (2 x 1/2 + 10 x 1/5) / 12; a plain share of the reviewed rows would be 2/7
    assert confident["eta"] == pytest.approx(3 / 12)
    assert confident["ci95"][0] < 3 / 12 < confident["ci95"][1]
    assert (confident["n"], confident["n_reviewed"], confident["n_drawn_reviewed"]) == (12, 7, 5)
    assert (possible["n"], possible["eta"], possible["ci95"]) == (0, None, None)
    used = label_noise_report(REPORT, DEFAULT_POLICY, 25, reviewed=found)
    assert {(b["tier"], b["source"]) for b in used["bounds"]} == {("confident", "reviewed")}
    assert used["bounds"][0]["eta"] == confident["ci95"][1]


def test_a_tier_that_nobody_drew_from_has_no_rate() -> None:
    tier = pl.Series("tier", ["confident"] * 7 + ["possible"] * 5)
    found = reviewed_noise(rows(), tier)
    assert found is not None
    assert found["tiers"][1]["eta"] is None


def test_reviews_of_unknown_probability_give_no_rate() -> None:
    unknown = rows(asked=[False] * 12, inclusion_probability=[None] * 12)
    assert reviewed_noise(unknown, pl.Series("tier", ["confident"] * 12)) is None
