"""The record of a roll-up: one chain an image, for ever, whatever rows, mask, rule, thresholds."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, get_args

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from rollup_worlds import TAXONOMY

from dagster_project.lib.probability_table import ProbabilityTable
from dagster_project.lib.rollup.candidates import RollUp
from dagster_project.lib.rollup.config import Mask, RollupConfig, RuleName
from dagster_project.lib.rollup.prepare import prepare
from dagster_project.lib.rollup.provenance import Record, add_record, gather_records, make_record

CLASSES = TAXONOMY.classes
steady = settings(derandomize=True, deadline=None, max_examples=40)


@st.composite
def tables(draw: st.DrawFn) -> ProbabilityTable:
    """0 to 5 rows in any order, some without probabilities, some with zeros only."""
    row = st.one_of(
        st.just([np.nan] * len(CLASSES)),
        st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=6, max_size=6),
    )
    rows: list[Any] = draw(st.lists(row, max_size=5))
    names = draw(st.permutations("abcde"))[: len(rows)]
    probs = np.array(rows, dtype=np.float32).reshape(len(rows), len(CLASSES))
    model = draw(st.sampled_from(["m" * 64, "n" * 64]))
    frame = pl.DataFrame({"image_uuid": names}, schema={"image_uuid": pl.String})
    return ProbabilityTable(CLASSES, frame, {"probs": probs}, {"model_tree_hash": model})


@st.composite
def rollups(draw: st.DrawFn) -> RollUp:
    mask = Mask(
        include=tuple(draw(st.lists(st.sampled_from(CLASSES), min_size=1, unique=True))),
        min_kept_mass=draw(st.sampled_from([0.0, 0.5])),
    )
    rule: Any = draw(st.sampled_from(get_args(RuleName)))
    at = draw(st.lists(st.sampled_from([np.nan, 0.0, 0.5, 0.9, 2.0]), min_size=3, max_size=3))
    how: Any = draw(st.sampled_from(["l1", "odds"]))
    return RollUp(
        TAXONOMY, RollupConfig(mask=mask, rule=rule, normalisation=how, parameter=0.5), np.array(at)
    )


def recorded(table: ProbabilityTable, rollup: RollUp) -> Record:
    prepared = prepare(table.probs, CLASSES, rollup.config)
    return make_record(table, prepared, rollup.applied(prepared), rollup)


@steady
@given(tables(), rollups())
def test_each_image_has_one_chain_of_three_and_one_terminal_row(
    table: ProbabilityTable, rollup: RollUp
) -> None:
    rows = recorded(table, rollup).rows
    assert rows.height == 3 * table.frame.height
    assert rows["prediction_id"].is_unique().all()
    ends = rows.filter("terminal")
    assert sorted(ends["image_uuid"].to_list()) == sorted(table.frame["image_uuid"].to_list())
    by_id = {row["prediction_id"]: row for row in rows.to_dicts()}
    for end in ends.to_dicts():
        mask = by_id[end["applied_to"]]
        source = by_id[mask["applied_to"]]
        assert [row["stage"] for row in (source, mask, end)] == ["source", "masked", "rollup"]
        assert {row["image_uuid"] for row in (source, mask, end)} == {end["image_uuid"]}
        assert {row["root_id"] for row in (source, mask, end)} == {source["prediction_id"]}
        assert source["applied_to"] is None
        assert (end["node"] is None) == (end["reason"] != "placed")
        assert end["changed"] == (end["node"] != mask["node"])
        assert mask["changed"] == (mask["node"] != source["node"])
        if mask["node"] is not None:
            assert mask["node"] in (rollup.config.mask or Mask()).include  # type: ignore[operator]


@settings(steady, max_examples=12)
@given(st.lists(st.tuples(tables(), rollups()), min_size=1, max_size=3))
def test_what_was_recorded_stays_whatever_comes_after(
    runs: list[tuple[ProbabilityTable, RollUp]],
) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder, out = Path(made) / "predictions", Path(made) / "all.parquet"
        known: dict[str, bytes] = {}
        for table, rollup in runs:
            record = recorded(table, rollup)
            assert add_record(folder, record) == (record.file_name not in known)
            assert not add_record(folder, record)
            found = {path.name: path.read_bytes() for path in folder.iterdir()}
            assert {name: found[name] for name in known} == known
            assert set(found) - set(known) <= {record.file_name}
            known = found
        assert gather_records(folder, out) == sorted(known)
        rows = pl.read_parquet(out)
        states = rows.unique(pl.all()).height
        assert rows["prediction_id"].n_unique() == states  # equal ids are equal rows
