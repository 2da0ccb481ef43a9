"""The history of label versions: a line for each, counted against the one before, and no more."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from dagster_project.lib.errors import InputError
from dagster_project.lib.labels import history

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
AT = {"confident": 0.8, "refer": 0.4, "possible_item": 0.25}
LABELS = pl.DataFrame(
    {"image_uuid": ["a", "b", "c", "d"], "label": ["acne", "acne", "tinea", "tinea"]}
)


def version(name: str, model: str = "m" * 64) -> history.LabelVersion:
    return history.LabelVersion(
        label_version=name,
        reviews_version=f"reviews-{name}",
        model_tree_hash=model,
        n_files=2,
        n_files_refused=1,
        n_reviews=30,
        n_reviewers=2,
    )


def relabelled(**labels: str | None) -> pl.DataFrame:
    new = [labels.get(uuid, label) for uuid, label in LABELS.rows()]
    return LABELS.with_columns(label=pl.Series(new, dtype=pl.String))


def record(path: Path, name: str, labels: pl.DataFrame = LABELS, **moved: Any) -> list[Any]:
    model = moved.pop("model", "m" * 64)
    return history.record_version(path, version(name, model), labels, {**AT, **moved}, NOON)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store" / "label_history.jsonl"


def test_the_first_version_has_nothing_before_it(path: Path) -> None:
    (line,) = record(path, "v1")
    assert line["time"] == "2026-11-02T12:00:00+00:00"
    assert line["thresholds_before"] is None
    assert (line["compared_with"], line["n_changed"], line["changed"]) == (None, None, None)
    assert line["thresholds_after"] == AT
    assert (line["n_files"], line["n_files_refused"], line["n_reviews"]) == (2, 1, 30)


def test_a_version_says_which_labels_changed_by_class_and_the_thresholds_on_both_sides(
    path: Path,
) -> None:
    record(path, "v1")
    now = relabelled(a="tinea", b="tinea", d=None)
    line = record(path, "v2", now, confident=0.7)[-1]
    assert line["compared_with"] == "v1"
    assert line["n_changed"] == 3
    assert line["changed"] == [
        {"from": "acne", "to": "tinea", "n": 2},
        {"from": "tinea", "to": None, "n": 1},
    ]
    assert (line["thresholds_before"]["confident"], line["thresholds_after"]["confident"]) == (
        0.8,
        0.7,
    )


def test_images_that_came_or_went_are_not_changes(path: Path) -> None:
    record(path, "v1")
    other = pl.concat([LABELS.head(3), pl.DataFrame({"image_uuid": ["z"], "label": ["acne"]})])
    assert record(path, "v2", other)[-1]["n_changed"] == 0


def test_the_same_version_again_adds_no_line_whenever_it_is(path: Path) -> None:
    record(path, "v1")
    before = path.read_bytes()
    later = NOON + timedelta(days=3)
    history.record_version(path, version("v1"), LABELS, AT, later)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"confident": 0.81}, id="thresholds"),
        pytest.param({"model": "n" * 64}, id="model"),
    ],
)
def test_the_same_labels_under_another_fit_are_a_line(path: Path, other: dict[str, Any]) -> None:
    record(path, "v1")
    line = record(path, "v1", **other)[-1]
    assert (line["compared_with"], line["n_changed"]) == ("v1", 0)


def test_going_back_to_an_older_version_is_a_line_and_lines_are_only_added(path: Path) -> None:
    record(path, "v1")
    record(path, "v2", relabelled(a="tinea"))
    before = path.read_bytes()
    lines = record(path, "v1")
    assert [line["label_version"] for line in lines] == ["v1", "v2", "v1"]
    assert lines[-1]["changed"] == [{"from": "tinea", "to": "acne", "n": 1}]
    assert path.read_bytes().startswith(before)


def test_after_a_kill_between_line_and_labels_the_next_line_says_what_it_is_compared_with(
    path: Path,
) -> None:
    record(path, "v1")
    kept = (path.parent / "label_history_rows.parquet").read_bytes()
    record(path, "v2", relabelled(a="tinea"))
    (path.parent / "label_history_rows.parquet").write_bytes(kept)
    line = record(path, "v3", relabelled(a="tinea", b="tinea"))[-1]
    assert (line["compared_with"], line["n_changed"]) == ("v1", 2)


def test_a_damaged_history_is_named_and_not_written_over(path: Path) -> None:
    record(path, "v1")
    path.write_text(path.read_text() + '{"half": \n')
    damaged = path.read_bytes()
    with pytest.raises(InputError, match="row 2"):
        record(path, "v2")
    assert path.read_bytes() == damaged


def test_no_image_is_named_in_the_history(path: Path) -> None:
    record(path, "v1", LABELS.with_columns(image_uuid="image-" + pl.col("image_uuid")))
    record(path, "v2", LABELS.with_columns(image_uuid="image-" + pl.col("image_uuid")))
    assert "image-" not in path.read_text()


def test_the_table_names_the_release_that_came_of_a_version(path: Path, tmp_path: Path) -> None:
    record(path, "v1")
    lines = record(path, "v2", relabelled(a="tinea"), confident=0.7)
    releases = tmp_path / "releases"
    for name, label_version, confident in (("r1", "v1", 0.8), ("r2", "v2", 0.9)):
        (releases / name).mkdir(parents=True)
        values = {**AT, "confident": confident, "label_version": label_version}
        text = json.dumps({**values, "model_tree_hash": "m" * 64})
        (releases / name / "thresholds.json").write_text(text)
    (releases / "latest").symlink_to("r1")
    (releases / "torn").mkdir()
    (releases / "torn" / "thresholds.json").write_text("{")
    table = history.history_table(lines, releases)
    # the second fit has other thresholds than any release: it was blocked, say
    assert table["release"].to_list() == ["r1", None]
    assert table["changed"].to_list() == [None, "acne → tinea 1"]
    assert table.select("confident_before", "confident_after").rows() == [(None, 0.8), (0.8, 0.7)]


def test_an_empty_history_is_an_empty_table(tmp_path: Path) -> None:
    table = history.history_table([], tmp_path / "none")
    assert table.is_empty()
    assert table.schema["confident_after"] == pl.Float64


def test_many_pairs_are_counted_in_words() -> None:
    pairs = [{"from": f"c{i}", "to": "acne", "n": 1} for i in range(8)]
    assert str(history._in_words(pairs)).endswith("and 3 more pairs")
