"""``review_findings`` in a refit: before a packet, and after one has come back."""

from __future__ import annotations

import json

import polars as pl
import pytest
from frozen_packet import write_packet
from harness import Harness


def frame_of_test(harness: Harness) -> pl.DataFrame:
    """A frame over the scored rows: those that agree, and those that do not, drawn with 1/2."""
    scored = harness.stored("scored_test_rows").frame
    agrees = pl.col("label") == pl.col("predicted")
    return scored.select(
        "image_uuid",
        "patient_id",
        pl.when(agrees)
        .then(pl.lit("possible/agrees/unflagged"))
        .otherwise(pl.lit("possible/differs/flagged"))
        .alias("stratum"),
        pl.lit(0.5).alias("inclusion_probability"),
        pl.lit("possible").alias("tier"),
        (~agrees).alias("flagged"),
        agrees.alias("agrees"),
        pl.col("label").alias("given_label"),
        pl.col("predicted").alias("predicted_label"),
        pl.col("score").cast(pl.Float64),
        pl.lit("test").alias("split"),
    )


def test_a_refit_says_what_the_reviews_taught_and_that_nothing_came_back(fitted: Harness) -> None:
    before = fitted.metadata("review_findings")
    assert "Test: no packet asks about the test split." in before["what_it_taught"]
    assert before["test_packet"] == "none"
    frame = frame_of_test(fitted)
    asked = frame.gather_every(2)
    repeated = asked["image_uuid"][0]
    write_packet(
        fitted.settings.packets_dir / "beef",
        frame,
        [*((uuid, uuid, "drawn") for uuid in asked["image_uuid"]), ("again-1", repeated, "repeat")],
        {"power": {"confident_wrong": {"expected": 0.03, "half_width": 0.01}}},
    )
    answers = asked.with_columns(
        said=pl.when(pl.col("flagged")).then("predicted_label").otherwise("given_label")
    )
    fitted.drop("back.csv", [(i, who, s) for i, s in answers.select("image_uuid", "said").rows()
                             for who in ("ann", "bob")])  # fmt: skip
    fitted.refit()
    after = fitted.metadata("review_findings")
    assert after["test_packet"] == "beef"
    assert (after["test_precision"], after["test_recall"]) == (1.0, 1.0)
    share = frame["flagged"].mean()
    assert after["test_noise_rate"] == pytest.approx(share)
    path = fitted.settings.report_dir / "review_findings.json"
    found = json.loads(path.read_text())
    assert found["splits"]["test"]["n_decided"] == asked.height
    assert found["splits"]["train"]["packet"] is None
    assert found["thresholds"]["expected"] == {"expected": 0.03, "half_width": 0.01}
    assert found["thresholds"]["before"]["estimate"] is not None
    table = pl.read_csv(path.with_suffix(".csv"))
    assert table.filter(statistic="recall")["estimate"].to_list() == [1.0]
    text = path.read_text() + str(after)
    assert not [uuid for uuid in frame["image_uuid"] if uuid in text]
    assert "p000" not in text
