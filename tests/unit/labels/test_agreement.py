"""Agreement: alpha as published, an interval by patient, and reviewers judged by the others."""

from __future__ import annotations

import json
from itertools import permutations

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from dagster_project.lib.labels import agreement
from dagster_project.lib.labels.agreement import (
    agreement_report,
    alpha_interval,
    nominal_alpha,
    reviewer_table,
)
from dagster_project.lib.labels.consensus import ConsensusPolicy
from dagster_project.lib.labels.pictures import agreement_picture

CLASSES = ("acne", "eczema", "tinea")
Counts = npt.NDArray[np.int64]


def counts(*readers: str) -> Counts:
    """One line a reader, one word a unit, ``*`` where there is no value."""
    values = [line.split() for line in readers]
    names = sorted({word for line in values for word in line} - {"*"})
    found = np.zeros((len(values[0]), len(names)), dtype=np.int64)
    for line in values:
        for unit, word in enumerate(line):
            if word != "*":
                found[unit, names.index(word)] += 1
    return found


def by_pairs(table: Counts) -> float:
    """Alpha from its definition: every ordered pair of values, within units and over all."""
    units = [np.repeat(np.arange(len(row)), row).tolist() for row in table if row.sum() >= 2]
    n = sum(map(len, units))
    observed = sum(
        sum(a != b for a, b in permutations(unit, 2)) / (len(unit) - 1) for unit in units
    )
    every = [value for unit in units for value in unit]
    expected = sum(a != b for a, b in permutations(every, 2)) / (n - 1)
    return 1 - observed / expected


@pytest.mark.parametrize(
    ("readers", "published"),
    [
        pytest.param(("0 1 0 0 0 0 0 0 1 0", "1 1 1 0 0 1 0 0 0 0"), 0.095, id="two_binary"),
        pytest.param(
            ("a a b b d c c c e d d a", "b a b b b c c c e d d d"), 0.692, id="two_nominal"
        ),
        pytest.param(
            (
                "1 2 3 3 2 1 4 1 2 * * *",
                "1 2 3 3 2 2 4 1 2 5 * 3",
                "* 3 3 3 2 3 4 2 2 5 1 *",
                "1 2 3 3 2 4 4 1 2 5 1 *",
            ),
            0.743,
            id="four_with_missing",
        ),
        pytest.param(
            (
                "* * * * * 3 4 1 2 1 1 3 3 * 3",
                "1 * 2 1 3 3 4 3 * * * * * * *",
                "* * 2 1 3 4 4 * 2 1 1 3 3 * 4",
            ),
            0.691,
            id="three_with_missing",
        ),
    ],
)
def test_alpha_is_the_published_one(readers: tuple[str, ...], published: float) -> None:
    """Krippendorff, Computing Krippendorff's alpha-reliability (2011), examples A, B and C."""
    assert nominal_alpha(counts(*readers)) == pytest.approx(published, abs=5e-4)


def test_alpha_is_its_definition_over_pairs_and_has_no_order() -> None:
    rng = np.random.default_rng(3)
    for _ in range(40):
        table = rng.integers(0, 3, (rng.integers(2, 8), rng.integers(2, 5)))
        table = np.vstack([table, np.eye(table.shape[1], dtype=np.int64)[:2] * 2])
        alpha = nominal_alpha(table)
        assert alpha == pytest.approx(by_pairs(table))
        shuffled = rng.permutation(rng.permutation(table), axis=1)
        assert nominal_alpha(shuffled) == pytest.approx(alpha)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        pytest.param([[2, 0], [0, 2], [0, 3]], 1.0, id="perfect"),
        pytest.param([[1, 1], [1, 1]], -0.5, id="always_different"),
        pytest.param([[2, 0], [2, 0]], None, id="one_value_only"),
        pytest.param([[1, 0], [0, 1]], None, id="no_pair"),
        pytest.param([[2, 0], [0, 2], [1, 0], [0, 1]], 1.0, id="single_values_do_not_count"),
    ],
)
def test_alpha_at_its_ends(table: list[list[int]], expected: float | None) -> None:
    assert nominal_alpha(np.array(table)) == expected


def test_no_units_have_no_alpha() -> None:
    assert nominal_alpha(np.zeros((0, 3), dtype=np.int64)) is None
    assert alpha_interval(np.zeros((0, 3), dtype=np.int64)) is None


def test_an_interval_needs_units_and_is_wider_by_patient() -> None:
    rng = np.random.default_rng(0)
    # patients of six images, on all of which the readers agree, or on none
    easy = rng.random(30) < 0.6
    table = np.repeat(np.where(easy[:, None], [2, 0, 0], [1, 1, 0]), 6, axis=0)
    table[::3, [0, 2]] = table[::3, [2, 0]]
    patients = np.repeat(np.arange(30), 6)
    assert alpha_interval(table[:9]) is None
    by_image, by_patient = alpha_interval(table), alpha_interval(table, patients)
    alpha = nominal_alpha(table)
    assert by_image is not None
    assert by_patient is not None
    assert alpha is not None
    assert by_image[0] < alpha < by_image[1]
    assert by_patient[1] - by_patient[0] > 1.8 * (by_image[1] - by_image[0])
    order = rng.permutation(len(table))
    assert alpha_interval(table[order], patients[order]) == by_patient


