"""Image issues are found once; labels that land only look them up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from harness import MODEL_A, MODEL_B, Harness
from PIL import Image

from dagster_project.defs.parquet_io import table_path
from dagster_project.defs.probabilities import DUMPS, shard_keys
from dagster_project.lib import tables
from dagster_project.lib.embedding_table import embeddings_beside

COPIES = ("img-000-0", "img-001-0")
"""Of a test patient and a train patient."""


@pytest.fixture
def dumped(ready: Harness) -> Harness:
    """Photographs are there, two of them equal across splits; both splits are dumped."""
    (ready.settings.dataset_dir / "images").mkdir()
    for n, (uuid, path) in enumerate(
        ready.stored("dataset_index").frame.select("image_uuid", "image_path").rows()
    ):
        rng = np.random.default_rng(0 if uuid in COPIES else n + 1)
        levels = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
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


def counts(harness: Harness) -> dict[str, int]:
    return {a: harness.count(a) for a in ("image_fingerprints", "image_issues", "issue_kinds")}


def test_labels_landing_look_issues_up_and_find_nothing_again(
    dumped: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dumped.run_job("image_issues_job").success
    table = dumped.stored("image_issues").frame
    assert table.select("kind", "image_uuid", "other_uuid", "same_patient", "across_splits").rows(
    ) == [("exact_duplicate", *COPIES, False, True)]  # fmt: skip
    before = table_path(dumped.settings, "image_issues").stat()
    dumped.drop("r.csv", [(COPIES[0], "ada", "acne"), (COPIES[1], "ada", "tinea")])

    from dagster_project.lib.image_issues import fingerprints

    def opened(*_: object, **__: object) -> None:
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr(fingerprints, "open_photo", opened)
        dumped.refit()
    assert counts(dumped) == {"image_fingerprints": 1, "image_issues": 1, "issue_kinds": 1}
    assert table_path(dumped.settings, "image_issues").stat() == before
    found = dumped.stored("issue_kinds").frame.filter(kind="conflicting_duplicate")
    assert found.select("image_uuid", "label", "other_label").rows() == [
        (COPIES[0], "acne", "tinea")
    ]
    assert dumped.metadata("issue_kinds")["conflicting_duplicates"] == 1
    # the second thoughts of a reviewer resolve it
    dumped.drop("r.csv", [(COPIES[0], "ada", "acne"), (COPIES[1], "ada", "acne")])
    dumped.refit()
    assert dumped.metadata("issue_kinds")["conflicting_duplicates"] == 0
    assert counts(dumped)["image_fingerprints"] == 1


def test_a_refit_goes_on_where_nobody_has_compared_the_images(dumped: Harness) -> None:
    dumped.refit()
    shown = dumped.metadata("issue_kinds")
    assert "run image_issues_job first" in shown["not_looked_for"]
    assert "conflicting_duplicates" not in shown
    assert shown["clusters"] == 0
    assert counts(dumped) == {"image_fingerprints": 0, "image_issues": 0, "issue_kinds": 1}


def test_outliers_are_found_where_there_are_embeddings_and_patients_stay_out_of_the_log(
    dumped: Harness,
) -> None:
    assert dumped.run_job("image_issues_job").success
    assert "outliers" not in dumped.metadata("image_issues")
    write_embeddings(dumped, "test")
    assert dumped.run_job("image_issues_job").success
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
    assert dumped.run_job("image_issues_job").success
    assert not {"worst_pairs", "worst_single_images"} & set(dumped.metadata("image_issues"))


def test_embeddings_of_two_models_are_never_compared(dumped: Harness) -> None:
    write_embeddings(dumped, "test")
    write_embeddings(dumped, "train", MODEL_B)
    result = dumped.run_job("image_issues_job")
    assert not result.success
    failure = next(e for e in result.all_events if e.is_step_failure)
    assert "model_tree_hash differs" in str(failure.step_failure_data)


def test_a_new_picture_is_the_only_one_that_is_decoded(
    dumped: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dagster_project.lib.image_issues import fingerprints
    from dagster_project.lib.photos import open_photo

    assert dumped.run_job("image_issues_job", ["image_fingerprints"]).success
    new = dumped.settings.dataset_dir / "images" / "img-005-1.jpg"
    Image.new("RGB", (30, 30), (200, 10, 10)).save(new)
    decoded: list[str] = []

    def counted(path: Path, **options: object) -> Image.Image:
        decoded.append(path.name)
        return open_photo(path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(fingerprints, "open_photo", counted)
    assert dumped.run_job("image_issues_job", ["image_fingerprints"]).success
    assert decoded == ["img-005-1.jpg"]
