"""Mislabel candidates of both splits, and a packet that asks about one of them."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from harness import MODEL_B, Harness
from PIL import Image


@pytest.fixture
def found(fitted: Harness) -> Harness:
    """Photographs are there, both splits are dumped, candidates are found."""
    images = fitted.settings.dataset_dir / "images"
    images.mkdir()
    for shade, path in enumerate(fitted.stored("dataset_index").frame["image_path"]):
        Image.new("RGB", (16, 16), (shade % 256, 90, 60)).save(fitted.settings.dataset_dir / path)
    fitted.dump("train")
    assert fitted.run_job("mislabel_job", ["mislabel_candidates"]).success
    return fitted


def test_each_split_is_judged_by_itself_and_nothing_is_dropped_for_being_flagged(
    found: Harness,
) -> None:
    shown = found.metadata("mislabel_candidates")
    assert shown["test_in_sample"] is False
    assert shown["train_in_sample"] is True
    assert shown["test_n"] + shown["train_n"] == found.stored("dataset_index").frame.height
    table = found.stored("mislabel_candidates").frame
    assert shown["judged"] == table.height == shown["test_n"] + shown["train_n"]
    flagged = table.filter("flagged")
    assert shown["candidates"] == flagged.height == shown["test_n_issues"] + shown["train_n_issues"]
    assert set(table["split"]) == {"test", "train"}
    assert "was trained on these rows" in shown["train_in_sample_means"]
    for split in ("test", "train"):
        folder = found.settings.report_dir / "mislabels" / split
        assert {path.name for path in folder.iterdir()} >= {
            "label_issues.csv",
            "issues_per_class.csv",
            "issue_confusions.csv",
            "mislabel_candidates.png",
            "summary.json",
        }
    _check_prune_list(found)


def test_splits_of_different_models_are_refused_and_what_was_published_stays(
    found: Harness,
) -> None:
    issues = found.settings.report_dir / "mislabels" / "test" / "label_issues.csv"
    found.dump("train", model=MODEL_B)
    issues.write_text("what was published before")
    result = found.run_job("mislabel_job", ["mislabel_candidates"])
    assert not result.success
    failure = next(e for e in result.all_events if e.is_step_failure)
    assert "different models" in str(failure.step_failure_data)
    assert issues.read_text() == "what was published before"


def test_photographs_stay_out_of_the_event_log_when_so_set(found: Harness) -> None:
    assert "test_montage" in found.metadata("mislabel_candidates")
    object.__setattr__(found.settings, "photos_in_ui", False)
    assert found.run_job("mislabel_job", ["mislabel_candidates"]).success
    assert "test_montage" not in found.metadata("mislabel_candidates")


def test_a_packet_is_built_once_asks_about_the_test_split_and_is_known_to_the_refit(
    found: Harness,
) -> None:
    for _ in range(2):
        assert found.run_job("mislabel_job", ["review_packet"]).success
    packets = list((found.settings.store / "packets").iterdir())
    assert len(packets) == 1
    sheets = list((packets[0] / "hand_out").glob("review_*.csv"))
    assert len(sheets) == len(found.settings.reviewers)
    text = "".join(Path(sheet).read_text() for sheet in sheets)
    train = found.stored("dataset_index").frame.filter(split="train")["image_uuid"]
    assert not [uuid for uuid in train if uuid in text]
    scored = found.stored("scored_test_rows").frame
    assert (scored["reviewed"].any(), scored["asked"].any()) == (False, False)
    assert scored["inclusion_probability"].null_count() == scored.height
    asked = pl.read_parquet(packets[0] / "key.parquet")["image_uuid"]
    found.drop("review.csv", [(uuid, "ada", "acne") for uuid in asked])
    found.refit()
    scored = found.stored("scored_test_rows").frame
    assert set(scored.filter("asked")["image_uuid"]) == set(asked)
    assert scored.filter("asked")["reviewed"].all()
    frame = pl.read_parquet(packets[0] / "frame.parquet")
    assert scored.select(frame.columns).equals(frame)
    assert found.metadata("scored_test_rows")["review_packet"] == packets[0].name


def _check_prune_list(found: Harness) -> None:
    """Only reviewed rows may be dropped; what the naive prune would cost is shown."""
    object.__setattr__(found.settings, "verified", "itch")
    assert found.run_job("mislabel_job", ["prune_list"]).success
    assert found.stored("prune_list").frame.is_empty()
    table = found.stored("mislabel_candidates").frame
    shown = found.metadata("prune_list")
    assert shown["naive_n_lost"] == shown["naive_n_verified_lost"] == table["flagged"].sum() > 0
    worst = table.filter("flagged")["image_uuid"][0]
    found.drop("review.csv", [(worst, name, "not_usable") for name in ("ada", "bo")])
    found.refit()
    assert found.stored("prune_list").frame["image_uuid"].to_list() == [worst]
    assert found.metadata("prune_list")["proposed"] == 1
    folder = found.settings.report_dir / "mislabels"
    assert {path.name for path in folder.iterdir()} >= {
        *("prune_list.csv", "naive_prune.csv", "naive_prune_losses.csv", "prune_report.md"),
        *("weak_classes.csv", "weak_classes.png", "naive_prune.png"),
    }
    assert "labels_first_classes" in found.metadata("mislabel_candidates")
