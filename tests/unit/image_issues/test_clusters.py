"""Clusters: a hand-counted case, the test against scipy, and patients as units."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.stats import fisher_exact

from dagster_project.lib.image_issues.clusters import (
    holm,
    predicted_rows,
    systematic_clusters,
    usable_columns,
)
from dagster_project.lib.probability_table import ProbabilityTable


def world(
    hits: int, of: int, hits_elsewhere: int, of_elsewhere: int, images: int = 1
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Acne read as tinea on hands ``hits`` times, elsewhere ``hits_elsewhere``; right otherwise."""
    rows = []
    for site, k, n in (("hand", hits, of), ("face", hits_elsewhere, of_elsewhere)):
        for patient in range(n):
            said = "tinea" if patient < k else "acne"
            rows += [
                (f"{site}{patient}-{i}", f"{site}{patient}", said, site) for i in range(images)
            ]
    frame = pl.DataFrame(
        rows, schema=["image_uuid", "patient_id", "predicted_label", "site"], orient="row"
    )
    judged = frame.drop("site").with_columns(given_label=pl.lit("acne"))
    return judged, frame.select("image_uuid", "site")


def test_a_planted_cluster_is_found_and_counted_by_hand() -> None:
    found = systematic_clusters(*world(9, 12, 3, 60))
    assert found.tested == 2
    assert found.table.rows(named=True) == [
        {
            "given": "acne",
            "predicted": "tinea",
            "column": "site",
            "level": "hand",
            "n": 9,
            "n_level": 12,
            "rate": 0.75,
            "rate_elsewhere": 0.05,
            "patients": 12,
            "p_holm": pytest.approx(2 * fisher_exact([[9, 3], [3, 57]], "greater").pvalue),
        }
    ]


def test_images_of_one_patient_are_one_look() -> None:
    many = systematic_clusters(*world(3, 6, 2, 20, images=10))
    once = systematic_clusters(*world(3, 6, 2, 20, images=1))
    assert many.table.height == once.table.height == 0
    assert many.tested == once.tested == 2
    # as if each image were somebody else's, it would be certain
    judged, metadata = world(3, 6, 2, 20, images=10)
    alone = judged.with_columns(patient_id=pl.lit(None, pl.String))
    assert systematic_clusters(alone, metadata).table.height == 1


@pytest.mark.parametrize(
    ("counts", "tested"),
    [
        pytest.param((4, 4, 4, 40), 0, id="level of four patients"),
        pytest.param((5, 40, 0, 4), 0, id="four elsewhere"),
        pytest.param((4, 40, 0, 40), 0, id="pair of four patients"),
        pytest.param((5, 40, 0, 40), 2, id="enough of all"),
    ],
)
def test_what_is_tested_is_decided_by_totals(counts: tuple[int, ...], tested: int) -> None:
    assert systematic_clusters(*world(*counts)).tested == tested


def test_the_order_of_rows_is_irrelevant() -> None:
    judged, metadata = world(9, 12, 3, 60)
    mixed = systematic_clusters(judged.sample(fraction=1, shuffle=True, seed=1), metadata[::-1])
    assert mixed.table.equals(systematic_clusters(judged, metadata).table)


def test_unknown_values_and_columns_that_are_no_grouping_are_left_out() -> None:
    judged, metadata = world(9, 12, 3, 60)
    blank = pl.when(pl.col("site") == "face").then(pl.lit(" ")).otherwise("site")
    assert systematic_clusters(judged, metadata.with_columns(site=blank)).tested == 0
    wide = metadata.with_columns(
        note=pl.col("image_uuid"), same=pl.lit("x"), split=pl.col("site"), flag=pl.col("site") == ""
    )
    assert usable_columns(wide) == ("site",)
    assert usable_columns(wide, ["same", "gone"]) == ()
    assert systematic_clusters(judged, wide, columns=["same"]).table.is_empty()


def test_holm_is_the_textbook_one() -> None:
    p = np.array([0.01, 0.04, 0.03, 0.005, 0.5])
    assert holm(p).round(3).tolist() == [0.04, 0.09, 0.09, 0.025, 0.5]
    assert holm(np.array([0.9, 0.9])).tolist() == [1.0, 1.0]
    assert holm(np.zeros(0)).tolist() == []


def test_predicted_rows_join_by_id_and_leave_out_what_has_no_label_or_probabilities() -> None:
    frame = pl.DataFrame({"image_uuid": ["c", "a", "b", "d"], "error": [None, None, "torn", None]})
    probs = np.array([[0.1, 0.9], [0.5, 0.5], [np.nan, np.nan], [0.8, 0.1]])
    table = ProbabilityTable(("acne", "tinea"), frame, {"probs": probs})
    labels = pl.DataFrame({"image_uuid": ["a", "b", "c", "d"], "label": ["tinea"] * 3 + [None]})
    assert predicted_rows(table, labels).rows() == [
        ("a", None, "acne", "tinea"),
        ("c", None, "tinea", "tinea"),
    ]
