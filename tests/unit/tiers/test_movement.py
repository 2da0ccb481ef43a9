from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from dagster_project.lib.errors import InputError
from dagster_project.lib.tiers import movement
from dagster_project.lib.tiers.policy import parse_policy
from dagster_project.lib.tiers.selection import ThresholdFit, fit_thresholds
from dagster_project.lib.tiers.thresholds import Thresholds

POLICY = parse_policy(
    {"confident": {"rule": "coverage", "target": 0.4}, "refer": {"rule": "share", "target": 0.2}}
)


def rows(n: int = 2000, seed: int = 0, per_patient: int = 2) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    score = rng.random(n)
    right = rng.random(n) < 0.3 + 0.65 * score
    return pl.DataFrame(
        {
            "image_uuid": [f"i{i:04d}" for i in range(n)],
            "patient_id": [f"p{i // per_patient:04d}" for i in range(n)],
            "label": [f"c{i % 3}" for i in range(n)],
            "score": score,
            "top1": right,
            "top3": right,
        }
    )


def fit_of(frame: pl.DataFrame) -> ThresholdFit:
    return fit_thresholds(frame, POLICY)


def test_images_are_paired_by_id_and_the_newly_confident_wrong_are_found() -> None:
    new = rows(4).with_columns(
        score=pl.Series([0.9, 0.9, 0.5, 0.1]), top1=pl.Series([False, False, True, False])
    )
    old = new.reverse().with_columns(score=pl.Series([0.1, 0.9, 0.9, 0.5]))
    at = Thresholds(0.8, 0.3, 0.25)
    pairs = movement.paired(new, old, at, at)
    assert pairs["into_confident_wrong"].to_list() == [True, False, False, False]
    crossed = movement.crossed_images(pairs)
    assert crossed["image_uuid"].to_list() == ["i0000", "i0002"]
    assert "patient" not in crossed.columns
    counted = {(r["old_tier"], r["new_tier"]): r["n"] for r in movement.crossings(pairs)}
    assert counted["possible", "confident"] == counted["confident", "possible"] == 1
    with pytest.raises(InputError, match="no image in common"):
        movement.paired(new, old.with_columns(image_uuid=pl.lit("x")), at, at)


def test_the_paired_difference_is_the_linearised_ratio_by_patient() -> None:
    new, old = rows(), rows(seed=1)
    at = Thresholds(0.8, 0.3, 0.25)
    pairs = movement.paired(new, old, at, at)
    found = movement.paired_difference(pairs, pl.col("old_right"), pl.col("new_right"))
    d = new["top1"].to_numpy().astype(int) - old["top1"].to_numpy().astype(int)
    by_patient = d.reshape(-1, 2).sum(axis=1)
    mean = d.mean()
    half = 1.96 * np.sqrt(((by_patient - mean * 2) ** 2).sum()) / d.size
    row = found.row(0, named=True)
    assert (row["difference"], row["low"], row["high"]) == pytest.approx(
        (mean, mean - half, mean + half), abs=1e-5
    )
    by_class = movement.paired_difference(
        pairs, pl.col("old_right"), pl.col("new_right"), by="label"
    )
    assert by_class["label"].to_list() == ["c0", "c1", "c2"]
    assert int(by_class["n"].sum()) == 2000


def test_the_interval_of_a_paired_difference_misses_about_one_in_twenty() -> None:
    """200 draws without any difference: 21 misses or more have probability 0.2 %."""
    at, missed = Thresholds(0.8, 0.3, 0.25), 0
    for seed in range(200):
        pairs = movement.paired(rows(400, seed), rows(400, seed + 1000), at, at)
        row = movement.paired_difference(pairs, pl.col("old_right"), pl.col("new_right")).row(
            0, named=True
        )
        missed += not row["low"] <= 0 <= row["high"]
    assert missed < 21


def test_nothing_to_compare_with_is_null() -> None:
    frame = rows()
    assert movement.what_moved(frame, fit_of(frame), deployed=None, baseline=None) is None


@pytest.mark.parametrize(
    ("shift", "verdict"),
    [
        pytest.param(0.0, "keep", id="as_deployed"),
        pytest.param(-0.06, "nudge", id="outside_the_interval"),
        pytest.param(0.2, "stop", id="too_far"),
    ],
)
def test_the_verdict_follows_how_far_thresholds_moved(shift: float, verdict: str) -> None:
    frame = rows()
    fit = fit_of(frame)
    deployed = Thresholds(fit.confident + shift, fit.refer, 0.25)
    moved = movement.what_moved(frame, fit, deployed=deployed, baseline=None)
    assert moved is not None
    assert moved["verdict"] == verdict
    assert moved["measure"] == "share answered confidently"
    assert len(moved["old_on_new"]) == 3


def test_a_worse_model_or_many_newly_wrong_answers_stop_and_each_reason_is_named() -> None:
    old = rows()
    worse = old.with_columns(top1=pl.col("top1") & (pl.int_range(pl.len()) % 5 > 0))
    fit = fit_of(worse)
    moved = movement.what_moved(worse, fit, deployed=fit.thresholds, baseline=old)
    assert moved is not None
    assert moved["verdict"] == "stop"
    assert "right less often" in moved["sentence"]
    assert "become confident and wrong" in moved["sentence"]
    assert moved["measure"] == "recall"
    assert all(row["difference"] < 0 for row in moved["classes"])


def test_old_thresholds_on_new_scores_are_said_in_words() -> None:
    old = rows()
    new = old.with_columns(score=pl.col("score") * 0.9)
    deployed = Thresholds(0.6, 0.2, 0.25)
    moved = movement.what_moved(new, fit_of(new), deployed=deployed, baseline=old)
    assert moved is not None
    before = (old["score"] < 0.2).sum() / old.height
    after = (new["score"] < 0.2).sum() / new.height
    expected = f"refer 0.2 now refers {100 * after:.1f} % of images (before: {100 * before:.1f} %)"
    assert moved["old_on_new"][0] == expected
