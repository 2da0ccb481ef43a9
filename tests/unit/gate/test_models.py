"""Operating points among models: the published orders, and a perfect 0.0 that counts."""

from __future__ import annotations

import random
from typing import Any

import polars as pl
import pytest
from zeroproofml.benchmarks.operating_points import compute_dose_operating_points

from dagster_project.lib.errors import InputError
from dagster_project.lib.gate.config import Cost
from dagster_project.lib.gate.models import METRICS, ORDERS, choose_models

THEIRS = {
    "fp_cens": "false_in_range_rate_on_censored",
    "fn_in": "false_censored_rate_on_in_range",
    "direction_f1": "direction_only_macro_f1_on_censored",
}


def published(metrics: pl.DataFrame) -> dict[str, Any]:
    """The reference's presets, from the same seed means."""
    found = choose_models(metrics)
    names = found["models"]
    means: dict[str, dict[str, Any]] = {name: {} for name in names}
    for (name,), seeds in metrics.group_by("model"):
        for metric in set(METRICS) & set(metrics.columns):
            values = seeds[metric].drop_nulls().drop_nans()
            mean = values.sum() / len(values) if len(values) else None
            means[str(name)][THEIRS.get(metric, metric)] = {"mean": mean}
    summary = {"domain": "dose", "models": names, "model_summary": means}
    presets = compute_dose_operating_points(summary=summary, per_seed_results={})["presets"]
    return {name: (preset["status"], preset.get("model_key")) for name, preset in presets.items()}


def ours(metrics: pl.DataFrame) -> dict[str, Any]:
    points = choose_models(metrics)["points"]
    return {name: (point["status"], point["model"]) for name, point in points.items()}


def table(**models: dict[str, float | None]) -> pl.DataFrame:
    return pl.DataFrame(
        [{"model": name, "seed": 0, **values} for name, values in models.items()],
        schema_overrides=dict.fromkeys(METRICS, pl.Float64),
    )


def test_every_choice_is_the_published_one_where_no_mean_is_zero() -> None:
    for world in range(100):
        rng = random.Random(world)
        lines = [
            {
                "model": f"m{model}",
                "seed": seed,
                # few levels, exact in binary: ties go through the whole order
                **{name: rng.choice([None, 0.25, 0.5, 0.75]) for name in METRICS},
            }
            for model in range(rng.randint(1, 5))
            for seed in range(rng.choice([1, 2, 4]))
        ]
        metrics = pl.DataFrame(lines, schema_overrides=dict.fromkeys(METRICS, pl.Float64))
        assert ours(metrics) == published(metrics), metrics


@pytest.mark.parametrize(
    ("point", "perfect", "worse"),
    [
        pytest.param("safety_first", {"fp_cens": 0.0}, {"fp_cens": 0.2}, id="nothing_accepted"),
        pytest.param("accuracy_first", {"fn_in": 0.0}, {"fn_in": 0.2}, id="nothing_withheld"),
        pytest.param(
            "balanced",
            {"fp_cens": 0.0, "fn_in": 0.1},
            {"fp_cens": 0.2, "fn_in": 0.2},
            id="one_of_two_perfect",
        ),
    ],
)
def test_a_perfect_zero_is_the_best_value_and_not_a_missing_one(
    point: str, perfect: dict[str, float | None], worse: dict[str, float | None]
) -> None:
    whole: dict[str, float | None] = {"fp_cens": 0.3, "fn_in": 0.3}
    metrics = table(perfect=whole | perfect, worse=whole | worse)
    assert ours(metrics)[point][1] == "perfect"
    # what is wrong there: 0.0 or inf
    assert published(metrics)[point][1] == "worse"


def test_a_model_that_accepts_nothing_ranks_below_one_that_does_only_on_a_tie() -> None:
    metrics = table(
        none={"fp_cens": 0.1, "accept_rate": 0.0}, some={"fp_cens": 0.1, "accept_rate": 0.4}
    )
    assert ours(metrics)["safety_first"] == ("backed", "some")


