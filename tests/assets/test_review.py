"""The packet: built once, of one split, by the thresholds in force; known to the refit after it."""

from __future__ import annotations

import polars as pl
from harness import Harness

SHEET = "derm_review_BLIND.csv"


def test_a_packet_is_built_once_says_what_it_can_show_and_is_known_to_the_refit(
    found: Harness,
) -> None:
    chosen = {"packet_size": 24, "packet_certain": 3, "review_columns": ("itch",)}
    for name, value in chosen.items():
        object.__setattr__(found.settings, name, value)
    for _ in range(2):
        assert found.run_job("mislabel_job", ["review_packet"]).success
    (packet,) = (found.settings.store / "packets").iterdir()
    key = pl.read_parquet(packet / "key.parquet").filter(pl.col("role") != "repeat")

    shown = found.metadata("review_packet")
    assert shown["n"] == shown["n_certain"] + shown["n_drawn"] == key.height <= 24
    assert "Asks about" in shown["can_show"]
    assert {r.data["stratum"] for r in shown["strata"].records} >= set(key["stratum"])
    text = str(shown)
    assert not [uuid for uuid in key["image_uuid"] if uuid in text]

    sheets = sorted((packet / "hand_out").glob(f"*/{SHEET}"))
    assert [sheet.parent.name for sheet in sheets] == list(found.settings.reviewers)
    leaves = "".join(sheet.read_text() for sheet in sheets)
    train = found.stored("dataset_index").frame.filter(split="train")["image_uuid"]
    assert not [uuid for uuid in train if uuid in leaves]
    assert "itch" in (packet / "hand_out" / "reader_a" / "packet.js").read_text()

    scored = found.stored("scored_test_rows").frame
    assert scored["inclusion_probability"].null_count() == scored.height
    found.drop("r.csv", [(u, "ada", g) for u, g in key.select("image_uuid", "given_label").rows()])
    found.refit()
    scored = found.stored("scored_test_rows").frame
    assert set(scored.filter("asked")["image_uuid"]) == set(key["image_uuid"])
    frame = pl.read_parquet(packet / "frame.parquet")
    joined = scored.join(frame, on=["image_uuid", "inclusion_probability"])
    assert joined.height == frame.height == scored.height
    assert (joined["score"] == joined["score_right"]).all()
    assert found.metadata("scored_test_rows")["review_packet"] == packet.name
