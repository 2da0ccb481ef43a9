from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from dagster_project.lib.errors import RefusedError
from dagster_project.lib.tiers.policy import TierPolicy, parse_policy
from dagster_project.lib.tiers.selection import ThresholdFit, fit_thresholds

# score: right?   .9 y   .8 y y   .7 n   .6 y   .5 n n   .4 y   .3 n   .2 y
SCORES = [0.9, 0.8, 0.8, 0.7, 0.6, 0.5, 0.5, 0.4, 0.3, 0.2]
RIGHT = [True, True, True, False, True, False, False, True, False, True]
IN_TOP3 = [True] * 8 + [False, True]


def rows(**columns: object) -> pl.DataFrame:
    frame = pl.DataFrame(
        {
            "image_uuid": [f"i{i}" for i in range(10)],
            "patient_id": [f"p{i // 2}" for i in range(10)],
            "score": SCORES,
            "top1": RIGHT,
            "top3": IN_TOP3,
        }
    )
    return frame.with_columns(**{k: pl.Series(v) for k, v in columns.items()})  # type: ignore[arg-type]


def policy(
    confident: tuple[str, float] = ("fixed", 1.0), refer: tuple[str, float] = ("fixed", 0.0)
) -> TierPolicy:
    keys = ("rule", "target")
    return parse_policy(
        {
            "confident": dict(zip(keys, confident, strict=True)),
            "refer": dict(zip(keys, refer, strict=True)),
        }
    )


@pytest.mark.parametrize(
    ("rule", "target", "threshold"),
    [
        pytest.param("coverage", 0.3, 0.8, id="coverage_met_exactly"),
        pytest.param("coverage", 0.31, 0.7, id="coverage_next_score"),
        pytest.param("coverage", 0.0, 0.9, id="coverage_0_is_the_highest_score"),
        pytest.param("coverage", 1.0, 0.2, id="coverage_1_is_the_lowest_score"),
        # right at or above each score: 1/1 3/3 3/4 4/5 4/7 5/8 5/9 6/10
        pytest.param(
            "covered_top1", 0.75, 0.6, id="covered_top1_passes_a_higher_one_that_meets_it"
        ),
        pytest.param("covered_top1", 0.8, 0.6, id="covered_top1_although_.7_misses_it"),
        pytest.param("covered_top1", 0.6, 0.2, id="covered_top1_lowest_of_all"),
        pytest.param("confident_wrong_share", 0.1, 0.6, id="wrong_share_met_exactly"),
        pytest.param("confident_wrong_share", 0.29, 0.6, id="wrong_share_takes_a_tie_whole"),
        pytest.param("confident_wrong_share", 0.3, 0.4, id="wrong_share_next_score"),
        pytest.param("confident_wrong_share", 0.0, 0.8, id="wrong_share_0"),
        pytest.param("fixed", 0.77, 0.77, id="fixed"),
    ],
)
def test_confident_rules_by_hand(rule: str, target: float, threshold: float) -> None:
    fit = fit_thresholds(rows(), policy(confident=(rule, target)), bootstraps=0)
    assert fit.confident_rule.fitted == threshold


@pytest.mark.parametrize(
    ("rule", "target", "threshold"),
    [
        pytest.param("share", 0.2, 0.4, id="share_met_exactly"),
        pytest.param("share", 0.49, 0.5, id="share_never_splits_the_tie_at_.5"),
        pytest.param("share", 0.5, 0.6, id="share_takes_the_tie_whole"),
        pytest.param("share", 0.0, 0.2, id="share_0_refers_nobody"),
        pytest.param("kept_top3", 1.0, 0.4, id="kept_top3_1"),
        pytest.param("kept_top3", 0.9, 0.2, id="kept_top3_met_by_all"),
        pytest.param("fixed", 0.15, 0.15, id="fixed"),
    ],
)
def test_refer_rules_by_hand(rule: str, target: float, threshold: float) -> None:
    fit = fit_thresholds(rows(), policy(refer=(rule, target)), bootstraps=0)
    assert fit.refer_rule.fitted == threshold


@pytest.mark.parametrize(
    ("rule", "best"),
    [
        pytest.param("covered_top1", "highest value that can be reached is 0.6667", id="top1"),
        pytest.param(
            "confident_wrong_share", "lowest value that can be reached is 0.1000", id="wrong"
        ),
    ],
)
def test_a_target_nobody_can_meet_is_refused_with_the_best_value(rule: str, best: str) -> None:
    wrong_at_top = rows(top1=[False, True, True, *RIGHT[3:]])
    target = 0.99 if rule == "covered_top1" else 0.05
    with pytest.raises(RefusedError, match=best):
        fit_thresholds(wrong_at_top, policy(confident=(rule, target)))


