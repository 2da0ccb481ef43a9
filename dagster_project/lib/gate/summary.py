"""A gate as small tables: what an interface shows beside the reports.

Belongs: the columns. Does not: any number of its own; all are read from the reports' JSON.
Concept: aggregates only, one row a point, change, tau, model; an undefined number is null.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from dagster_project.lib.gate.words import change_words, pinned, rate_of, readable

RATES = ("accept_rate", "fn_in", "fp_cens", "gap_rate")

Report = Mapping[str, Any]


def point_table(points: Report) -> pl.DataFrame:
    """A row a point: status, thresholds, rates on the evaluation cases, the bound that it meets."""
    schema = {"point": pl.String, "status": pl.String, "tau": pl.Float64, "tau_train": pl.Float64,
              "certified": pl.Boolean, **dict.fromkeys(RATES, pl.Float64), "bounds": pl.String,
              "reason": pl.String}  # fmt: skip
    rows = [
        {
            "point": name,
            **{key: point[key] for key in ("status", "tau", "tau_train", "certified", "reason")},
            **{key: (rate_of(point, key) or {}).get("rate") for key in RATES},
            "bounds": "; ".join(_bound(quantity, of) for quantity, of in point["bounds"].items()),
        }
        for name, point in points["points"].items()
    ]
    return pl.DataFrame(rows, schema=schema)


def change_table(points: Report) -> pl.DataFrame:
    """A row a pair of neighbouring points: what the second does otherwise, per 1,000 cases."""
    taus = pinned(points)
    numbers = ("answered", "answered_in_range", "answered_censored")
    schema = {"from": pl.String, "to": pl.String, **dict.fromkeys(numbers, pl.Float64),
              "words": pl.String}  # fmt: skip
    rows = [
        {
            **{key: row[key] for key in ("from", "to")},
            **{key: row["per_1000"][key] for key in numbers},
            "words": change_words(row, taus).replace("**", ""),
        }
        for row in points["neighbours"]
    ]
    return pl.DataFrame(rows, schema=schema)


def sweep_table(sweep: Report, points: Report | None = None) -> pl.DataFrame:
    """The curves at few taus, those of the points among them."""
    pins = {} if points is None else pinned(points)
    curves = sweep["curves"]
    names: dict[float, list[str]] = {}
    for name, tau in pins.items():
        names.setdefault(tau, []).append(name)
    kept = readable(curves, pins.values())
    columns = {key: [values[at] for at in kept] for key, values in curves.items()
               if isinstance(values, list)}  # fmt: skip
    marked = [", ".join(names.get(tau, [])) for tau in columns["taus"]]
    numbers = dict.fromkeys(columns, pl.Float64)
    return pl.DataFrame({"point": marked, **columns}, schema_overrides=numbers)


def _bound(quantity: str, of: Report) -> str:
    upper = "undefined" if of["upper"] is None else f"{of['upper']:.4f}"
    return f"{quantity} {upper} (target {of['target']:g})"
