"""Weak classes: counted by hand, read by the stated rule, F1 with an interval by patient."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dagster_project.lib.mislabels.weak_classes import (
    READINGS,
    weak_classes,
    weak_classes_picture,
    write_weak_classes,
)

CLASSES = ("acne", "eczema", "tinea", "wart")


def rows(cells: list[tuple[str, str, bool, int]], per_patient: int = 1) -> pl.DataFrame:
    """(given, predicted, flagged, how many) as judged rows, ``per_patient`` images a patient."""
    each = [(g, p, f) for g, p, f, times in cells for _ in range(times)]
    schema = {"given_label": pl.String, "predicted_label": pl.String, "flagged": pl.Boolean}
    frame = pl.DataFrame(each, schema=schema, orient="row").with_row_index("at")
    return frame.with_columns(
        image_uuid=pl.format("i{}", "at"), patient_id=pl.format("p{}", pl.col("at") // per_patient)
    )


def test_the_table_is_as_counted_by_hand() -> None:
    judged = rows(
        [
            ("acne", "acne", False, 6),
            ("acne", "tinea", True, 2),
            ("tinea", "tinea", False, 3),
            ("tinea", "acne", False, 1),
            ("eczema", "eczema", False, 1),
        ]
    )
    table = weak_classes(judged, judged, CLASSES)
    named = {row["class"]: row for row in table.iter_rows(named=True)}
    acne = named["acne"]
    assert (acne["n"], acne["n_test"], acne["n_test_patients"]) == (8, 8, 8)
    assert acne["issue_rate"] == 2 / 8
    assert (acne["recall"], acne["precision"]) == (6 / 8, 6 / 7)
    assert acne["f1"] == pytest.approx(2 * 6 / (2 * 6 + 2 + 1))
    assert (acne["n_errors"], acne["errors_flagged"]) == (3, 2 / 3)
    assert (named["tinea"]["f1"], named["tinea"]["errors_flagged"]) == (6 / 9, 2 / 3)
    assert (named["eczema"]["f1"], named["eczema"]["errors_flagged"]) == (1.0, None)
    wart = named["wart"]
    assert (wart["n"], wart["n_test"], wart["n_errors"]) == (0, 0, 0)
    for name in ("issue_rate", "recall", "precision", "f1", "f1_low", "errors_flagged"):
        assert wart[name] is None
    assert table["reading"].unique().to_list() == ["too few"]


def test_f1_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import f1_score

    rng = np.random.default_rng(2)
    given = rng.integers(0, 4, 300)
    predicted = np.where(rng.random(300) < 0.6, given, rng.integers(0, 4, 300))
    judged = rows(
        [(CLASSES[g], CLASSES[p], False, 1) for g, p in zip(given, predicted, strict=True)]
    )
    found = weak_classes(judged, judged, CLASSES)["f1"].to_numpy()
    assert found == pytest.approx(f1_score(given, predicted, average=None))


def test_images_of_one_patient_count_as_less_than_so_many() -> None:
    cells = [
        ("acne", "acne", False, 60),
        ("acne", "tinea", False, 30),
        ("tinea", "tinea", False, 60),
    ]
    one, three = (weak_classes(r, r, CLASSES) for r in (rows(cells), rows(cells, 3)))
    width = [t["f1_high"][0] - t["f1_low"][0] for t in (one, three)]
    assert one["f1"][0] == three["f1"][0]
    assert width[1] > 1.5 * width[0]


def many() -> pl.DataFrame:
    """Sound acne; eczema confused with flags, tinea confused without; wart of few patients."""
    return rows(
        [
            ("acne", "acne", False, 300),
            ("eczema", "eczema", False, 60),
            ("eczema", "acne", True, 40),
            ("eczema", "acne", False, 10),
            ("tinea", "tinea", False, 60),
            ("tinea", "acne", True, 10),
            ("tinea", "acne", False, 40),
            ("wart", "acne", False, 20),
            ("scabies", "scabies", False, 100),
            ("rosacea", "rosacea", False, 99),
            ("rosacea", "scabies", False, 1),
        ]
    )


def test_a_class_is_read_by_the_stated_rule() -> None:
    table = weak_classes(many(), many(), ("rosacea", "scabies", *CLASSES))
    assert dict(table.select("class", "reading").rows()) == {
        "acne": "sound",
        "scabies": "sound",
        "rosacea": "sound",
        "eczema": "labels first",
        "tinea": "model first",
        "wart": "too few",
    }
    assert set(READINGS) == set(table["reading"])


def test_the_issue_rate_may_be_of_other_rows_than_f1() -> None:
    train = rows([("acne", "acne", False, 3), ("acne", "tinea", True, 1)])
    table = weak_classes(train, rows([("acne", "acne", False, 9)]), CLASSES)
    assert table.select("n", "issue_rate", "n_test", "f1").row(0) == (4, 0.25, 9, 1.0)


def test_the_picture_draws_the_same_bytes_twice_and_without_any_class(tmp_path: Path) -> None:
    table = weak_classes(many(), many(), ("rosacea", "scabies", *CLASSES))
    picture = write_weak_classes(table, tmp_path, words="out of sample")
    assert picture == weak_classes_picture(table, words="out of sample")
    by_image = weak_classes_picture(table, words="out of sample", patients_known=False)
    assert by_image != picture  # says so
    assert pl.read_csv(tmp_path / "weak_classes.csv").height == table.height
    assert weak_classes_picture(table.clear(), words="in sample").startswith(b"\x89PNG")
