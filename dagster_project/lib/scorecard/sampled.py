"""Differences in top-1 as a sample of reviews shows them, where labels were reviewed in part.

Belongs: the estimate from the packet's strata, its error, what overwriting made of it.
Does not: strata and weights (``evidence.strata``), where the design comes from (``review.sample``),
any verdict.
Concept: reviews look first where the label contradicts the model in service, so what they correct
is put right where that model was right, and what another model was right about is never looked at.
Overwritten labels therefore favour the model that chose what to review. Difference estimator as in
``evidence.partial_review``, of paired differences. N = images, P = patients, H = strata.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from dagster_project.lib import tables
from dagster_project.lib.evidence import strata
from dagster_project.lib.evidence.proportion import Z95
from dagster_project.lib.labels.given import check_known
from dagster_project.lib.scorecard.outcomes import outcomes

if TYPE_CHECKING:
    import numpy.typing as npt

    from dagster_project.lib.scorecard.answers import Answers

    Floats = npt.NDArray[np.float64]

COLUMNS = ("image_uuid", "inclusion_probability", "stratum", "decided")


@dataclass(frozen=True)
class _Rows:
    """Images with a given label and a label in force.

    Attributes
    ----------
    kept : (N,) places in the answers. given, force : (N,) labels. sample : the reviews.
    """

    kept: npt.NDArray[np.int64]
    given: npt.NDArray[np.int64]
    force: npt.NDArray[np.int64]
    patient: npt.NDArray[np.int64]
    sample: strata.Sample


def sampled_differences(
    answers: Answers, baseline: str, given: pl.DataFrame, reviews: pl.DataFrame
) -> dict[str, Any] | None:
    """Top-1 of every other configuration less the baseline's, from the sample of reviews alone.

    D = N^-1 sum_i (g_i + w_i (r_i - g_i)): g the difference in right answers (-1, 0, 1) by the
    given label, r by the review, w = N_h / n_h the rows that a decided review stands for, 0 for
    all others (``strata.stratified``). Unlike the difference on overwritten labels it does not
    depend on which rows were chosen for review, only on the probability of choosing them. The
    standard error is that of the patient sums of u_i = g_i + m_h + w_i (r_i - g_i - m_h), m_h the
    mean correction of stratum h: the draw of the reviews and that of the images. Interval:
    +- 1.96 of them, too short with few corrections (docs/verdicts.md has what was measured).

    Parameters
    ----------
    answers : against the labels in force, in which a decided review is the label.
    given : ``image_uuid, label`` before any review; images without one are left out.
    reviews : :data:`COLUMNS`, a row an image of the frame, asked or not; ``decided`` (bool): asked,
        and confirmed or corrected. Images that are not listed count by their given label.

    Returns
    -------
    None where no estimate exists: no frame, nothing in it was drawn (suspicions alone stand for
    nobody else), or a stratum without a decided row. Else ``n`` (images), ``n_outside`` (of them
    not in the frame), ``n_decided``, and ``top1``: configuration -> ``given, overwritten, estimate,
    low, high``. Not clipped to [-1, 1].

    References
    ----------
    Sarndal, Swensson and Wretman, Model Assisted Survey Sampling (1992), section 6.3.
    """
    tables.require_columns("reviews", reviews.columns, COLUMNS)
    check_known(given, answers.classes, source="labels")
    rows = _rows(answers, given, reviews)
    others = [name for name in answers.probs if name != baseline]
    if rows is None or not others:
        return None
    return {
        "n": int(rows.kept.size),
        "n_outside": int((rows.sample.stratum < 0).sum()),
        "n_decided": int((rows.sample.weight > 0).sum()),
        "top1": dict(zip(others, _top1(answers, baseline, others, rows), strict=True)),
    }


def _rows(answers: Answers, given: pl.DataFrame, reviews: pl.DataFrame) -> _Rows | None:
    joined = (
        answers.image_uuid.to_frame()
        .join(given.select("image_uuid", "label"), on="image_uuid", how="left")
        .join(reviews.select(COLUMNS), on="image_uuid", how="left")
        .with_row_index("at")
        .sort("image_uuid")
        .filter(pl.col("label").is_not_null())
    )
    if joined.is_empty():
        return None
    kept = joined["at"].cast(pl.Int64).to_numpy()
    chance = joined["inclusion_probability"].cast(pl.Float64).fill_null(math.nan).to_numpy()
    if not ((chance == 1).all() or ((chance > 0) & (chance < 1)).any()):
        return None
    names, stratum = strata.numbered(joined["stratum"], chance)
    decided = joined["decided"].fill_null(value=False).to_numpy()
    sample = strata.stratified(names, stratum, chance, decided, answers.patient[kept])
    if sample is None:
        return None
    labels = joined["label"].cast(pl.Enum(answers.classes)).to_physical()
    true = labels.cast(pl.Int64).to_numpy()
    return _Rows(kept, true, answers.true[kept], answers.patient[kept], sample)


def _top1(
    answers: Answers, baseline: str, others: Sequence[str], rows: _Rows
) -> list[dict[str, float | None]]:
    named = {
        name: outcomes(answers.probs[name], answers.true).predicted[rows.kept]
        for name in (baseline, *others)
    }

    def difference(name: str, label: npt.NDArray[np.int64]) -> Floats:
        ours, theirs = ((named[at] == label).astype(np.float64) for at in (name, baseline))
        found: Floats = ours - theirs
        return found

    return [
        _estimate(difference(name, rows.given), difference(name, rows.force), rows)
        for name in others
    ]


def _estimate(by_given: Floats, by_force: Floats, rows: _Rows) -> dict[str, float | None]:
    sample, n = rows.sample, by_given.size
    inside, step = sample.stratum >= 0, by_force - by_given
    weighted = sample.weight * step
    total = np.bincount(sample.stratum[inside], weighted[inside], minlength=len(sample.names))
    mean = np.zeros(n)
    mean[inside] = (total / sample.n_rows)[sample.stratum[inside]]
    parts = by_given + mean + sample.weight * (step - mean)
    estimate = math.fsum(by_given + weighted) / n
    sums = np.bincount(rows.patient, parts - estimate)
    p = np.unique(rows.patient).size
    half = Z95 * math.sqrt(p / (p - 1) * math.fsum(sums**2)) / n if p > 1 else None
    return {
        "given": float(by_given.mean()),
        "overwritten": float(by_force.mean()),
        "estimate": estimate,
        "low": None if half is None else estimate - half,
        "high": None if half is None else estimate + half,
    }
