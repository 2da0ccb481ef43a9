"""The label assets: rules from settings, repeats known, reports beside the drop, no patient."""

from __future__ import annotations

import csv
import json

import polars as pl
from harness import CLASSES, Harness

from dagster_project.definitions import build_definitions
from dagster_project.defs import jobs

LABELS = ["expert_reviews", "cleaned_labels"]


def with_settings(ready: Harness, **changed: object) -> Harness:
    settings = ready.settings.model_copy(update=changed)
    return Harness(ready.instance, settings, build_definitions(settings))


def run_labels(ready: Harness) -> None:
    assert ready.run_job(jobs.REFIT_JOB, LABELS).success


def statuses(ready: Harness) -> dict[str, int]:
    return dict(ready.stored("cleaned_labels").frame["status"].value_counts().rows())


def test_rules_of_consensus_are_settings(ready: Harness) -> None:
    one, two, *_ = ready.test_images()
    rows = [(one, "ann", CLASSES[0]), (one, "bob", CLASSES[0]), (two, "ann", CLASSES[1])]
    ready.drop("r.csv", rows)
    built_in = with_settings(ready, consensus_min_agreeing=2)
    run_labels(built_in)
    assert statuses(built_in)["single"] == 1
    counts = built_in.metadata("cleaned_labels")
    assert (counts["n_single"], counts["n_confirmed"] + counts["n_corrected"]) == (1, 1)
    version = counts["label_version"]
    strict = with_settings(
        ready, consensus_min_agreeing=2, consensus_single="exclude", references=(("ann",),)
    )
    run_labels(strict)
    sources = set(strict.stored("cleaned_labels").frame["source"])
    assert sources == {"given", "reference"}
    assert strict.metadata("cleaned_labels")["label_version"] != version


def test_other_rules_are_other_labels_and_start_a_refit(fitted: Harness) -> None:
    assert "already fitted" in str(fitted.tick())
    with_settings(fitted, consensus_min_agreeing=2).request()


def test_a_verified_given_label_is_not_overruled(ready: Harness) -> None:
    path = ready.settings.dataset_dir / "manifest.csv"
    first, *rest = ready.test_images()
    rows = list(csv.DictReader(path.open()))
    for row in rows:
        row["biopsed"] = "yes" if row["image_uuid"] == first else "no"
    pl.DataFrame(rows).write_csv(path)
    ready.read_dataset()
    given = next(row["label"] for row in rows if row["image_uuid"] == first)
    other = next(name for name in CLASSES if name != given)
    ready.drop("r.csv", [(first, who, other) for who in ("ann", "bob")])
    proven = with_settings(ready, verified_labels="biopsed=Yes")
    run_labels(proven)
    row = proven.stored("cleaned_labels").frame.row(
        by_predicate=pl.col("image_uuid") == first, named=True
    )
    assert (row["label"], row["status"], row["source"]) == (given, "confirmed", "reference")
    counts = proven.metadata("cleaned_labels")
    assert (counts["n_verified"], counts["n_overruled_by_reference"]) == (1, 1)
    assert len(rest) > 0


def test_a_refused_file_is_told_beside_the_drop_by_a_tick_alone(ready: Harness) -> None:
    """It makes no version, so no run comes that could tell."""
    path = ready.drop("ann.csv", [(ready.test_images()[0], "ann", "ecsema")])
    report = path.parent / "refused" / "refusals.csv"
    ready.tick()
    (row,) = csv.DictReader(report.open())
    assert (row["file"], row["value"], row["nearest"]) == ("ann.csv", "ecsema", "eczema")
    ready.drop("ann.csv", [(ready.test_images()[0], "ann", "")])
    ready.tick()
    assert not report.exists()


def test_a_file_saved_over_is_told_until_the_next_snapshot(ready: Harness) -> None:
    one, two, *_ = ready.test_images()
    path = ready.drop("review.csv", [(one, "ann", CLASSES[0])])
    report = path.parent / "refused" / "refusals.csv"
    ready.drop("kim.csv", [(two, "kim", CLASSES[0])])
    run_labels(ready)
    ready.drop("review.csv", [(one, "bob", CLASSES[1])])
    run_labels(ready)
    ready.tick()
    (row,) = csv.DictReader(report.open())
    assert (row["status"], row["kind"]) == ("warning", "another reviewer than before")
    ready.drop("kim.csv", [(two, "kim", CLASSES[1])])
    ready.tick()
    assert not report.exists()
    # where it cannot be written, nothing else is lost
    ready.drop("zoe.csv", [(one, "zoe", "ecsema")])
    report.parent.write_text("in the way")
    ready.request()
    run_labels(ready)
    assert ready.metadata("expert_reviews")["reviews"] == 2


def test_repeats_of_a_packet_come_back_under_their_own_ids(ready: Harness) -> None:
    image = ready.test_images()[0]
    packet = ready.settings.packets_dir / "0123abcd"
    packet.mkdir(parents=True)
    key = pl.DataFrame(
        {
            "presented_uuid": [image, "shown-again"],
            "image_uuid": [image, image],
            "role": ["drawn", "repeat"],
        }
    )
    key.write_parquet(packet / "key.parquet")
    pl.DataFrame({"stratum": ["certain"]}).write_parquet(packet / "frame.parquet")
    ready.drop("r.csv", [(i, "ann", CLASSES[0]) for i in (image, "shown-again")])
    run_labels(ready)
    reviews = ready.stored("expert_reviews").frame
    assert reviews["image_uuid"].to_list() == [image, "shown-again"]
    cleaned = ready.stored("cleaned_labels").frame
    assert cleaned.filter(pl.col("status") != "given")["n_reviews"].to_list() == [1]


def test_what_the_ui_shows_of_reviewers_holds_no_image(ready: Harness) -> None:
    images = ready.test_images()[:12]
    for who in ("ann", "bob", "kim"):
        ready.drop(f"{who}.csv", [(i, who, CLASSES[0]) for i in images])
    result = ready.run_job(jobs.REFIT_JOB, LABELS)
    assert result.success
    shown = str([e.event_specific_data for e in result.all_events])
    assert not any(image in shown for image in images)
    text = (ready.settings.report_dir / "agreement.json").read_text()
    assert not any(image in text for image in images)
    report = json.loads(text)
    assert [r["agreement_with_consensus"] for r in report["reviewers"]] == [1.0, 1.0, 1.0]
    assert report["alpha"] is None, "one class only: nothing to disagree about"
    assert ready.metadata("expert_reviews")["images_with_two_readers"] == 12
    assert "alpha" not in ready.metadata("expert_reviews")


def test_next_reviews_rank_the_test_split_outside_the_refit(ready: Harness) -> None:
    assert "next_reviews" not in (*jobs.REFIT, *jobs.TRAIN_SIDE)
    one, two, *_ = ready.test_images()
    rows = [(one, "ann", CLASSES[0]), (one, "bob", CLASSES[1]), (two, "ann", "unsure")]
    ready.drop("r.csv", rows)
    run_labels(ready)
    assert ready.run_job("mislabel_job", ["next_reviews"]).success
    ranked = ready.stored("next_reviews").frame
    assert ranked["image_uuid"].to_list()[:2] == [one, two]
    assert ranked["why"].to_list()[:2] == ["tie", "unsure"]
    assert set(ranked["image_uuid"]) == set(ready.test_images())