def test_seeds_are_averaged_before_models_are_compared() -> None:
    metrics = pl.DataFrame(
        {
            "model": ["a", "a", "b", "b"],
            "seed": [1, 2, 1, 2],
            "fp_cens": [0.0, 0.4, 0.1, 0.2],
            "fn_in": [0.1, None, 0.3, 0.3],
        }
    )
    points = choose_models(metrics)["points"]
    assert points["safety_first"]["model"] == "b"
    measured = points["safety_first"]["metrics"]["fp_cens"]
    assert measured["mean"] == pytest.approx(0.15)
    assert measured["std"] == pytest.approx(0.005**0.5)
    assert points["accuracy_first"]["metrics"]["fn_in"] == {"mean": 0.1, "std": None, "n_seeds": 1}
    assert points["direction_aware"]["status"] == "unavailable"
    assert points["direction_aware"]["reason"] == "no model has direction_f1"


def test_balanced_is_not_added_where_it_picks_a_model_that_is_there_already() -> None:
    metrics = table(
        safe={"fp_cens": 0.0, "fn_in": 0.5},
        sharp={"fp_cens": 0.5, "fn_in": 0.0},
        middle={"fp_cens": 0.1, "fn_in": 0.1},
    )
    assert ours(metrics)["balanced"] == ("backed", "middle")
    fewer = metrics.filter(pl.col("model") != "middle")
    balanced = choose_models(fewer)["points"]["balanced"]
    assert balanced["status"] == "not_added"
    assert balanced["reason"] == "safety_first picks the same model"


def test_sums_that_differ_by_rounding_alone_are_tied() -> None:
    assert 0.1 + 0.2 != 0.3 + 0.0
    metrics = table(
        first={"fp_cens": 0.1, "fn_in": 0.2, "fault_rate": 0.1, "semantic_bottom_rate": 0.1},
        second={"fp_cens": 0.3, "fn_in": 0.0, "fault_rate": 0.4, "semantic_bottom_rate": 0.1},
    )
    assert choose_models(metrics)["points"]["balanced"]["model"] == "first"  # by cost


def test_equal_models_are_told_apart_by_name_as_published() -> None:
    equal: dict[str, float | None] = {"fp_cens": 0.5, "fn_in": 0.5, "direction_f1": 0.5}
    metrics = table(a=equal, b=equal)
    assert ours(metrics) == published(metrics)
    assert ours(metrics)["safety_first"][1] == "a"
    assert ours(metrics)["direction_aware"][1] == "b"


def test_weights_of_the_cost_decide_a_tie() -> None:
    metrics = table(
        faulty={"fp_cens": 0.1, "fault_rate": 0.1, "semantic_bottom_rate": 0.0},
        semantic={"fp_cens": 0.1, "fault_rate": 0.0, "semantic_bottom_rate": 0.3},
    )
    chosen = {
        weight: choose_models(metrics, Cost(semantic=weight))["points"]["safety_first"]["model"]
        for weight in (0.5, 0.1)
    }
    assert chosen == {0.5: "faulty", 0.1: "semantic"}


def test_the_order_of_rows_does_not_matter() -> None:
    rng = random.Random(5)
    metrics = pl.DataFrame(
        [
            {"model": m, "seed": s, **{name: rng.random() for name in METRICS}}
            for m in "cab"
            for s in range(3)
        ]
    )
    assert choose_models(metrics) == choose_models(metrics.sample(fraction=1, shuffle=True, seed=1))


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        pytest.param({"model": ["a"]}, "column seed is missing", id="no_seed"),
        pytest.param(
            {"model": ["a", "a"], "seed": [1, 1]}, "model a, seed 1 occurs more", id="twice"
        ),
        pytest.param({"model": ["a"], "seed": [None]}, "no model or no seed", id="no_name"),
        pytest.param(
            {"model": ["a"], "seed": [1], "fn_in": ["low"]}, "fn_in is String", id="words"
        ),
    ],
)
def test_metrics_that_cannot_be_compared_are_refused(metrics: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        choose_models(pl.DataFrame(metrics))


def test_without_any_model_nothing_is_available() -> None:
    empty = pl.DataFrame(schema={"model": pl.String, "seed": pl.Int64, "fp_cens": pl.Float64})
    points = choose_models(empty)["points"]
    assert {point["status"] for point in points.values()} == {"unavailable"}
    assert [*points] == [*ORDERS]
