"""Mislabel candidates of both splits."""

from __future__ import annotations

from harness import MODEL_B, Harness


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


def _check_prune_list(found: Harness) -> None:
    """Only reviewed rows may be dropped; what the naive prune would cost is shown."""
    object.__setattr__(found.settings, "verified_labels", "itch=yes")
    assert found.run_job("mislabel_job", ["prune_list"]).success
    assert found.stored("prune_list").frame.is_empty()
    table = found.stored("mislabel_candidates").frame
    shown = found.metadata("prune_list")
    assert shown["naive_n_lost"] == shown["naive_n_verified_lost"] == table["flagged"].sum() > 0
    object.__setattr__(found.settings, "verified_labels", None)  # or no reader could overrule them
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
