from __future__ import annotations

import polars as pl
import pytest

from dagster_project.lib.errors import InputError
from dagster_project.lib.tiers.failure_pictures import per_class_png
from dagster_project.lib.tiers.per_class import MIN_SHOWN_PATIENTS, TOO_FEW_PATIENTS, per_class
from dagster_project.lib.tiers.reports import tier_report
from dagster_project.lib.tiers.thresholds import Thresholds

AT = Thresholds(0.8, 0.4, 0.25)
ORIGINAL = Thresholds(0.815, 0.444, 0.25)


def rows(*blocks: tuple[int, str, str, float]) -> pl.DataFrame:
    """(how many, label, predicted, score), one image a patient."""
    flat = [(label, said, score) for n, label, said, score in blocks for _ in range(n)]
    frame = pl.DataFrame(flat, schema=["label", "predicted", "score"], orient="row")
    return frame.with_row_index("i").select(
        pl.format("i{}", "i").alias("image_uuid"),
        pl.format("p{}", "i").alias("patient_id"),
        "label",
        "predicted",
        "score",
        (pl.col("label") == pl.col("predicted")).alias("top1"),
    )


SMALL = rows(
    (6, "acne", "acne", 0.9),
    (2, "acne", "eczema", 0.9),
    (2, "acne", "acne", 0.5),
    (2, "acne", "eczema", 0.1),
    (4, "eczema", "eczema", 0.8),
)


def test_a_class_is_counted_by_hand_from_both_ends() -> None:
    acne, eczema = per_class(SMALL, AT).to_dicts()
    assert (acne["class"], acne["n"], acne["n_patients"]) == ("acne", 12, 12)
    assert acne["recall"] == pytest.approx(8 / 12)
    assert acne["recall_low"] < 8 / 12 < acne["recall_high"]
    shares = [acne[f"{tier}_share"] for tier in ("confident", "possible", "refer")]
    assert shares == pytest.approx([8 / 12, 2 / 12, 2 / 12])
    assert (acne["n_predicted_confident"], acne["confident_wrong_predicted"]) == (6, 0.0)
    # four right and two of acne were confidently called eczema, of 16 rows in all
    assert eczema["n_predicted_confident"] == 6
    assert eczema["confident_wrong_predicted"] == pytest.approx(2 / 6)
    assert eczema["confident_wrong"] == pytest.approx(2 / 16)


def test_a_rate_of_fewer_than_five_patients_is_not_shown() -> None:
    eczema = per_class(SMALL, AT).row(1, named=True)
    assert (eczema["n"], eczema["too_few"]) == (4, True)
    assert MIN_SHOWN_PATIENTS == 5
    for name in ("recall", "recall_low", "recall_high", "confident_share", "refer_share"):
        assert eczema[name] is None
    hidden = per_class(rows((4, "a", "b", 0.9), (6, "a", "a", 0.9)), AT).row(1, named=True)
    assert (hidden["n_predicted_confident"], hidden["confident_wrong"]) == (4, None)


def test_every_class_is_listed_in_the_order_given_even_with_no_row() -> None:
    table = per_class(SMALL, AT, classes=["eczema", "rosacea", "acne"])
    assert table["class"].to_list() == ["eczema", "rosacea", "acne"]
    empty = table.row(1, named=True)
    assert (empty["n"], empty["n_patients"], empty["too_few"]) == (0, 0, True)
    assert empty["recall"] is None
    assert empty["confident_wrong_predicted"] is None
    assert empty["confident_wrong"] == 0
    with pytest.raises(InputError, match='unknown class "acne"'):
        per_class(SMALL, AT, classes=["eczema"])


def test_too_few_is_about_patients_and_not_images() -> None:
    thirty = rows((90, "acne", "acne", 0.9)).with_columns(
        pl.format("p{}", pl.int_range(pl.len()) // 3).alias("patient_id")
    )
    assert TOO_FEW_PATIENTS == 30
    assert not per_class(thirty, AT)["too_few"][0]
    assert per_class(thirty.head(87), AT)["too_few"][0]
    # without a name every image is its own patient
    nameless = thirty.head(87).with_columns(patient_id=pl.lit(None, dtype=pl.String))
    assert not per_class(nameless, AT)["too_few"][0]


def test_the_classes_add_up_to_the_report_of_the_original_run(original: pl.DataFrame) -> None:
    table = per_class(original, ORIGINAL)
    report = tier_report(original, ORIGINAL)
    assert table.height == 25
    assert table["n"].sum() == 15561
    assert table["n_predicted_confident"].sum() == report["tiers"]["confident"]["n"]
    assert table["confident_wrong"].sum() == pytest.approx(report["outcomes"]["confident_wrong"])
    assert (table["n"] * table["recall"]).sum() == pytest.approx(
        report["full_coverage"]["top1"] * 15561
    )
    assert (table["n"] * table["refer_share"]).sum() == pytest.approx(2028)
    shuffled = original.sample(fraction=1, shuffle=True, seed=1)
    assert per_class(shuffled, ORIGINAL).equals(table)


def test_the_picture_is_the_same_twice_and_draws_classes_without_rows() -> None:
    table = per_class(SMALL, AT, classes=["acne", "eczema", "rosacea"])
    png = per_class_png(table)
    assert png == per_class_png(table.reverse())
    assert len(png) <= 90_000
    assert per_class_png(table.tail(1)).startswith(b"\x89PNG")
