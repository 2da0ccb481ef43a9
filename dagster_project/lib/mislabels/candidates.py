"""Mislabel candidates: rows whose given label the model contradicts with confidence.

Belongs: the cleanlab call, its tables and summary, the files of ``tier-refit mislabels``.
Does not: pictures (``montage``, ``pictures``), review (``packet``), dropping anything.
Concept: confident learning (arXiv 1911.00068) on L1-normalised sigmoids; N rows, K classes. A flag
is a reason to look. Where the model was trained on the same rows it has learnt many of their
errors by heart and finds fewer (``in_sample``).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from dagster_project.lib import files, tables
from dagster_project.lib.errors import InputError, some
from dagster_project.lib.labels.given import check_known

if TYPE_CHECKING:
    import numpy.typing as npt

    from dagster_project.lib.probability_table import ProbabilityTable

METHODS = (
    "prune_by_noise_rate",
    "prune_by_class",
    "both",
    "confident_learning",
    "predicted_neq_given",
    "low_normalized_margin",
    "low_self_confidence",
)
"""cleanlab's ``filter_by`` names."""
ISSUE_COLUMNS = (
    "image_uuid",
    "patient_id",
    "given_label",
    "predicted_label",
    "quality",
    "given_prob",
    "predicted_prob",
    "image_path",
)


@dataclass(frozen=True)
class Candidates:
    """What the labels of one table look like to its own probabilities.

    Attributes
    ----------
    issues : flagged rows, worst first: ``image_uuid, patient_id, given_label, predicted_label,
        quality, given_prob, predicted_prob, image_path``. ``quality`` in [0, 1] is the normalised
        probability of the given label (low is bad); the two ``*_prob`` are as the model gives them.
    per_class : (K,) ``class, n, n_issues, issue_rate`` by given class, in class order; the rate is
        null where ``n`` is 0.
    confusions : ``given, predicted, n`` of the flagged rows, most frequent first.
    summary : ``n, n_issues, issue_rate, in_sample, method, n_without_label, n_without_probs``.
    """

    issues: pl.DataFrame
    per_class: pl.DataFrame
    confusions: pl.DataFrame
    summary: Mapping[str, int | float | bool | str | None]


def find_candidates(
    table: ProbabilityTable,
    labels: pl.DataFrame,
    *,
    in_sample: bool | None,
    method: str = "prune_by_noise_rate",
    paths: pl.DataFrame | None = None,
) -> Candidates:
    """Flag the rows whose given label is probably wrong.

    Rows without a label, and rows without probabilities (an error, or all zero, so that nothing
    can be normalised), are counted and never flagged.

    Parameters
    ----------
    table : (N, K) probabilities.
    labels : ``image_uuid, label``; labels of other images do not count.
    in_sample : was the model trained on these rows? None if unknown. Only recorded.
    method : one of :data:`METHODS`.
    paths : ``image_uuid, image_path``; without it ``image_path`` is null.

    Raises
    ------
    InputError
        Unknown method or class; fewer than two classes among the rows that have both.
    """
    if method not in METHODS:
        raise InputError(f'method "{method}": expected one of {some(METHODS, len(METHODS))}')
    check_known(labels, table.classes, source="labels")
    rows = _rows(table, labels, paths)
    keep = rows.filter(pl.col("given_label").is_not_null())
    if (n_classes := keep["given_label"].n_unique()) < 2:
        raise InputError(
            f"{keep.height} rows have both probabilities and a label, in {n_classes} classes; "
            "at least two classes are needed: pass the labels of these images"
        )
    judged = _judge(keep, table, method)
    issues = judged.filter("flagged").sort("quality", "image_uuid").select(ISSUE_COLUMNS)
    summary = {
        "n": keep.height,
        "n_issues": issues.height,
        "issue_rate": issues.height / keep.height,
        "in_sample": in_sample,
        "method": method,
        "n_without_label": rows.height - keep.height,
        "n_without_probs": table.frame.height - rows.height,
    }
    return Candidates(issues, _per_class(judged, table.classes), _confusions(issues), summary)


