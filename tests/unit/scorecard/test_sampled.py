"""Differences from a sample of reviews: by hand, over every possible sample, and what has none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
import pytest
from scorecard_worlds import NAMES, answering, answers_of

from dagster_project.lib.errors import InputError
from dagster_project.lib.scorecard.sampled import sampled_differences

# the deployed model answers 0 everywhere, the candidate 1: a difference is -1 or +1
GIVEN = [1, 1, 0, 0, 0, 0, 0]
TRUE = [0, 1, 0, 0, 1, 1, 0]
CERTAIN, DRAWN = [0, 1], [2, 3, 4, 5, 6]


def estimate(asked: Sequence[int], drawn: int, **columns: Any) -> dict[str, Any] | None:
    """The estimate where these images were reviewed, ``drawn`` of them at random."""
    force = [TRUE[at] if at in asked else GIVEN[at] for at in range(7)]
    probs = {"deployed": answering([0] * 7, 2), "candidate": answering([1] * 7, 2)}
    answers = answers_of(force, probs)
    given = pl.DataFrame(
        {"image_uuid": answers.image_uuid, "label": [NAMES[at] for at in GIVEN]}
    ).with_columns(**{k: v for k, v in columns.items() if k == "label"})
    reviews = pl.DataFrame(
        {
            "image_uuid": answers.image_uuid,
            "inclusion_probability": [1.0] * 2 + [drawn / 5] * 5,
            "stratum": ["certain"] * 2 + ["possible/agrees/clear"] * 5,
            "decided": [at in asked for at in range(7)],
        }
    ).with_columns(**{k: v for k, v in columns.items() if k != "label"})
    return sampled_differences(answers, "deployed", given, reviews)


def every_sample(drawn: int) -> Iterator[dict[str, float]]:
    for chosen in combinations(DRAWN, drawn):
        found = estimate([*CERTAIN, *chosen], drawn)
        assert found is not None
        yield found["top1"]["candidate"]


def test_a_hand_counted_sample() -> None:
    found = estimate([0, 1, 2, 4], 2)
    assert found is not None
    assert {k: found[k] for k in ("n", "n_outside", "n_decided")} == {
        "n": 7,
        "n_outside": 0,
        "n_decided": 4,
    }
    row = found["top1"]["candidate"]
    # given: two for the candidate, five for the other; image 0 turns by 2, image 4 for 5/2 rows
    assert row["given"] == pytest.approx((2 - 5) / 7)
    assert row["overwritten"] == pytest.approx((2 - 5) / 7)
    assert row["estimate"] == pytest.approx((2 - 5 - 2 + 2 * 5 / 2) / 7)
    assert row["low"] < row["estimate"] < row["high"]


@pytest.mark.parametrize("drawn", [2, 3, 4])
def test_over_every_sample_the_estimate_is_the_truth_and_overwriting_is_not(drawn: int) -> None:
    found = list(every_sample(drawn))
    truth = (sum(TRUE) - (7 - sum(TRUE))) / 7
    assert np.mean([row["estimate"] for row in found]) == pytest.approx(truth)
    assert np.mean([row["overwritten"] for row in found]) < truth - 0.05


def test_a_complete_review_leaves_only_the_draw_of_the_images() -> None:
    found = estimate([*CERTAIN, *DRAWN], 5, inclusion_probability=pl.lit(1.0))
    assert found is not None
    row = found["top1"]["candidate"]
    d = np.where(np.array(TRUE) == 1, 1, -1)
    assert row["estimate"] == row["overwritten"] == pytest.approx(d.mean())
    assert row["high"] - row["estimate"] == pytest.approx(1.959964 * d.std(ddof=1) / 7**0.5)


@pytest.mark.parametrize(
    "columns",
    [
        pytest.param({"stratum": pl.lit(None, dtype=pl.String)}, id="no_frame"),
        pytest.param({"decided": pl.lit(value=False)}, id="nothing_back"),
        pytest.param({"label": pl.lit(None, dtype=pl.String)}, id="no_given_label"),
        pytest.param(
            {"inclusion_probability": pl.Series([1.0] * 2 + [None] * 5)}, id="suspicions_alone"
        ),
    ],
)
def test_without_a_sample_there_is_no_estimate(columns: Any) -> None:
    assert estimate([0, 1, 2, 4], 2, **columns) is None


def test_a_given_label_of_another_task_is_refused() -> None:
    with pytest.raises(InputError, match="zebra"):
        estimate([0, 1, 2, 4], 2, label=pl.lit("zebra"))


def test_the_order_of_the_rows_is_nothing() -> None:
    shuffled = [3, 0, 6, 2, 5, 1, 4]
    probs = {"deployed": answering([0] * 7, 2), "candidate": answering([1] * 7, 2)}
    answers = answers_of(TRUE, probs)
    given = pl.DataFrame({"image_uuid": answers.image_uuid, "label": [NAMES[g] for g in GIVEN]})
    reviews = given.select(
        "image_uuid", inclusion_probability=0.5, stratum=pl.lit("x"), decided=pl.lit(value=True)
    )
    one = sampled_differences(answers, "deployed", given, reviews)
    other = sampled_differences(answers, "deployed", given[shuffled], reviews[shuffled])
    assert one is not None
    assert one == other
