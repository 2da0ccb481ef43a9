"""Weak classes: issue rate beside test F1, and whether labels or the model should be looked at.

Belongs: the table, the rule that reads it, its picture.
Does not: flags (``candidates``), tiers and their per-class table (``tiers.per_class``).
Concept: a class can be weak because the model is, or because the labels it is measured on are
wrong. Label errors that the model contradicts with confidence are flagged; confusions it is unsure
of are not. So the share of a class's errors that is flagged tells the two apart better than the
issue rate alone, which rises with every error. N, M = rows, K = classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from dagster_project.lib import files, pictures, tables
from dagster_project.lib.evidence.proportion import clustered_interval
from dagster_project.lib.mislabels.candidates import flagged_share, patient_numbers

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes

TOO_FEW_PATIENTS = 30
"""Below it F1 and its interval are too unsure to act on."""

EXPLAINED = 0.5
"""A weak class whose errors are flagged at least to this share is a matter of labels first."""

READINGS = ("labels first", "model first", "sound", "too few")

LIMITS = (
    "F1 is measured on the same labels, and flags come from the same model: neither is independent "
    "of the other. A flag is always an error here, a wrong label that the model repeats is neither."
)
"""What the table cannot show; goes wherever it goes."""


def weak_classes(judged: pl.DataFrame, test: pl.DataFrame, classes: Sequence[str]) -> pl.DataFrame:
    """One row a class: how many labels are suspicious, how well it is found, and how to read that.

    With FN the rows given the class and predicted otherwise, FP the rows predicted so and given
    otherwise: recall = TP / (TP + FN), precision = TP / (TP + FP), F1 = 2 TP / (2 TP + FN + FP).
    ``errors_flagged`` is the flagged share of FN + FP.

    ``reading``, by this rule: **too few** with fewer than :data:`TOO_FEW_PATIENTS` patients given
    the class in ``test`` (images where patients are unknown), or where F1 is undefined; **sound**
    unless F1 is below the median of the classes that are not too few even at the upper end of its
    interval; of the others **labels first** where ``errors_flagged`` is at least :data:`EXPLAINED`,
    else **model first**.

    Parameters
    ----------
    judged : (N,) ``Candidates.rows`` that the issue rate is of.
    test : (M,) ``Candidates.rows`` of the test split, out of sample, that F1 is of; may be equal.
    classes : (K,) all names, in the order wanted.

    Returns
    -------
    (K,) ``class, n, issue_rate, issue_rate_low, issue_rate_high, n_test, n_test_patients, recall,
    precision, f1, f1_low, f1_high, n_errors, errors_flagged, reading``. A rate of nothing is null.
    Intervals are of 95 %, approximate, each for its class alone, by patient (an image of nobody
    counts as a patient of its own). That of F1 is the interval of a ratio of sums over patients:
    a TP is two hits of two, an FN or FP none of one (:func:`proportion.clustered_interval`).

    Notes
    -----
    ``predicted_label`` is the first of equal maxima. See :data:`LIMITS`.

    References
    ----------
    Cochran, Sampling Techniques (1977), section 6.3: the linearised variance of a ratio; Takahashi
    et al., Applied Intelligence 52:4961 (2022): F1 by the delta method.
    """
    place = {name: at for at, name in enumerate(classes)}
    given, predicted = (
        test[name].replace_strict(place, return_dtype=pl.Int64).to_numpy()
        for name in ("given_label", "predicted_label")
    )
    k, flagged = len(place), test["flagged"].to_numpy()
    right = given == predicted
    tp = np.bincount(given[right], minlength=k)
    missed = np.bincount(given[~right], minlength=k)
    wrongly = np.bincount(predicted[~right], minlength=k)
    suspicious = np.bincount(given[~right & flagged], minlength=k)
    suspicious += np.bincount(predicted[~right & flagged], minlength=k)
    patient = patient_numbers(test)
    f1 = _f1(given, predicted, patient, k)
    n_patients = clustered_interval(right, patient, given, n_groups=k).n_patients
    issues = flagged_share(judged, "given_label", classes)
    table = issues.select(
        pl.col("group").alias("class"),
        "n",
        issue_rate="share",
        issue_rate_low="low",
        issue_rate_high="high",
    ).with_columns(
        n_test=pl.Series(tp + missed, dtype=pl.Int64),
        n_test_patients=pl.Series(n_patients, dtype=pl.Int64),
        recall=_share(tp, tp + missed),
        precision=_share(tp, tp + wrongly),
        f1=f1["rate"],
        f1_low=f1["low"],
        f1_high=f1["high"],
        n_errors=pl.Series(missed + wrongly, dtype=pl.Int64),
        errors_flagged=_share(suspicious, missed + wrongly),
    )
    return table.with_columns(_reading(table).alias("reading"))


def _reading(table: pl.DataFrame) -> pl.Expr:
    few = (pl.col("n_test_patients") < TOO_FEW_PATIENTS) | pl.col("f1_high").is_null()
    middle = table.filter(~few)["f1"].median()
    return (
        pl.when(few)
        .then(pl.lit("too few"))
        .when(pl.col("f1_high") >= pl.lit(middle, pl.Float64))
        .then(pl.lit("sound"))
        .when(pl.col("errors_flagged") >= EXPLAINED)
        .then(pl.lit("labels first"))
        .otherwise(pl.lit("model first"))
    )


def _f1(
    given: npt.NDArray[np.int64],
    predicted: npt.NDArray[np.int64],
    patient: npt.NDArray[np.int64],
    k: int,
) -> dict[str, pl.Series]:
    """Every row enters the class it was given and the class it was said to be: a TP the same twice.

    The share of hits among these entries is F1.
    """
    found = clustered_interval(
        np.tile(given == predicted, 2),
        np.tile(patient, 2),
        np.concatenate([given, predicted]),
        n_groups=k,
    )
    return {
        name: pl.Series(getattr(found, name), dtype=pl.Float64).fill_nan(None)
        for name in ("rate", "low", "high")
    }


def _share(part: npt.NDArray[np.int64], whole: npt.NDArray[np.int64]) -> pl.Series:
    with np.errstate(invalid="ignore", divide="ignore"):
        return pl.Series(part / whole, dtype=pl.Float64).fill_nan(None)


MAX_ROWS = 40
"""Classes drawn at most, weakest first; the rest are counted in the title."""

_MARKS = {
    "labels first": ("D", pictures.WRONG),
    "model first": ("s", pictures.CONFIDENT),
    "sound": ("o", pictures.REFER),
    "too few": ("x", pictures.REFER),
}


def weak_classes_picture(table: pl.DataFrame, *, words: str, patients_known: bool = True) -> bytes:
    """PNG: issue rate and F1 by class on one axis of classes, lowest F1 on top.

    Parameters
    ----------
    table : of :func:`weak_classes`. Classes without a row to show in either panel are counted.
    words : of which rows, in or out of sample, for the title.
    patients_known : else the intervals take images as independent, and the title says so.
    """
    known = table.filter(pl.col("f1").is_not_null()).sort("f1", "class")
    drawn = known.head(MAX_ROWS)
    figure = pictures.new_figure(8.5, 1.7 + 0.24 * max(drawn.height, 1))
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, name in ((left, "issue_rate"), (right, "f1")):
        _dots(axes, drawn, name)
    left.set_xlabel("issue rate: flagged share of rows given the class")
    right.set_xlabel("F1 of the class")
    left.set_xlim(left=0)
    right.set_xlim(0, 1)
    left.set_yticks(range(drawn.height), drawn["class"].to_list())
    left.set_ylim(max(drawn.height, 1) - 0.5, -0.5)
    _readings(right, drawn)
    hidden, without = known.height - drawn.height, table.height - known.height
    notes = [f"{hidden} stronger classes not shown"] if hidden else []
    notes += [f"{without} without F1"] if without else []
    title = "; ".join([f"Weak classes: labels or model? ({words})", *notes])
    unit = "by patient" if patients_known else "by image, patients are unknown"
    figure.suptitle(f"{title}\n95 % intervals {unit}; same labels, same model: see docs",
                    x=0.01, ha="left", fontsize=9)  # fmt: skip
    return pictures.png(figure)


def _dots(axes: Axes, drawn: pl.DataFrame, name: str) -> None:
    rows = range(drawn.height)
    low, high = (drawn[f"{name}_{end}"].cast(pl.Float64) for end in ("low", "high"))
    axes.hlines(rows, low, high, color="#cccccc", lw=2)
    axes.locator_params(axis="x", nbins=5)
    for reading, (marker, colour) in _MARKS.items():
        at = np.flatnonzero((drawn["reading"] == reading).to_numpy())
        axes.plot(drawn[name].gather(at), at, marker, color=colour, ms=5, ls="", label=reading)


def _readings(axes: Axes, drawn: pl.DataFrame) -> None:
    """Beside the right panel, in words: what the shapes and colours say, and why."""
    beside: Any = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": 8}
    axes.annotate("errors flagged", (1.03, -0.9), color=pictures.INK, **beside)
    for row, (reading, share) in enumerate(drawn.select("reading", "errors_flagged").rows()):
        percent = "  - " if share is None else f"{100 * share:>3.0f} %"
        said = percent if reading == "sound" else f"{percent}  {reading}"
        dark = reading in ("sound", "too few")
        colour = pictures.INK if dark else _MARKS[reading][1]
        axes.annotate(said, (1.03, row), color=colour, **beside)


def write_weak_classes(
    table: pl.DataFrame, out: Path, *, words: str, patients_known: bool = True
) -> bytes:
    """Publish ``weak_classes.csv`` and ``weak_classes.png`` in ``out``; the picture."""
    picture = weak_classes_picture(table, words=words, patients_known=patients_known)
    tables.write_csv(out / "weak_classes.csv", table)
    files.publish_bytes(out / "weak_classes.png", picture)
    return picture