def write_candidates(candidates: Candidates, out: Path, montage_png: bytes | None = None) -> None:
    """Write the five files of ``tier-refit mislabels`` into the folder ``out``.

    Without a montage (no images at hand) ``mislabel_candidates.png`` shows the most frequent
    given -> predicted pairs. The table and the montage show patients: keep them with the people
    who may see the photographs.
    """
    from dagster_project.lib.mislabels.pictures import confusion_picture

    tables.write_csv(out / "label_issues.csv", candidates.issues)
    tables.write_csv(out / "issues_per_class.csv", candidates.per_class)
    tables.write_csv(out / "issue_confusions.csv", candidates.confusions)
    picture = montage_png or confusion_picture(candidates.confusions)
    with files.publish(out / "mislabel_candidates.png") as temp:
        temp.write_bytes(picture)
    files.write_json(out / "summary.json", dict(candidates.summary))


def _rows(
    table: ProbabilityTable, labels: pl.DataFrame, paths: pl.DataFrame | None
) -> pl.DataFrame:
    """Rows with usable probabilities: ``__row`` (of the table), ids, given label, path."""
    # NaN (a row with an error) is not above 0 either.
    usable = pl.Series(table.probs.max(axis=1, initial=0) > 0)
    rows = table.frame.with_row_index(tables.ROW).filter(usable)
    patient = pl.col("patient_id") if "patient_id" in rows.columns else pl.lit(None, pl.String)
    rows = rows.select(tables.ROW, "image_uuid", patient.alias("patient_id")).join(
        labels.select("image_uuid", given_label="label"),
        on="image_uuid",
        how="left",
        maintain_order="left",
    )
    if paths is None:
        return rows.with_columns(image_path=pl.lit(None, pl.String))
    known = paths.select("image_uuid", "image_path")
    return rows.join(known, on="image_uuid", how="left", maintain_order="left")


def _judge(keep: pl.DataFrame, table: ProbabilityTable, method: str) -> pl.DataFrame:
    """``keep`` with prediction, quality and flag."""
    names = np.array(table.classes)
    given = keep["given_label"].replace_strict(
        list(table.classes), range(len(names)), return_dtype=pl.Int64
    )
    labels = given.to_numpy()
    probs = table.probs[keep[tables.ROW].to_numpy()].astype(np.float64)
    normalised = probs / probs.sum(axis=1, keepdims=True)
    every = np.arange(keep.height)
    predicted = probs.argmax(axis=1)
    return keep.with_columns(
        predicted_label=pl.Series(names[predicted], dtype=pl.String),
        quality=pl.Series(normalised[every, labels]),
        given_prob=pl.Series(probs[every, labels]),
        predicted_prob=pl.Series(probs[every, predicted]),
        flagged=pl.Series(_flags(labels, normalised, method)),
    )


def _flags(
    labels: npt.NDArray[np.int64], probs: npt.NDArray[np.float64], method: str
) -> npt.NDArray[np.bool_]:
    """(N,) cleanlab's mask; classes that no row is labelled with are allowed."""
    from cleanlab.filter import find_label_issues

    with warnings.catch_warnings():
        # A class that nobody was given, or too few, has its null or coarse rate in ``per_class``.
        warnings.filterwarnings(
            "ignore", message="May not flag all label issues", module="cleanlab"
        )
        # One process: forking copies the table and is slower below a million rows.
        mask: npt.NDArray[np.bool_] = find_label_issues(labels, probs, filter_by=method, n_jobs=1)
    return mask


def _per_class(judged: pl.DataFrame, classes: Sequence[str]) -> pl.DataFrame:
    counts = judged.group_by(pl.col("given_label").alias("class")).agg(
        n=pl.len().cast(pl.Int64), n_issues=pl.col("flagged").sum().cast(pl.Int64)
    )
    every = pl.DataFrame({"class": classes}, schema={"class": pl.String})
    return (
        every.join(counts, on="class", how="left", maintain_order="left")
        .with_columns(pl.col("n", "n_issues").fill_null(0))
        .with_columns(issue_rate=pl.when(pl.col("n") > 0).then(pl.col("n_issues") / pl.col("n")))
    )


def _confusions(issues: pl.DataFrame) -> pl.DataFrame:
    pairs = issues.group_by(given="given_label", predicted="predicted_label")
    counts = pairs.agg(n=pl.len().cast(pl.Int64))
    return counts.sort("n", "given", "predicted", descending=[True, False, False])
