from __future__ import annotations

import polars as pl
import pytest

from dagster_project.lib.tiers.intervals import tier_intervals
from dagster_project.lib.tiers.reports import tier_report
from dagster_project.lib.tiers.thresholds import Thresholds

AT = Thresholds(0.8, 0.4, 0.25)
# patient p: two confident, one wrong; q: one possible; r: one refer, one confident and right
ROWS = pl.DataFrame(
    {
        "image_uuid": list("abcde"),
        "patient_id": ["p", "p", "q", "r", "r"],
        "score": [0.9, 0.8, 0.5, 0.1, 0.95],
        "top1": [True, False, False, False, True],
        "top3": [True, True, True, False, True],
    }
)


def test_over_patients_each_counts_once() -> None:
    found = tier_intervals(ROWS, AT)["patients"]
    assert found == {
        "n": 3,
        "n_images": 5,
        "known": True,
        "coverage": pytest.approx((1 + 0 + 0.5) / 3),
        "confident_wrong": pytest.approx((0.5 + 0 + 0) / 3),
        "refer_share": pytest.approx((0 + 0 + 0.5) / 3),
        "top1": pytest.approx((0.5 + 0 + 0.5) / 3),
        "any_confident_wrong": pytest.approx(1 / 3),
    }


def test_the_intervals_over_images_name_figures_of_the_report_and_hold_them(
    original: pl.DataFrame,
) -> None:
    at = Thresholds(0.815, 0.444, 0.25)
    report = tier_report(original, at)
    found = tier_intervals(original, at)["intervals"]["images"]
    for name, interval in found.items():
        value = report
        for key in name.split("."):
            value = value[key]
        assert interval[0] <= value <= interval[1], name
    # 15,561 images of 7,781 patients: about 0.4 points either way on a share of 4 %
    low, high = found["outcomes.confident_wrong"]
    assert 0.004 < high - low < 0.009


def test_an_image_without_a_patient_is_its_own() -> None:
    alone = ROWS.with_columns(patient_id=pl.lit(None, pl.String))
    found = tier_intervals(alone, AT)["patients"]
    assert (found["n"], found["known"]) == (5, False)
    assert found["coverage"] == pytest.approx(3 / 5)
