"""The record: each state of an image once, ids that name what made it, files that only grow."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from rollup_files import FITTED, GIVEN, inputs, table
from rollup_worlds import TAXONOMY

from dagster_project.lib import tables
from dagster_project.lib.rollup.candidates import RollUp
from dagster_project.lib.rollup.config import parse_config
from dagster_project.lib.rollup.place import given_thresholds
from dagster_project.lib.rollup.prepare import prepare
from dagster_project.lib.rollup.provenance import (
    SCHEMA,
    Record,
    add_record,
    gather_records,
    make_record,
    records_in,
    used_sha256,
)
from dagster_project.lib.rollup.report import RollupInputs, roll_up
from dagster_project.lib.rollup.taxonomy import Taxonomy

COLUMNS = [
    *("image_uuid", "stage", "prediction_id", "applied_to", "root_id", "terminal", "node", "rank"),
    *("score", "leaf_top", "leaf_score", "raw_max", "kept_mass", "off_lineage", "lineage_node"),
    *("lineage_score", "threshold", "changed", "reason"),
    *("config_hash", "taxonomy_hash", "model_tree_hash"),
]

MASKED = {**GIVEN, "mask": {"exclude": ["eczema", "herpes"], "min_kept_mass": 0.3}}


def record(found: RollupInputs) -> Record:
    at = given_thresholds(dict(found.config.thresholds), found.taxonomy)
    rollup = RollUp(found.taxonomy, found.config, at)
    prepared = prepare(found.table.probs, found.table.classes, found.config)
    return make_record(found.table, prepared, rollup.applied(prepared), rollup)


@pytest.fixture(scope="module")
def masked() -> pl.DataFrame:
    return record(inputs(MASKED, labels=False)).rows


def stage(rows: pl.DataFrame, name: str) -> pl.DataFrame:
    return rows.filter(stage=name).sort("image_uuid")


def test_columns_are_those_of_the_contract_in_their_order(masked: pl.DataFrame) -> None:
    assert masked.columns == list(SCHEMA) == COLUMNS
    assert dict(masked.schema) == SCHEMA


def test_each_image_has_three_states_and_only_the_last_is_terminal(masked: pl.DataFrame) -> None:
    n = len(table().frame)
    assert masked["stage"].to_list() == ["source", "masked", "rollup"] * n
    assert masked["image_uuid"].to_list() == sorted(masked["image_uuid"].to_list())
    assert masked.filter("terminal")["stage"].unique().to_list() == ["rollup"]
    assert masked.filter("terminal")["image_uuid"].is_unique().all()
    assert masked["prediction_id"].is_unique().all()


def test_a_state_names_the_one_it_was_made_from_and_its_root(masked: pl.DataFrame) -> None:
    source, mask, rolled = (stage(masked, name) for name in ("source", "masked", "rollup"))
    assert source["applied_to"].null_count() == source.height
    assert mask["applied_to"].equals(source["prediction_id"])
    assert rolled["applied_to"].equals(mask["prediction_id"])
    for rows in (source, mask, rolled):
        assert rows["root_id"].equals(source["prediction_id"])


def test_a_source_row_is_what_was_stored(masked: pl.DataFrame) -> None:
    read = table()
    source = stage(masked, "source")
    order = read.frame["image_uuid"].arg_sort().to_numpy()
    raw = read.probs[order].astype(np.float64)
    has = ~np.isnan(raw).any(axis=1)
    wanted = np.array(TAXONOMY.classes)[raw[has].argmax(axis=1)]
    assert source.filter(has)["node"].to_list() == wanted.tolist()
    assert source.filter(has)["score"].to_list() == raw[has].max(axis=1).tolist()
    [without] = source.filter(~has).to_dicts()
    assert [without[name] for name in ("node", "score", "raw_max")] == [None] * 3
    assert without["reason"] == "no_probabilities"


def test_a_masked_row_says_why_its_leaf_is_another_one(masked: pl.DataFrame) -> None:
    both = stage(masked, "masked").join(
        stage(masked, "source").select("image_uuid", before="node"), on="image_uuid"
    )
    gone = both["before"].is_in(["eczema", "herpes"])
    small = both["kept_mass"] < 0.3
    assert small.any()
    assert both.filter(gone & ~small)["reason"].unique().to_list() == ["leaf_excluded"]
    assert both.filter(~gone)["reason"].unique().to_list() == ["kept"]
    assert not both.filter(~gone)["changed"].any()
    assert both.filter(small)["node"].null_count() == small.sum()
    assert both.filter(small)["reason"].unique().to_list() == ["kept_mass_too_small"]
    assert not set(both["node"].drop_nulls()) & {"eczema", "herpes"}


def test_a_rolled_up_row_holds_what_it_had_to_reach(masked: pl.DataFrame) -> None:
    rolled = stage(masked, "rollup")
    placed = rolled.filter(reason="placed")
    assert (placed["score"] >= placed["threshold"]).all()
    wanted = pl.Series(placed["rank"]).replace_strict(GIVEN["thresholds"], return_dtype=pl.Float64)
    assert placed["threshold"].equals(wanted.alias("threshold"))
    left = rolled.filter(pl.col("reason") != "placed")
    assert (
        left.select("node", "rank", "score", "threshold").null_count().row(0) == (left.height,) * 4
    )
    mask = stage(masked, "masked")
    assert rolled["changed"].equals((mask["node"].ne_missing(rolled["node"])).alias("changed"))
    undecided = rolled.filter(mask["node"].is_null())
    assert not set(undecided["reason"]) & {"placed", "nothing_clears"}


def test_the_order_and_the_storage_of_rows_change_no_id() -> None:
    found = inputs(GIVEN, labels=False)
    read = found.table
    back = replace(
        read,
        frame=read.frame.reverse(),
        views={"probs": read.probs[::-1].astype(np.float64)},
    )
    assert record(replace(found, table=back)).rows.equals(record(found).rows)


def test_whatever_makes_a_state_changes_its_ids_and_nothing_else_does() -> None:
    found = inputs(GIVEN, labels=False)
    ids = set(record(found).rows["prediction_id"])
    taxonomy = Taxonomy(TAXONOMY.ranks[:2], tuple(x[:2] for x in TAXONOMY.lineages))
    two = {"thresholds": {"class": 0.8, "family": 0.7}}
    others = [
        replace(found, table=table(model="d" * 64)),
        replace(found, table=table(model=None)),
        replace(found, config=parse_config({"thresholds": {**GIVEN["thresholds"], "class": 0.81}})),
        replace(found, config=parse_config({**GIVEN, "normalisation": "odds"})),
        replace(found, config=parse_config(two), taxonomy=taxonomy),
    ]
    for other in others:
        assert not ids & set(record(other).rows["prediction_id"])
    raw = found.table.probs.copy()
    raw[0, 0] += 0.01
    moved = record(replace(found, table=replace(found.table, views={"probs": raw})))
    assert len(ids - set(moved.rows["prediction_id"])) == 3  # the states of one image


def test_the_hash_tells_fitted_thresholds_apart_and_given_ones_too() -> None:
    config = parse_config(FITTED)
    hashes = {
        used_sha256(RollUp(TAXONOMY, config, np.array(values)))
        for values in ([0.8, 0.7, 0.6], [0.8, 0.7, np.nan], [0.8, 0.7, 0.6 + 1e-15])
    }
    hashes.add(used_sha256(RollUp(TAXONOMY, parse_config(GIVEN), np.array([0.8, 0.7, 0.6]))))
    assert len(hashes) == 4


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_record_adds_nothing_and_another_stands_beside_it(tmp_path: Path) -> None:
    found = inputs(GIVEN, labels=False)
    first, folder, out = record(found), tmp_path / "predictions", tmp_path / "all.parquet"
    assert add_record(folder, first)
    gather_records(folder, out)
    before, whole = contents(folder), out.read_bytes()
    assert not add_record(folder, record(found))
    gather_records(folder, out)
    assert (contents(folder), out.read_bytes()) == (before, whole)
    others = [
        replace(found, config=parse_config({**GIVEN, "rule": "distribution"})),
        replace(found, table=table(model="d" * 64)),
        replace(found, table=table(n_patients=100)),
    ]
    for other in others:
        assert add_record(folder, record(other))
    assert gather_records(folder, out) == records_in(folder)
    after = contents(folder)
    assert len(after) == 4
    assert {name: after[name] for name in before} == before
    gathered = pl.read_parquet(out)
    assert gathered.equals(pl.concat(pl.read_parquet(folder / x) for x in records_in(folder)))
    for name in records_in(folder):
        rows = pl.read_parquet(folder / name)
        assert rows.filter("terminal")["image_uuid"].is_unique().all()
        assert rows["image_uuid"].n_unique() * 3 == rows.height


def test_a_file_says_all_that_is_needed_to_make_it_again(tmp_path: Path) -> None:
    made = record(inputs(MASKED, labels=False))
    add_record(tmp_path, made)
    told = tables.read_metadata(tmp_path / made.file_name)
    assert parse_config(json.loads(told["config"])) == parse_config(MASKED)
    assert json.loads(told["thresholds"]) == MASKED["thresholds"]
    assert [*map(tuple, json.loads(told["taxonomy"])["lineages"])] == list(TAXONOMY.lineages)
    assert made.file_name.startswith(told["config_hash"] + "-")


def test_a_record_that_comes_while_others_are_gathered_is_gathered_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = inputs(GIVEN, labels=False)
    folder, write = tmp_path / "predictions", tables.write_arrow_parts
    add_record(folder, record(found))
    late = record(replace(found, config=parse_config({**GIVEN, "rule": "antenna"})))

    def write_slowly(*arguments: Any) -> None:
        write(*arguments)
        monkeypatch.undo()
        add_record(folder, late)

    monkeypatch.setattr(tables, "write_arrow_parts", write_slowly)
    gather_records(folder, tmp_path / "all.parquet")
    assert late.config_hash in set(pl.read_parquet(tmp_path / "all.parquet")["config_hash"])


def test_several_writers_at_once_lose_no_record(tmp_path: Path) -> None:
    """Each adds its own and gathers; whoever writes last has seen them all."""
    found = inputs(GIVEN, labels=False)
    made = [
        record(replace(found, config=parse_config({"thresholds": {"class": k / 10}})))
        for k in range(6)
    ]
    out, begin = tmp_path / "all.parquet", threading.Barrier(len(made))

    def write(one: Record) -> None:
        begin.wait()
        add_record(tmp_path / "predictions", one)
        gather_records(tmp_path / "predictions", out)

    with ThreadPoolExecutor(len(made)) as pool:
        list(pool.map(write, made))  # an error in one is raised here
    assert set(pl.read_parquet(out)["config_hash"]) == {one.config_hash for one in made}
    left = [path.name for path in tmp_path.rglob(".*")]
    assert left == []


def test_a_roll_up_records_what_it_was_placed_with() -> None:
    found: Any = roll_up(inputs(FITTED))
    assert found.report["config_hash"] == found.record.config_hash
    assert found.report["thresholds"] == json.loads(found.record.metadata["thresholds"])
    placed = stage(found.record.rows, "rollup").filter(reason="placed")
    assert placed.height == found.report["placed"]["reasons"]["placed"] > 0