def said(*rows: tuple[str, str, str]) -> pl.DataFrame:
    columns = ("image_uuid", "reviewer", "label")
    return pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String), orient="row")


def rows_of(image: str, votes: str) -> list[tuple[str, str, str]]:
    return [(image, f"r{n}", label) for n, label in enumerate(votes.split(), 1)]


REVIEWS = said(
    *rows_of("a", "acne acne acne"),
    *rows_of("b", "acne tinea tinea"),
    *rows_of("c", "unsure tinea tinea"),
    *rows_of("d", "not_usable not_usable not_usable"),
    *rows_of("e", "acne eczema tinea"),
    ("repeat-of-a", "r1", "acne"),
)
IMAGES = pl.DataFrame({"image_uuid": list("abcde")})


def test_a_reviewer_is_judged_by_the_others_alone() -> None:
    report = agreement_report(REVIEWS, IMAGES, CLASSES)
    names = ("reviewer", "n", "n_unsure", "n_not_usable", "n_compared")
    assert [tuple(r[n] for n in names) for r in report["reviewers"]] == [
        ("r1", 5, 1, 1, 3),  # on a, b and d the two others agree and he voted
        ("r2", 5, 0, 1, 2),  # on b and c the two others do not agree
        ("r3", 5, 0, 1, 2),
    ]
    shares = [r["agreement_with_consensus"] for r in report["reviewers"]]
    assert shares == [pytest.approx(2 / 3), 1.0, 1.0]
    low, high = report["reviewers"][0]["ci95"]
    assert (low, high) == (pytest.approx(0.208, abs=1e-3), pytest.approx(0.939, abs=1e-3))


def test_the_report_is_plain_json_with_null_for_what_is_undefined() -> None:
    report = agreement_report(REVIEWS, IMAGES, CLASSES)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["n_images_two_readers"] == 5
    assert report["alpha"] == pytest.approx(by_pairs(counts(
        "a a * n a", "a t t n e", "a t t n t"
    )))  # fmt: skip
    assert report["alpha_ci95"] is None, "five images"
    assert report["per_class"] == [
        {"class": "acne", "n": 3, "alpha": None},
        {"class": "eczema", "n": 1, "alpha": None},
        {"class": "tinea", "n": 3, "alpha": None},
    ]
    two = agreement_report(REVIEWS.filter(pl.col("reviewer") != "r3"), IMAGES, CLASSES)
    assert [r["agreement_with_consensus"] for r in two["reviewers"]] == [None, None]
    nobody = agreement_report(REVIEWS.clear(), IMAGES, CLASSES)
    assert (nobody["alpha"], nobody["reviewers"]) == (None, [])
    assert reviewer_table(nobody).is_empty()


def test_alpha_of_a_class_is_given_where_there_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "MIN_NAMED", 3)
    report = agreement_report(REVIEWS, IMAGES, CLASSES)
    binary = counts("a a * n a", "a n n n n", "a n n n n")
    assert [c["alpha"] for c in report["per_class"]] == [
        pytest.approx(by_pairs(binary)),
        None,
        pytest.approx(by_pairs(counts("n n * n n", "n t t n n", "n t t n t"))),
    ]


def test_references_are_no_readers_of_photographs_but_judge_them() -> None:
    policy = ConsensusPolicy(references=(("r3",),))
    report = agreement_report(REVIEWS, IMAGES, CLASSES, policy=policy)
    without = REVIEWS.filter(pl.col("reviewer") != "r3")
    assert report["alpha"] == agreement_report(without, IMAGES, CLASSES)["alpha"]
    r1, r2, r3 = report["reviewers"]
    assert (r1["reference"], r3["reference"]) == (False, True)
    assert (r1["n_compared"], r1["agreement_with_consensus"]) == (3, pytest.approx(1 / 3))
    assert (r2["n_compared"], r2["agreement_with_consensus"]) == (4, pytest.approx(3 / 4))


def test_intervals_are_by_patient_where_patients_are_known() -> None:
    patients = IMAGES.with_columns(patient_id=pl.Series(["p", "p", "p", "p", "q"]))
    report = agreement_report(REVIEWS, IMAGES, CLASSES, patients=patients)
    assert report["interval_by"] == "patient"
    assert report["reviewers"][0]["ci95"] is None, "all compared images are of one patient"


def test_the_same_reviews_draw_the_same_picture() -> None:
    report = agreement_report(REVIEWS, IMAGES, CLASSES)
    shuffled = agreement_report(REVIEWS.reverse(), IMAGES.reverse(), CLASSES)
    assert agreement_picture(report) == agreement_picture(shuffled)
    assert agreement_picture(agreement_report(REVIEWS.clear(), IMAGES, CLASSES))[:4] == b"\x89PNG"
