"""Where it fails, by class: which diagnoses are missed, hedged or confidently got wrong.

Belongs: one row a class at given thresholds, with n and intervals by patient.
Does not: metadata (``subgroups``), drawing (``failure_pictures``), choosing thresholds.
Concept: a class is seen from both ends: rows that *are* it (recall, tiers), and rows that are
*called* it with confidence (how many of them are wrong). The second is what a patient is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from dagster_project.lib.errors import InputError, unknown_class
from dagster_project.lib.evidence.proportion import Proportions, clustered_interval
from dagster_project.lib.evidence.rows import patient_key
from dagster_project.lib.tiers.assign import TIERS, tier_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from dagster_project.lib.tiers.thresholds import Thresholds

TOO_FEW_PATIENTS = 30
"""Below it a rate is shown and flagged: its interval is too wide, and too optimistic, to act on."""

MIN_SHOWN_PATIENTS = 5
"""Below it no rate is shown at all: it could be told of a person, and says nothing of a group."""


def per_class(
    scored: pl.DataFrame, thresholds: Thresholds, *, classes: Sequence[str] | None = None
) -> pl.DataFrame:
    """One row a class: how often it is found, in which tier, and how often it is wrongly said.

    Parameters
    ----------
    scored : (N,) scored rows; their order does not matter.
    classes : all names, in the order wanted; None takes every name that occurs as label,
        prediction or item, by name.

    Returns
    -------
    ``class``; over the n rows labelled so: ``n``, ``n_patients``, ``recall`` (top class right / n)
    with ``recall_low``, ``recall_high``, and ``confident_share``, ``possible_share``,
    ``refer_share`` of n; over the rows predicted so in the confident tier:
    ``n_predicted_confident``, ``n_patients_predicted_confident``, ``confident_wrong_predicted``
    (wrong ones among them) with ``..._low``, ``..._high``, and ``confident_wrong`` (wrong ones
    / N: over all classes they sum to the confident-wrong share W); ``too_few``: n_patients below
    ``TOO_FEW_PATIENTS``.

    Null: a rate of fewer than ``MIN_SHOWN_PATIENTS`` patients (``confident_wrong`` too, unless
    nobody was confidently called so: then it is 0). Wrong is not ``top1``: a row whose truth shares
    the top with another class is wrong, whatever ``predicted`` says. Intervals:
    ``proportion.clustered_interval``, 95 %, approximate; each for its class alone.

    Raises
    ------
    InputError
        ``classes`` lacks a name that occurs.
    """
    names = _names(scored) if classes is None else list(classes)
    for name in _names(scored.select("label", "predicted")):
        if name not in names:
            raise InputError(f"classes: {unknown_class(name, names)}; list every class")
    rows = numbered(scored)
    tier = tier_of(scored, thresholds).to_numpy()
    place = {name: i for i, name in enumerate(names)}
    label = _codes(scored["label"], place)
    predicted = _codes(scored["predicted"], place)
    sure = tier == "confident"
    called = clustered_interval(
        ~rows.top1[sure], rows.patient[sure], predicted[sure], n_groups=len(names)
    )
    recall = clustered_interval(rows.top1, rows.patient, label, n_groups=len(names))
    wrong = called.n_hits / max(scored.height, 1)
    return pl.DataFrame(
        {
            "class": pl.Series(names, dtype=pl.String),
            "n": recall.n,
            "n_patients": recall.n_patients,
            **shown("recall", recall),
            **{
                f"{name}_share": _rate(
                    clustered_interval(tier == name, rows.patient, label, n_groups=len(names))
                )
                for name in TIERS
            },
            "n_predicted_confident": called.n,
            "n_patients_predicted_confident": called.n_patients,
            **shown("confident_wrong_predicted", called),
            "confident_wrong": _null(wrong, (called.n > 0) & _hidden(called)),
            "too_few": recall.n_patients < TOO_FEW_PATIENTS,
        }
    )


@dataclass(frozen=True)
class Numbered:
    """``top1`` (N,) bool and ``patient`` (N,) int64, in row order; nobody's patient is its own."""

    top1: npt.NDArray[np.bool_]
    patient: npt.NDArray[np.int64]


def numbered(scored: pl.DataFrame) -> Numbered:
    """Arrays of scored rows, for the tables of this room."""
    patient = scored.select((patient_key().rank("dense").cast(pl.Int64) - 1).alias("patient"))
    return Numbered(scored["top1"].to_numpy(), patient["patient"].to_numpy())


def shown(name: str, found: Proportions) -> dict[str, pl.Series]:
    """Columns ``name``, ``name_low``, ``name_high``; null if undefined or hidden."""
    hidden = _hidden(found)
    return {
        name: _rate(found),
        f"{name}_low": _null(found.low, hidden),
        f"{name}_high": _null(found.high, hidden),
    }


def _rate(found: Proportions) -> pl.Series:
    return _null(found.rate, _hidden(found))


def _hidden(found: Proportions) -> npt.NDArray[np.bool_]:
    return found.n_patients < MIN_SHOWN_PATIENTS


def _null(values: npt.NDArray[np.float64], where: npt.NDArray[np.bool_]) -> pl.Series:
    return pl.Series(np.where(where, np.nan, values), dtype=pl.Float64).fill_nan(None)


def _names(scored: pl.DataFrame) -> list[str]:
    columns = [scored["label"], scored["predicted"]]
    if "top_classes" in scored.columns:
        columns.append(scored["top_classes"].explode())
    return sorted({str(name) for column in columns for name in column.unique() if name is not None})


def _codes(column: pl.Series, place: dict[str, int]) -> npt.NDArray[np.int64]:
    return column.replace_strict(place, return_dtype=pl.Int64).to_numpy()
