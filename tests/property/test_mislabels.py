"""Mislabels: laws that hold for any table and labels."""

from __future__ import annotations

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_project.lib.mislabels.candidates import METHODS, find_candidates
from dagster_project.lib.probability_table import ProbabilityTable

CLASSES = ("acne", "eczema", "tinea", "verruca")
Cells = list[tuple[list[float], str | None]]

cell = st.sampled_from([0.0, 0.0, 0.1, 0.5, 0.5, 0.9, 1.0])
rows = st.lists(
    st.tuples(
        st.lists(cell, min_size=4, max_size=4), st.sampled_from([*CLASSES[:3], *CLASSES[:2], None])
    ),
    min_size=1,
    max_size=25,
).filter(lambda r: len({label for p, label in r if max(p) > 0} - {None}) > 1)


def build(cells: Cells) -> tuple[ProbabilityTable, pl.DataFrame]:
    ids = [f"i{n:02d}" for n in range(len(cells))]
    schema = {"image_uuid": pl.String, "label": pl.String}
    labels = pl.DataFrame({"image_uuid": ids, "label": [c[1] for c in cells]}, schema=schema)
    probs = np.array([c[0] for c in cells])
    return ProbabilityTable(CLASSES, labels.select("image_uuid"), {"probs": probs}), labels


@settings(derandomize=True, max_examples=120, deadline=None)
@given(rows, st.sampled_from(METHODS))
def test_tables_agree_with_each_other_and_with_the_input(cells: Cells, method: str) -> None:
    table, labels = build(cells)
    found = find_candidates(table, labels, in_sample=None, method=method)
    summary, issues = found.summary, found.issues
    parts = ("n", "n_without_label", "n_without_probs")
    assert sum(int(summary[part] or 0) for part in parts) == len(cells)
    assert issues.height == summary["n_issues"] == found.per_class["n_issues"].sum()
    assert issues.height == found.confusions["n"].sum()
    assert found.per_class["n"].sum() == summary["n"]
    assert issues["quality"].is_sorted()
    for row in issues.iter_rows(named=True):
        probs, label = cells[int(row["image_uuid"][1:])]
        assert row["given_label"] == label
        assert row["given_prob"] == probs[CLASSES.index(label)]
        assert row["predicted_prob"] == max(probs)
        assert abs(row["quality"] - row["given_prob"] / sum(probs)) < 1e-12


@settings(derandomize=True, max_examples=60, deadline=None)
@given(rows, st.sampled_from([0.5, 0.25]))
def test_a_common_scale_of_a_row_changes_no_flag(cells: Cells, scale: float) -> None:
    # Halving is exact in binary, so the normalised rows are the same numbers.
    table, labels = build(cells)
    scaled = ProbabilityTable(table.classes, table.frame, {"probs": table.probs * scale})
    first = find_candidates(table, labels, in_sample=None).issues["image_uuid"].to_list()
    assert find_candidates(scaled, labels, in_sample=None).issues["image_uuid"].to_list() == first
