from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from dagster_project.lib.errors import InputError, RefusedError
from dagster_project.lib.tiers.certification import claims_of
from dagster_project.lib.tiers.policy import START_WITH_ACCURACY, TierPolicy, parse_policy
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
    fit = fit_thresholds(rows(), policy(confident=(rule, target)))
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
    fit = fit_thresholds(rows(), policy(refer=(rule, target)))
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
    fit = fit_thresholds(off_grid, policy(("coverage", 0.3), ("share", 0.2)))
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
    fit = fit_thresholds(rows(score=[0.9999] * 10), policy(("covered_top1", 0.5)))
    assert fit.confident == 1.0
    assert fit.confident_rule.at_fitted == 0.6
    assert fit.confident_rule.at_released is None


def test_alternatives_name_every_other_rule_and_an_unmet_one_is_null() -> None:
    nobody_right = rows(top1=[False] * 10, top3=[False] * 10)
    fit = fit_thresholds(nobody_right, policy())
    found = {a.rule: a.released for a in fit.confident_rule.alternatives}
    assert found == {"coverage": 0.6, "covered_top1": None, "confident_wrong_share": None}
    assert [a.rule for a in fit.refer_rule.alternatives] == ["share", "kept_top3"]


def test_the_interval_is_by_patient_and_ignores_the_order_of_rows() -> None:
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


def test_one_patient_gives_no_interval() -> None:
    fit = fit_thresholds(rows(patient_id=["p"] * 10), policy(("covered_top1", 0.5)))
    assert (fit.confident_rule.ci95, fit.confident_rule.ci95_set) == (None, None)


def test_a_fixed_threshold_has_no_interval() -> None:
    fit = fit_thresholds(rows(), policy(("fixed", 0.7), ("share", 0.2)))
    assert fit.confident_rule.ci95 is None
    assert fit.refer_rule.ci95 is not None


def graded(patients: int = 3000, images: int = 1) -> pl.DataFrame:
    """Scores spread evenly; the higher, the more often right: wrong below .3, rare above .8."""
    n = patients * images
    score = (np.arange(n) * 617 % n + 0.5) / n
    wrong = np.random.default_rng(3).random(n) > np.clip(score * 1.2, 0, 0.99)
    return pl.DataFrame(
        {
            "image_uuid": [f"i{i:05d}" for i in range(n)],
            "patient_id": [f"p{i // images:05d}" for i in range(n)],
            "score": score,
            "top1": ~wrong,
            "top3": [True] * n,
            "age": ["old" if i % 3 else "young" for i in range(n)],
        }
    )


def certifying(**certify: object) -> TierPolicy:
    return parse_policy(
        {
            "confident": {"rule": "confident_wrong_share", "target": 0.05},
            "refer": {"rule": "share", "target": 0.1},
            "certify": certify,
        }
    )


def test_a_plug_in_threshold_is_not_certified_and_enforcing_releases_the_certified_one() -> None:
    frame = graded()
    plain = fit_thresholds(frame, certifying())
    assert plain.certificate is not None
    assert not plain.certificate.released_is_certified
    assert plain.certificate.threshold is not None
    assert plain.certificate.threshold > plain.confident
    enforced = fit_thresholds(frame, certifying(enforce=True))
    assert enforced.certificate is not None
    assert enforced.certificate.released_is_certified
    assert enforced.confident == enforced.certificate.threshold == plain.certificate.threshold
    assert enforced.confident_rule.raised_to_certified
    assert enforced.confident_rule.fitted == plain.confident_rule.fitted


def test_enforcing_what_cannot_be_certified_is_refused_with_the_reason() -> None:
    with pytest.raises(RefusedError, match=r"not certified: .* below the policy's minimum of 99"):
        fit_thresholds(graded(), certifying(enforce=True, min_coverage=0.99))
    coverage = parse_policy(
        {
            "confident": {"rule": "coverage", "target": 0.3},
            "refer": {"rule": "share", "target": 0.1},
            "certify": {"enforce": True},
        }
    )
    with pytest.raises(RefusedError, match="bounds neither"):
        fit_thresholds(graded(), coverage)


def test_what_accept_bounds_is_certified_together_with_the_rule() -> None:
    wanted = parse_policy(
        {
            "confident": {"rule": "confident_wrong_share", "target": 0.05},
            "refer": {"rule": "share", "target": 0.1},
            "accept": {"covered_top1": 0.8, "confident_wrong_share": 0.04},
        }
    )
    assert [(c.quantity, c.target) for c in claims_of(wanted)] == [
        ("confident_wrong_share", 0.04),
        ("covered_top1", 0.8),
    ]
    found = fit_thresholds(graded(), wanted).certificate
    assert found is not None
    assert found.start == START_WITH_ACCURACY
    assert [claim.holds for claim in found.claims] == [True, True]
    # quoted alone, each carries half of delta: never looser than at the whole of it
    assert all(claim.alone is not None for claim in found.claims)


def test_a_named_subgroup_must_hold_as_well() -> None:
    frame = graded()
    alone = fit_thresholds(frame, certifying()).certificate
    split = fit_thresholds(frame, certifying(subgroups=["age"]), groups=frame).certificate
    assert alone is not None
    assert split is not None
    assert alone.threshold is not None
    assert split.threshold is not None
    assert split.threshold >= alone.threshold
    assert [(g.column, g.group) for g in split.subgroups] == [("age", "old"), ("age", "young")]
    assert sum(g.n_images for g in split.subgroups) == frame.height
    with pytest.raises(InputError, match="no column 'colour' beside the images"):
        fit_thresholds(frame, certifying(subgroups=["colour"]), groups=frame)


def test_a_fit_survives_json() -> None:
    fit = fit_thresholds(rows(), policy(("coverage", 0.5), ("share", 0.2)))
    assert ThresholdFit.model_validate_json(fit.model_dump_json()) == fit
