"""Image issues are found once; labels that land only look them up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from harness import MODEL_A, MODEL_B, Harness
from PIL import Image

from dagster_project.defs.image_issues import compared_images
from dagster_project.defs.parquet_io import table_path
from dagster_project.defs.probabilities import DUMPS, shard_keys
from dagster_project.lib import tables
from dagster_project.lib.embedding_table import embeddings_beside
from dagster_project.lib.image_issues import fingerprints
from dagster_project.lib.photos import open_photo
from dagster_project.lib.stored_table import StoredTable

COPIES = ("img-000-0", "img-001-0")
"""Of a test patient and a train patient."""
SCREEN = "img-003-0"


@pytest.fixture
def dumped(ready: Harness) -> Harness:
    """Photographs are there, two equal across splits and one of a screen; both are dumped."""
    (ready.settings.dataset_dir / "images").mkdir()
    for n, (uuid, path) in enumerate(
        ready.stored("dataset_index").frame.select("image_uuid", "image_path").rows()
    ):
        rng = np.random.default_rng(0 if uuid in COPIES else n + 1)
        levels = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
        if uuid == SCREEN:
            levels = np.full((64, 64, 3), (24, 26, 30), dtype=np.uint8)
        Image.fromarray(levels).save(ready.settings.dataset_dir / path, "png")
    ready.dump("train")
    return ready


def write_embeddings(harness: Harness, split: str, model: str = MODEL_A) -> None:
    """What a dump with embeddings would have written beside its shards; one image is odd."""
    for key in shard_keys(harness.settings):
        path = table_path(harness.settings, DUMPS[split], key)
        ids = tables.read_arrow(path, ["image_uuid"]).column("image_uuid").to_pylist()
        values = np.random.default_rng(int(key)).normal(1, 0.1, (len(ids), 6))
        values[[uuid == "img-002-0" for uuid in ids]] *= -1
        table = pl.DataFrame({"image_uuid": ids, "embedding": values.tolist()}).to_arrow()
        metadata = {"model_tree_hash": model}
        tables.write_arrow(embeddings_beside(path), tables.with_metadata(table, metadata))


def test_labels_landing_look_issues_up_and_find_nothing_again(
    dumped: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    # nobody has compared the images: what depends on labels goes on, and says so
    labelled = ["expert_reviews", "cleaned_labels", "mislabel_candidates", "issue_kinds"]
    assert dumped.run_job("refit_job", labelled).success
    shown = dumped.metadata("issue_kinds")
    assert "run image_issues_job first" in shown["not_looked_for"]
    assert "conflicting_duplicates" not in shown
    assert shown["clusters"] == 0
    assert dumped.run_job("image_issues_job").success
    table = dumped.stored("image_issues").frame
    sides = table.select("kind", "image_uuid", "other_uuid", "same_patient", "across_splits")
    screen = ("not_skin", SCREEN, None, None, None)
    assert sides.rows() == [screen, ("exact_duplicate", *COPIES, False, True)]
    index = dumped.stored("dataset_index")
    compared = compared_images(dumped.settings, index)
    assert compared is not None
    assert compared.equals(table)
    for gone in COPIES:  # the dataset lost one since
        rest = StoredTable.of(index.frame.filter(pl.col("image_uuid") != gone))
        left = compared_images(dumped.settings, rest)
        assert left is not None
        assert left["kind"].to_list() == ["not_skin"]
    before = table_path(dumped.settings, "image_issues").stat()
    monkeypatch.setattr(fingerprints, "open_photo", None)  # nothing is decoded any more
    # two labels for one picture land, and then the reader's second thoughts
    for second, conflicts in (("tinea", [(COPIES[0], "acne", "tinea")]), ("acne", [])):
        dumped.drop("r.csv", [(COPIES[0], "ada", "acne"), (COPIES[1], "ada", second)])
        if conflicts:
            dumped.refit()
        else:
            assert dumped.run_job("refit_job", labelled).success
        found = dumped.stored("issue_kinds").frame.filter(kind="conflicting_duplicate")
        assert found.select("image_uuid", "label", "other_label").rows() == conflicts
        assert dumped.metadata("issue_kinds")["conflicting_duplicates"] == len(conflicts)
    assert [dumped.count(a) for a in ("image_fingerprints", "image_issues", "issue_kinds")] == [
        *(1, 1, 3)
    ]
    assert table_path(dumped.settings, "image_issues").stat() == before


def test_outliers_need_embeddings_of_one_model_and_patients_stay_out_of_the_log(
    dumped: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dumped.run_job("image_issues_job").success
    assert "outliers" not in dumped.metadata("image_issues")
    write_embeddings(dumped, "test")
    new = "images/img-005-1.jpg"
    Image.new("RGB", (30, 30), (200, 10, 10)).save(dumped.settings.dataset_dir / new)
    decoded: list[str] = []

    def counted(path: Path, **options: Any) -> Image.Image:
        decoded.append(path.name)
        return open_photo(path, **options)

    monkeypatch.setattr(fingerprints, "open_photo", counted)
    assert dumped.run_job("image_issues_job").success
    assert decoded == [Path(new).name]  # of all pictures the only one with new bytes
    shown = dumped.metadata("image_issues")
    assert (shown["n_embedded"], shown["outliers"] > 0) == (60, True)
    odd = dumped.stored("image_issues").frame.filter(kind="outlier")
    assert odd["image_uuid"][0] == "img-002-0"
    assert "worst_pairs" in shown
    assert shown["exact_duplicates (file)"].endswith("image_issues/exact_duplicates.png")
    text = str({k: v for k, v in shown.items() if not k.startswith("worst_")})
    assert "img-" not in text
    assert "p00" not in text
    object.__setattr__(dumped.settings, "photos_in_ui", False)
    assert dumped.run_job("image_issues_job", ["image_issues"]).success
    assert not {"worst_pairs", "worst_single_images"} & set(dumped.metadata("image_issues"))
    write_embeddings(dumped, "train", MODEL_B)
    result = dumped.run_job("image_issues_job", ["image_issues"])
    assert not result.success
    failure = next(e for e in result.all_events if e.is_step_failure)
    assert "model_tree_hash differs" in str(failure.step_failure_data)
