"""A roll-up as small tables: what an interface shows beside the report.

Belongs: the columns. Does not: any number of its own; all are read from report, record and fit.
Concept: aggregates only, one row a rank, kind, rule; an undefined number is null.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import polars as pl

from dagster_project.lib.rollup.provenance import thresholds_of

if TYPE_CHECKING:
    from dagster_project.lib.rollup.candidates import RollUp


def threshold_table(rollup: RollUp, fit: Mapping[str, Any] | None) -> pl.DataFrame:
    """A row a rank: threshold, and of a fit what it does on patients B."""
    at = thresholds_of(rollup)
    known = {} if fit is None else {row["rank"]: row for row in fit["accuracies"]}
    numbers = dict.fromkeys(("share", "accuracy", "low", "high", "aim"), pl.Float64)
    schema = {"rank": pl.String, "threshold": pl.Float64, "shape": pl.Float64, "n": pl.Int64,
              **numbers, "never_said": pl.String}  # fmt: skip
    rows = [
        {
            "rank": rank,
            "threshold": threshold,
            "shape": None if fit is None else fit["shape"][rank],
            "never_said": None if fit is None else fit["disabled"].get(rank),
            **{key: known.get(rank, {}).get(key) for key in ("n", *numbers)},
        }
        for rank, threshold in at.items()
    ]
    return pl.DataFrame(rows, schema=schema)


def ends_table(rows: pl.DataFrame) -> pl.DataFrame:
    """How many images end at each rank, or why at none."""
    ends = rows.filter("terminal").group_by("rank", "reason").agg(images=pl.len())
    return ends.sort("images", "reason", descending=[True, False])


def transition_table(report: Mapping[str, Any]) -> pl.DataFrame:
    """A row a kind of change, with the images by the rank of the answer after."""
    rows = [
        {
            "kind": row["kind"],
            "meaning": row["meaning"],
            "images": row["share"]["n"],
            "share": row["share"]["rate"],
            "low": (row["share"]["ci95"] or [None])[0],
            "high": (row["share"]["ci95"] or [None])[-1],
            **{f"to {rank}": n for rank, n in row["by_rank"].items()},
        }
        for row in report["evaluation"]["transitions"]["kinds"]
    ]
    return pl.DataFrame(rows, schema_overrides={"low": pl.Float64, "high": pl.Float64})


def rank_table(report: Mapping[str, Any]) -> pl.DataFrame:
    """A row a rank: what is said there, how often it is right, the aim."""
    rows = [
        {
            "rank": row["rank"],
            "threshold": row["threshold"],
            "images": row["n"],
            "share": row["share"]["rate"],
            "accuracy": row["accuracy"]["rate"],
            "low": (row["accuracy"]["ci95"] or [None])[0],
            "high": (row["accuracy"]["ci95"] or [None])[-1],
            "aim": row["aim"],
            "aim_met": row["aim_met"],
        }
        for row in report["evaluation"]["by_rank"]
    ]
    numbers = dict.fromkeys(("threshold", "share", "accuracy", "low", "high", "aim"), pl.Float64)
    return pl.DataFrame(rows, schema_overrides={**numbers, "aim_met": pl.String})


def rule_table(report: Mapping[str, Any]) -> pl.DataFrame:
    """A row a rule of ``rules.compared_rules``: rates over all images, accuracy of the placed."""
    rows = [
        {
            **{key: row[key] for key in ("rule", "at", "parameter", "own")},
            **{key: row[key]["rate"] for key in ("placed", "right", "wrong", "accuracy")},
            "specificity": row["specificity"]["mean"],
        }
        for row in report["rules"]
    ]
    return pl.DataFrame(rows, schema_overrides={"parameter": pl.Float64, "accuracy": pl.Float64})
