from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from dagster_project.lib.calibration.pictures import reliability_png
from dagster_project.lib.calibration.summary import calibration_summary, temperature_table

AT = {"confident": 0.815, "refer": 0.444}


def test_the_original_run_is_the_same_in_any_order_and_plain_json(original: pl.DataFrame) -> None:
    found = calibration_summary(original, AT)
    assert calibration_summary(original.sample(fraction=1, shuffle=True, seed=1), AT) == found
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["estimand"], found["n"], found["n_patients"]) == ("images", 15561, 7781)
    assert len(found["reliability"]) == 15
    assert sum(row["n"] for row in found["reliability"]) == 15561
    low, high = found["temperature_ci95"]
    assert low < found["temperature"] < high
    assert found["mapped_thresholds"]["confident"] < 0.815
    assert found["mapped_thresholds"]["refer"] > 0.444
    assert found["nll_after"] < found["nll_before"]
    assert 0 < found["e_aurc"] < found["aurc"]
    assert found["ece_debiased_squared"] == pytest.approx(found["ece_debiased"] ** 2)


def test_a_stored_float32_is_widened_and_nothing_else(original: pl.DataFrame) -> None:
    narrow = original.with_columns(pl.col("score").cast(pl.Float32))
    wide = narrow.with_columns(pl.col("score").cast(pl.Float64))
    assert calibration_summary(narrow, AT) == calibration_summary(wide, AT)


def test_one_row_has_nulls_and_notes_that_say_why(original: pl.DataFrame) -> None:
    one = original.head(1).with_columns(patient_id=pl.lit(None, dtype=pl.String))
    found = calibration_summary(one, AT)
    assert found["ece_debiased"] is None
    assert found["temperature"] is None
    assert found["mapped_thresholds"] == {"confident": None, "refer": None}
    notes = " ".join(found["notes"])
    assert "No temperature: one row." in notes
    assert "no debiased calibration error" in notes
    assert "patients of their own" in notes
    assert "1 bins and not 15" in notes
    assert calibration_summary(one.head(0), AT)["aurc"] is None


def test_saturated_scores_are_counted_in_a_note(original: pl.DataFrame) -> None:
    rows = original.head(100).with_columns(
        score=pl.Series(np.repeat([1.0, 0.6], 50)), top1=pl.Series(np.arange(100) % 3 > 0)
    )
    found = calibration_summary(rows, AT)
    assert found["n_clipped"] == 50
    assert any(note.startswith("50 of 100 scores") for note in found["notes"])


def test_the_diagram_is_small_the_same_twice_and_can_draw_one_row(original: pl.DataFrame) -> None:
    png = reliability_png(original, 1.1)
    assert png == reliability_png(original.reverse(), 1.1)
    assert png != reliability_png(original)
    assert len(png) <= 90_000
    assert reliability_png(original.head(1)).startswith(b"\x89PNG")


def test_the_table_of_temperatures_has_a_row_a_model_and_says_why_one_has_none(
    original: pl.DataFrame,
) -> None:
    found = {"deployed": calibration_summary(original, AT)}
    found["one"] = calibration_summary(original.head(1), AT)
    table = temperature_table(found)
    deployed, one = table.to_dicts()
    low, high = found["deployed"]["temperature_ci95"]
    assert (deployed["config"], deployed["low"], deployed["high"]) == ("deployed", low, high)
    assert deployed["nll_after"] == found["deployed"]["nll_after"]
    assert deployed["note"] is None
    assert (one["config"], one["n"], one["temperature"], one["low"]) == ("one", 1, None, None)
    assert one["note"] == "No temperature: one row."
    assert temperature_table({}).schema == table.schema
