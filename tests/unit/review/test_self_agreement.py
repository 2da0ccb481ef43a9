from __future__ import annotations

import polars as pl
import pytest

from dagster_project.lib.review.self_agreement import ENOUGH, self_agreement

REPEATS = pl.DataFrame(
    {
        "presented_uuid": ["r1", "r2", "r3", "r1"],
        "image_uuid": ["a", "b", "c", "a"],
        "packet": ["1", "1", "1", "2"],
    }
)


def reviews(*rows: tuple[str, str, str]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=["image_uuid", "reviewer", "label"], orient="row")


def test_two_reviewers_counted_by_hand() -> None:
    found = self_agreement(
        reviews(
            *[("a", "ann", "acne"), ("r1", "ann", "acne"), ("b", "ann", "acne")],
            *[("r2", "ann", "tinea"), ("c", "ann", "unsure"), ("r3", "ann", "acne")],
            *[("a", "bob", "not_usable"), ("r1", "bob", "not_usable")],
            # a repeat without its first reading, and one of somebody else
            *[("r2", "bob", "acne"), ("c", "bob", "acne")],
        ),
        REPEATS,
    )
    assert (found["n"], found["n_same"], found["n_unsure"]) == (3, 2, 1)
    assert found["agreement"] == pytest.approx(2 / 3)
    assert found["ci95"][0] < 2 / 3 < found["ci95"][1]
    assert found["chance_corrected"] is None
    assert [(r["reviewer"], r["n"], r["n_same"], r["n_unsure"]) for r in found["reviewers"]] == [
        ("ann", 2, 1, 1),
        ("bob", 1, 1, 0),
    ]


def test_chance_is_taken_from_the_pooled_answers() -> None:
    """30 pairs: 20 acne twice, 4 tinea twice, 6 of one and one. 46 acne and 14 tinea in all."""
    numbers = [f"{i:02d}" for i in range(ENOUGH)]
    repeats = pl.DataFrame({"presented_uuid": [f"r{i}" for i in numbers], "image_uuid": numbers})
    answers = [("acne", "acne")] * 20 + [("tinea", "tinea")] * 4 + [("acne", "tinea")] * 6
    rows = [
        (f"{again}{i}", "ann", label)
        for i, pair in zip(numbers, answers, strict=True)
        for again, label in zip(("", "r"), pair, strict=True)
    ]
    found = self_agreement(reviews(*rows), repeats)
    chance = (46 / 60) ** 2 + (14 / 60) ** 2
    assert found["agreement"] == pytest.approx(24 / 30)
    assert found["chance_corrected"] == pytest.approx((24 / 30 - chance) / (1 - chance))
    one_answer = reviews(*[(image, who, "acne") for image, who, _ in rows])
    assert self_agreement(one_answer, repeats)["chance_corrected"] is None


def test_nothing_repeated_is_not_known() -> None:
    found = self_agreement(reviews(("a", "ann", "acne")), REPEATS)
    assert (found["n"], found["agreement"], found["ci95"], found["reviewers"]) == (
        0,
        None,
        None,
        [],
    )