def test_released_values_are_rounded_up_and_both_figures_are_shown() -> None:
    off_grid = rows(score=[s + 0.0004 for s in SCORES])
    fit = fit_thresholds(off_grid, policy(("coverage", 0.3), ("share", 0.2)), bootstraps=0)
    assert (fit.confident, fit.refer) == (0.801, 0.401)
    assert fit.confident_rule.at_fitted == 0.3
    assert fit.confident_rule.at_released == 0.1  # both rows at .8004 fell out, together
    assert fit.refer_rule.at_fitted == 0.2
    assert fit.refer_rule.at_released == 0.3


def test_confident_is_raised_to_refer_and_it_is_said() -> None:
    fit = fit_thresholds(rows(), policy(("confident_wrong_share", 1.0), ("share", 0.2)))
    assert fit.confident_rule.fitted == 0.2
    assert fit.confident == fit.refer == 0.4
    assert fit.confident_rule.raised_to_refer
    assert not fit.refer_rule.raised_to_refer
    assert fit.confident_rule.at_released == 0.3


def test_a_released_value_above_every_score_has_no_rate() -> None:
    fit = fit_thresholds(rows(score=[0.9999] * 10), policy(("covered_top1", 0.5)), bootstraps=0)
    assert fit.confident == 1.0
    assert fit.confident_rule.at_fitted == 0.6
    assert fit.confident_rule.at_released is None


def test_alternatives_name_every_other_rule_and_an_unmet_one_is_null() -> None:
    nobody_right = rows(top1=[False] * 10, top3=[False] * 10)
    fit = fit_thresholds(nobody_right, policy(), bootstraps=0)
    found = {a.rule: a.released for a in fit.confident_rule.alternatives}
    assert found == {"coverage": 0.6, "covered_top1": None, "confident_wrong_share": None}
    assert [a.rule for a in fit.refer_rule.alternatives] == ["share", "kept_top3"]


def test_the_interval_resamples_patients_and_is_seeded() -> None:
    patients, images = 400, 2000
    one = pl.DataFrame(
        {
            "image_uuid": [f"i{i:04d}" for i in range(images)],
            "patient_id": [f"p{i // 5}" for i in range(images)],
            # five equal images of each patient, patients spread evenly over [0, 1]
            "score": np.repeat((np.arange(patients) + 0.5) / patients, 5),
            "top1": [True] * images,
            "top3": [True] * images,
        }
    )
    wanted = policy(("coverage", 0.5), ("share", 0.1))

    def width(frame: pl.DataFrame) -> float:
        interval = fit_thresholds(frame, wanted).confident_rule.ci95
        assert interval is not None
        return interval[1] - interval[0]

    assert fit_thresholds(one, wanted) == fit_thresholds(
        one.sample(fraction=1, shuffle=True, seed=5), wanted
    )
    alone = one.with_columns(patient_id=pl.lit(None, dtype=pl.String))
    # 400 independent patients in place of 2,000 images: sqrt(5) times as wide
    assert width(one) / width(alone) == pytest.approx(5**0.5, rel=0.15)
    # the median of a uniform score has standard error sqrt(1/4 / patients)
    assert width(one) == pytest.approx(2 * 1.96 * (0.25 / patients) ** 0.5, rel=0.12)


@pytest.mark.parametrize(
    "rule", [("confident_wrong_share", 0.3), ("covered_top1", 0.5), ("coverage", 0.4)]
)
def test_the_interval_equals_refitting_on_resampled_rows(rule: tuple[str, float]) -> None:
    frame, wanted = rows(), policy(confident=rule)
    rng = np.random.default_rng(7)
    fitted = []
    for _ in range(40):
        drawn = [frame.filter(patient_id=f"p{i}") for i in rng.integers(0, 5, 5)]
        try:
            again = fit_thresholds(pl.concat(drawn), wanted, bootstraps=0)
            fitted.append(again.confident_rule.fitted)
        except RefusedError:
            fitted.append(float("inf"))
    fitted.sort()
    interval = fit_thresholds(frame, wanted, bootstraps=40, seed=7).confident_rule.ci95
    # the 2.5 % and 97.5 % points of 40 values: the first and the 39th
    assert interval == ((fitted[0], fitted[38]) if fitted[38] < 1 else None)


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(rows(patient_id=["p"] * 10), id="one_patient"),
        # half of all resamples hold no patient who could meet the target
        pytest.param(rows(top1=[True] + [False] * 9), id="target_often_out_of_reach"),
    ],
)
def test_an_undefined_interval_is_null(frame: pl.DataFrame) -> None:
    assert fit_thresholds(frame, policy(("covered_top1", 1.0))).confident_rule.ci95 is None


def test_a_fixed_threshold_has_no_interval() -> None:
    fit = fit_thresholds(rows(), policy(("fixed", 0.7), ("share", 0.2)))
    assert fit.confident_rule.ci95 is None
    assert fit.refer_rule.ci95 is not None


def test_a_fit_survives_json() -> None:
    fit = fit_thresholds(rows(), policy(("coverage", 0.5), ("share", 0.2)))
    assert ThresholdFit.model_validate_json(fit.model_dump_json()) == fit
