from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagster_project.lib import dataset, files, tables
from dagster_project.lib.errors import InputError
from dagster_project.lib.probability_table import ProbabilityTable, from_arrow
from dagster_project.lib.release import bundle, inputs
from dagster_project.lib.tiers.scored_rows import ScoreCounts

ROWS = pl.DataFrame({"image_uuid": ["a", "b", "c"], "score": [0.5, 0.6, 0.7]})
COUNTS = ScoreCounts(3, 3, 0, 0)


def test_the_content_is_of_values_and_order_and_the_slices_do_not_show(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = inputs.contents_of(ROWS)
    assert found["scored_rows"]["rows"] == 3
    assert len(found["scored_rows"]["sha256"]) == 64
    chunked = pl.concat([ROWS[:1], ROWS[1:]], rechunk=False)
    assert inputs.contents_of(chunked) == found
    assert inputs.contents_of(ROWS.reverse()) != found
    assert inputs.contents_of(ROWS.with_columns(pl.col("score") + 1e-9)) != found
    assert set(inputs.contents_of(ROWS, ROWS)) == {"scored_rows", "baseline_rows"}


def test_rows_are_kept_once_by_their_content(tmp_path: Path) -> None:
    path = inputs.keep_rows(tmp_path / "kept", ROWS.to_arrow())
    assert files.sha256_file(path) == path.stem
    before = path.stat().st_mtime_ns
    assert inputs.keep_rows(tmp_path / "kept", ROWS.to_arrow()) == path
    assert path.stat().st_mtime_ns == before
    path.write_bytes(b"spoilt")
    inputs.keep_rows(tmp_path / "kept", ROWS.to_arrow())
    assert inputs.contents_of(pl.read_parquet(path)) == inputs.contents_of(ROWS)


def test_files_are_named_by_their_part_in_the_refit() -> None:
    named = inputs.named_files([Path("x"), Path("y")], [Path("z")], labels=Path("l"), policy=None)
    assert named == {
        "probs_00": Path("x"), "probs_01": Path("y"), "baseline_00": Path("z"), "labels": Path("l")
    }  # fmt: skip


def test_provenance_survives_json() -> None:
    whole = bundle.Provenance(
        ("a", "b"), COUNTS, "tree", "data", 16, True, ("cough",), "test", "s", "by patient"
    )
    for value in (whole, bundle.Provenance(("a", "b"), COUNTS)):
        assert bundle.Provenance.of_json(json.loads(json.dumps(value.as_json()))) == value


def test_the_dumps_own_words_are_carried() -> None:
    said = {"identities": '["v1", "v2"]', "null_fields": "[]", "dtype": "bfloat16", "split": "test"}
    found = bundle.provenance_of(ProbabilityTable(("a", "b"), pl.DataFrame(), {}, said), COUNTS)
    assert found.dump["versions"] == ("v1", "v2")
    assert (found.dump["dtype"], found.dump["device"]) == ("bfloat16", None)
    assert found.null_fields == ()  # none is not the same as not known
    assert found.split == "test"


@pytest.mark.parametrize("text", ["cough", '{"a": 1}', "[1]"])
def test_unreadable_lists_are_refused(text: str) -> None:
    table = ProbabilityTable(("a", "b"), pl.DataFrame(), {}, {"null_fields": text})
    with pytest.raises(InputError, match=r"null_fields is .*, not a JSON list"):
        bundle.provenance_of(table, COUNTS)


def shard(uuid: str, **metadata: str) -> pa.Table:
    table = pa.table({"image_uuid": [uuid], "probs": [[0.5, 0.5]]})
    return tables.with_metadata(table, {"classes": '["a", "b"]', **metadata})


def test_the_data_version_of_every_shard_is_known_in_an_order_of_its_own() -> None:
    one, two = shard("x", identity="v2"), shard("y", identity="v1")
    for given in ({"0": one, "1": two}, {"0": two, "1": one}):
        assert from_arrow(given).metadata["identities"] == '["v1", "v2"]'
    assert "identities" not in from_arrow({"0": one, "1": shard("y")}).metadata


def test_the_dataset_says_which_file_split_it_and_how_if_it_states_so(tmp_path: Path) -> None:
    splits = pa.table({"patient_id": ["p"], "split": ["test"]})
    path = tmp_path / "splits.parquet"
    pq.write_table(tables.with_metadata(splits, {"recipe": "hash of patient, 20 %"}), path)
    assert dataset.split_origin(tmp_path) == {
        "splits_sha256": files.sha256_file(path), "split_recipe": "hash of patient, 20 %"
    }  # fmt: skip
    path.unlink()
    (tmp_path / "splits.csv").write_text("patient_id,split\np,test\n")
    assert set(dataset.split_origin(tmp_path)) == {"splits_sha256"}
