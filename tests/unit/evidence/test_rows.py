from __future__ import annotations

import hashlib

import numpy as np
import polars as pl

from dagster_project.lib.evidence.rows import patient_rows

FRAME = pl.DataFrame(
    {
        "image_uuid": list("abcdef"),
        "patient_id": ["p", "q", "p", "p", "r", "q"],
        "score": pl.Series([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], dtype=pl.Float32),
        "top1": [True, False] * 3,
        "top3": [True] * 6,
    }
)


def test_patients_are_numbered_by_the_hash_of_their_id() -> None:
    rows = patient_rows(FRAME)
    ranked = sorted("pqr", key=lambda name: hashlib.sha256(name.encode()).digest())
    assert [ranked[number] for number in rows.patient] == FRAME["patient_id"].to_list()
    assert (rows.n_patients, rows.known, rows.single, len(rows)) == (3, True, False, 6)


def test_the_order_of_the_input_changes_nothing() -> None:
    for one, other in zip(
        vars(patient_rows(FRAME, max_images=2)).values(),
        vars(patient_rows(FRAME.reverse(), max_images=2)).values(),
        strict=True,
    ):
        assert np.array_equal(one, other)


def test_the_cap_keeps_the_images_of_smallest_hash_and_counts_the_rest() -> None:
    rows = patient_rows(FRAME, max_images=2)
    dropped = max("acd", key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    kept = FRAME.filter(pl.col("image_uuid") != dropped)
    assert rows.n_dropped == 1
    assert rows.score.tolist() == kept["score"].cast(pl.Float64).to_list()
    assert patient_rows(FRAME, max_images=3).n_dropped == 0


def test_an_image_without_a_patient_is_its_own_and_never_a_known_one() -> None:
    named = FRAME.with_columns(patient_id=pl.Series(["image:b", None, "b", "b", None, None]))
    rows = patient_rows(named)
    assert not rows.known
    assert rows.n_patients == 5
    assert rows.patient[2] == rows.patient[3]
