"""What goes back to training: the manifest and the history, made by real refits."""

from __future__ import annotations

import json

import polars as pl
from harness import CLASSES, Harness

from dagster_project.defs.parquet_io import table_path
from dagster_project.lib import tables

READERS = ("ann", "bob")


def test_reviews_of_training_images_make_a_manifest_and_reviews_of_the_test_split_do_not(
    fitted: Harness,
) -> None:
    first = fitted.metadata("cleaned_manifest")
    assert (first["newly_published"], first["n_kept"], first["n_held_out"]) == (True, 60, 60)
    test = fitted.test_images()
    given = dict(fitted.stored("given_labels").frame.rows())
    fitted.drop("test.csv", [(test[0], reader, other(given[test[0]])) for reader in READERS])
    fitted.refit()
    same = fitted.metadata("cleaned_manifest")
    assert (same["manifest"], same["newly_published"]) == (first["manifest"], False)

    wrong, unusable, pruned = training_images(fitted)[:3]
    said = {wrong: other(given[wrong]), unusable: "not_usable"}
    rows = [(image, reader, label) for image, label in said.items() for reader in READERS]
    fitted.drop("train.csv", rows)
    proposals = pl.DataFrame({"image_uuid": [pruned], "reason": ["a screenshot"]})
    tables.write_arrow(table_path(fitted.settings, "prune_list"), proposals.to_arrow())
    fitted.refit()
    cleaned = fitted.metadata("cleaned_manifest")
    assert cleaned["newly_published"]
    assert (cleaned["n_relabelled"], cleaned["n_dropped"], cleaned["n_kept"]) == (1, 2, 57)

    folder = fitted.settings.manifests_dir / "latest"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["manifest"] == cleaned["manifest"]
    made_from = summary["made_from"]
    assert made_from["label_version"] == fitted.metadata("tier_thresholds")["label_version"]
    assert (
        made_from["base_model_tree_hash"] == fitted.metadata("tier_thresholds")["model_tree_hash"]
    )
    assert made_from["dataset_version"] == fitted.stored("dataset_index").version
    assert made_from["prune_version"]
    labels = dict(pl.read_parquet(folder / "manifest.parquet").select("image_uuid", "label").rows())
    assert labels[wrong] == other(given[wrong])
    assert labels[test[0]] == given[test[0]]
    assert not {unusable, pruned} & set(labels)
    # the original stays what it was, and both versions are there
    assert (fitted.settings.manifests_dir / first["manifest"]).is_dir()
    manifest = pl.read_csv(fitted.settings.dataset_dir / "manifest.csv")
    assert dict(manifest.select("image_uuid", "label").rows()) == given

    history = pl.read_csv(fitted.settings.report_dir / "label_history.csv")
    assert history["n_changed"].to_list() == [None, 1, 2]
    assert history["n_reviews"].to_list() == [0, 2, 6]
    assert history["n_reviewers"].to_list() == [0, 2, 2]
    assert history["confident_after"].to_list()[1] == history["confident_before"].to_list()[2]
    assert history["release"].to_list()[2] == fitted.metadata("threshold_release")["release"]
    assert history["release"].null_count() == 0
    ids = {*given, *manifest["patient_id"]}
    text = fitted.settings.label_history.read_text()
    assert not [i for i in ids if i in text]


def other(label: str) -> str:
    return CLASSES[(CLASSES.index(label) + 1) % len(CLASSES)]


def training_images(harness: Harness) -> list[str]:
    index = harness.stored("dataset_index").frame
    return index.filter(split="train")["image_uuid"].to_list()
