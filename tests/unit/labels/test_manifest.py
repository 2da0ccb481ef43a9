"""The cleaned manifest: kept, relabelled, dropped; and the dataset reader reads it back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from dagster_project.lib import dataset, files, tables
from dagster_project.lib.errors import InputError
from dagster_project.lib.labels import manifest

# image, split, given, label in force, status, votes, source
ROWS = [
    ("a", "train", "acne", "acne", "given", 0, "given"),
    ("b", "train", "acne", "tinea", "corrected", 2, "consensus"),
    ("c", "train", "acne", "acne", "confirmed", 2, "consensus"),
    ("d", "train", "tinea", None, "not_usable", 2, "consensus"),
    ("e", "train", "tinea", "tinea", "tie", 2, "given"),
    ("f", "train", "tinea", "tinea", "single", 1, "given"),
    ("g", "train", "tinea", "eczema", "corrected", 1, "reference"),
    ("h", "train", None, "acne", "corrected", 2, "consensus"),
    ("i", "train", None, None, "given", 0, "given"),
    ("j", "train", "acne", None, "tie", 2, None),
    ("k", "test", "acne", "tinea", "corrected", 2, "consensus"),
    ("l", "test", "acne", None, "not_usable", 2, "consensus"),
    ("m", "val", "acne", "tinea", "corrected", 2, "consensus"),
]
NAMES = ("image_uuid", "split", "given_label", "label", "status", "n_votes", "source")
CLEANED = pl.DataFrame(ROWS, schema=NAMES, orient="row").drop("split")
INDEX = pl.DataFrame(
    {
        "image_uuid": [row[0] for row in ROWS],
        "image_path": [f"images/{row[0]}.jpg" for row in ROWS],
        "patient_id": [f"p{row[0]}" for row in ROWS],
        "split": [row[1] for row in ROWS],
        "itch": ["yes"] * len(ROWS),
    }
)
PRUNE = pl.DataFrame(
    {
        "image_uuid": ["a", "a", "c", "k", "gone"],
        "reason": ["a screenshot", "a copy of a test image", "a screenshot", "garbage", "garbage"],
    }
)
MADE_FROM = {"label_version": "v1", "dataset_version": "d1", "prune_version": None}


def decided(prune: pl.DataFrame | None = None) -> dict[str, dict[str, object]]:
    rows = manifest.decide_rows(INDEX, CLEANED, prune)
    assert rows["image_uuid"].to_list() == INDEX["image_uuid"].to_list()
    return {row["image_uuid"]: row for row in rows.iter_rows(named=True)}


@pytest.mark.parametrize(
    ("image", "action", "label", "source", "word"),
    [
        pytest.param("a", "kept", "acne", "given", "nobody", id="nobody_looked"),
        pytest.param("b", "relabelled", "tinea", "consensus", "agree on another", id="corrected"),
        pytest.param("c", "kept", "acne", "consensus", "confirmed", id="confirmed"),
        pytest.param("d", "dropped", None, "consensus", "could not use", id="not_usable"),
        pytest.param("e", "kept", "tinea", "given", "conflict", id="tie"),
        pytest.param("f", "kept", "tinea", "given", "one vote", id="one_vote_is_no_label"),
        pytest.param("g", "relabelled", "eczema", "reference", "a reference", id="reference"),
        pytest.param("h", "relabelled", "acne", "consensus", "agree", id="labelled_at_last"),
        pytest.param("i", "kept", None, "given", "nobody", id="never_labelled"),
        pytest.param("j", "dropped", None, "policy", "policy for reviews: votes", id="excluded"),
        pytest.param("k", "kept", "acne", "given", "held out", id="test_is_not_relabelled"),
        pytest.param("l", "kept", "acne", "given", "held out", id="test_is_not_dropped"),
        pytest.param("m", "relabelled", "tinea", "consensus", "agree", id="validation_is_cleaned"),
    ],
)
def test_each_row_has_its_action_label_source_and_reason(
    image: str, action: str, label: str | None, source: str, word: str
) -> None:
    row = decided()[image]
    assert (row["action"], row["label"], row["source"]) == (action, label, source)
    assert word in str(row["reason"])
    assert (row["n_votes"] is None) == (row["split"] == "test")


def test_a_pruned_row_is_dropped_with_all_its_reasons_and_never_from_the_test_split() -> None:
    rows = decided(PRUNE)
    assert rows["a"]["reason"] == "a copy of a test image; a screenshot"
    assert (rows["a"]["action"], rows["a"]["source"], rows["a"]["label"]) == (
        "dropped",
        "prune_list",
        None,
    )
    assert rows["k"] == decided()["k"]
    # what reviewers said comes first, be the proposal older than it or not
    assert rows["c"] == decided()["c"]
    unusable = decided(pl.DataFrame({"image_uuid": ["d"], "reason": ["a screenshot"]}))["d"]
    assert unusable["source"] == "consensus"


def test_an_image_without_a_cleaned_label_is_named() -> None:
    with pytest.raises(InputError, match=r"1 images .*'a'"):
        manifest.decide_rows(INDEX, CLEANED.filter(pl.col("image_uuid") != "a"))


def test_counts_by_class_are_of_the_training_side_and_add_up() -> None:
    rows = manifest.decide_rows(INDEX, CLEANED, PRUNE)
    counts = manifest.class_counts(rows)
    assert counts.rows() == [
        # class, before, after, away, to, dropped: a and j go, b and m leave, h comes
        ("acne", 5, 2, 2, 1, 2),
        ("tinea", 4, 4, 1, 2, 1),
        ("eczema", 0, 1, 0, 1, 0),
    ]
    balance = counts.select(
        pl.col("before") - pl.col("relabelled_away") + pl.col("relabelled_to") - pl.col("dropped")
    )
    assert balance.to_series().to_list() == counts["after"].to_list()
    summary = manifest.manifest_summary(rows)
    assert summary == {
        "n_training_before": 11,
        "n_training_after": 8,
        "n_kept": 4,
        "n_relabelled": 4,
        "n_dropped": 3,
        "n_without_label": 1,
        "n_held_out": 2,
    }
    dropped = manifest.dropped_by_reason(rows)
    assert dropped["n"].sum() == 3
    assert dropped.columns == ["reason", "source", "n"]


def test_nothing_to_count_is_an_empty_table() -> None:
    rows = manifest.decide_rows(INDEX.clear(), CLEANED)
    assert manifest.class_counts(rows).is_empty()
    assert manifest.manifest_summary(rows)["n_training_before"] == 0
    assert manifest.dropped_by_reason(rows).is_empty()


def publish(root: Path, index: pl.DataFrame = INDEX) -> manifest.PublishedManifest:
    rows = manifest.decide_rows(index, CLEANED, PRUNE)
    return manifest.publish_manifest(root, index, rows, MADE_FROM)


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """A dataset folder whose manifest and splits say what INDEX and CLEANED say."""
    folder = tmp_path / "dataset"
    folder.mkdir()
    given = CLEANED.select("image_uuid", label="given_label")
    INDEX.drop("split").join(given, on="image_uuid").write_csv(folder / "manifest.csv")
    INDEX.select("patient_id", "split").write_csv(folder / "splits.csv")
    return folder


def test_a_manifest_is_read_by_the_dataset_reader_with_the_datasets_own_splits(
    original: Path, tmp_path: Path
) -> None:
    index = dataset.dataset_index(original)
    published = publish(tmp_path / "manifests", index)
    following = tmp_path / "next"
    following.mkdir()
    shutil.copy(published.folder / "manifest.parquet", following)
    shutil.copy(original / "splits.csv", following)
    kept = pl.col("image_uuid").is_in(list("bcefghiklm"))
    # no label and nothing about one is in the index: dumps of the rows that stay are current
    assert dataset.dataset_index(following).equals(index.filter(kept))
    labels = dict(dataset.given_labels(following).rows())
    gained = {"b": "tinea", "g": "eczema", "h": "acne", "i": None, "m": "tinea"}
    assert labels == {"c": "acne", "e": "tinea", "f": "tinea", "k": "acne", "l": "acne", **gained}


def test_a_damaged_list_of_columns_is_refused(original: Path) -> None:
    (original / "manifest.csv").unlink()
    table = INDEX.with_columns(label=pl.lit("acne")).to_arrow()
    damaged = tables.with_metadata(table, {dataset.ABOUT_LABELS: '{"a": 1}'})
    tables.write_arrow(original / "manifest.parquet", damaged)
    with pytest.raises(InputError, match="columns_about_labels"):
        dataset.dataset_index(original)


def test_a_folder_says_what_it_is_and_was_made_from(tmp_path: Path) -> None:
    published = publish(tmp_path)
    summary = json.loads((published.folder / "summary.json").read_text())
    assert summary["manifest"] == published.version == published.folder.name
    assert summary["made_from"] == MADE_FROM
    assert summary["n_dropped"] == 3
    for name, sha256 in summary["sha256"].items():
        assert files.sha256_file(published.folder / name) == sha256
    assert (tmp_path / "latest").resolve() == published.folder
    training = tables.read_table(published.folder / "metadata.csv", ["file_name", "label"])
    assert set(training["split"]) == {"train", "val"}
    assert training["file_name"].to_list() == training["image_path"].to_list()
    dropped = tables.read_table(published.folder / "dropped.csv", ["reason"])
    assert dropped["image_uuid"].to_list() == ["a", "d", "j"]
    readme = (published.folder / "README.txt").read_text()
    assert "DATASET_DIR" in readme


def test_equal_content_is_not_published_again_and_other_content_is_another_version(
    tmp_path: Path,
) -> None:
    first = publish(tmp_path)
    before = {p.name: p.stat().st_mtime_ns for p in first.folder.iterdir()}
    # other reviews of the test split only: nothing to train on has changed
    reviewed = CLEANED.with_columns(
        label=pl.when(pl.col("image_uuid") == "k").then(pl.lit("eczema")).otherwise("label"),
        n_votes=pl.when(pl.col("image_uuid") == "k").then(3).otherwise("n_votes"),
    )
    rows = manifest.decide_rows(INDEX, reviewed, PRUNE)
    again = manifest.publish_manifest(tmp_path, INDEX, rows, {**MADE_FROM, "label_version": "v2"})
    assert (first.built, again.built) == (True, False)
    assert again.version == first.version
    assert {p.name: p.stat().st_mtime_ns for p in first.folder.iterdir()} == before
    other = manifest.publish_manifest(
        tmp_path, INDEX, manifest.decide_rows(INDEX, CLEANED), MADE_FROM
    )
    assert other.version != first.version
    assert first.folder.is_dir()
    assert (tmp_path / "latest").resolve() == other.folder


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    one, two = publish(tmp_path / "one"), publish(tmp_path / "two")
    for path in one.folder.iterdir():
        assert path.read_bytes() == (two.folder / path.name).read_bytes(), path.name


def test_a_dataset_keeps_its_own_column_where_ours_has_the_same_name(tmp_path: Path) -> None:
    index = INDEX.with_columns(source=pl.lit("clinic"), file_name=pl.lit("x.jpg"))
    published = publish(tmp_path, index)
    found = pl.read_parquet(published.folder / "manifest.parquet")
    assert set(found["source"]) == {"clinic"}
    assert "consensus" in set(found["label_source"])
    hugging = tables.read_table(published.folder / "metadata.csv", ["file_name"])
    assert hugging["file_name"][0] == "images/b.jpg"
