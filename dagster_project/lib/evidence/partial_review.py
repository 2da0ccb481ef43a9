"""Partly reviewed labels: what W and covered top-1 are, when only some rows were looked at.

Belongs: the estimator from a stratified sample of reviews, its error and interval, the range that
undecided reviews leave.
Does not: where strata and probabilities come from (``review.sample``), weights (``strata``),
certified bounds (``review_bound``).
Concept: a label that is overwritten only where the model disagrees with it moves every figure in
the model's favour. Difference estimator (Sarndal, Swensson, Wretman, Model Assisted Survey
Sampling, 6.3): the figure by given labels plus the weighted corrections.
N = images, P = patients, H = strata, M = distinct scores.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from dagster_project.lib.evidence import review_bound, strata
from dagster_project.lib.evidence.clustered import curve_band, patient_sums
from dagster_project.lib.evidence.proportion import Z95
from dagster_project.lib.evidence.rows import PatientRows, capped, hash_numbers, patient_key
from dagster_project.lib.evidence.running import Running

if TYPE_CHECKING:
    import numpy.typing as npt

    from dagster_project.lib.tiers.thresholds import Thresholds

    Floats = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]
    Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ReviewedRows:
    """Scored images with what was asked about them, and how probable the asking was.

    Attributes
    ----------
    score : (N,) float64 in [0, 1].
    given_wrong : (N,) bool, the prediction is not the label as given.
    wrong : (N,) bool, the prediction is not the label in force (the review's where there is one).
    reviewed : (N,) bool, reviewers decided: confirmed or corrected.
    asked : (N,) bool, in the sample, whatever became of it.
    returned : (N,) bool, somebody answered, decided or not.
    probability : (N,) float64 in [0, 1]; NaN where unknown.
    strata : names of the strata.
    stratum : (N,) int64, numbers into ``strata``; -1 where a row could not be asked, or nobody
        knows how probably.
    patient : (N,) int64 in 0..P-1, numbered by the sha256 of the id.
    n_patients : P.
    """

    score: Floats
    given_wrong: Bools
    wrong: Bools
    reviewed: Bools
    asked: Bools
    returned: Bools
    probability: Floats
    strata: tuple[str, ...]
    stratum: Ints
    patient: Ints
    n_patients: int

    def __len__(self) -> int:
        """N, images."""
        return int(self.score.size)

    @property
    def certain(self) -> Bools:
        """Asked with probability 1."""
        return self.asked & np.equal(self.probability, 1)

    @property
    def drawn(self) -> Bools:
        """Asked with a probability between 0 and 1."""
        return self.asked & (self.probability > 0) & (self.probability < 1)

    @property
    def outside(self) -> Bools:
        """Could not be asked, or nobody knows how probably."""
        return self.stratum < 0

    @property
    def undecided(self) -> Bools:
        """Asked and answered, and still open: a tie, a single vote, unsure."""
        return self.asked & self.returned & ~self.reviewed


def reviewed_rows(scored: pl.DataFrame, *, max_images: int | None = None) -> ReviewedRows:
    """Scored rows with review columns (``review.sample.with_reviews``) as arrays.

    Parameters
    ----------
    scored : (N,) rows of ``score_rows`` with ``given_label``, ``reviewed``, ``asked`` and
        ``inclusion_probability``. Ties are counted against the given label, as they are against
        the truth. A row without a given label stands for itself alone (unreviewed ones like it are
        not scored): it counts by its review. Without ``stratum`` rows of equal probability form
        one; without ``returned`` every asked row came back.
    max_images : images a patient at most, as in ``rows.patient_rows``; None: all.
    """
    rows = scored.with_columns(patient_key()).sort("image_uuid")
    if max_images is not None:
        rows = capped(rows, max_images).sort("image_uuid")
    columns = rows.select(
        pl.col("score").cast(pl.Float64),
        given_wrong=~given_right(),
        wrong=~pl.col("top1"),
        probability=pl.col("inclusion_probability").cast(pl.Float64).fill_null(float("nan")),
        returned=pl.col("returned" if "returned" in rows.columns else "asked"),
    )
    patient, n_patients = hash_numbers(rows["patient"])
    probability = columns["probability"].to_numpy()
    names, stratum = _strata(rows, probability)
    return ReviewedRows(
        score=columns["score"].to_numpy(),
        given_wrong=columns["given_wrong"].to_numpy(),
        wrong=columns["wrong"].to_numpy(),
        reviewed=rows["reviewed"].to_numpy(),
        asked=rows["asked"].to_numpy(),
        returned=columns["returned"].to_numpy(),
        probability=probability,
        strata=names,
        stratum=stratum,
        patient=patient,
        n_patients=n_patients,
    )


def given_right() -> pl.Expr:
    """Whether the prediction is the given label, ties counted against it; see reviewed_rows."""
    best, second = (
        pl.col("top_probs").list.get(0),
        pl.col("top_probs").list.get(1, null_on_oob=True),
    )
    right = (pl.col("given_label") == pl.col("top_classes").list.get(0)) & (
        second.is_null() | (second < best)
    )
    return right.fill_null(pl.col("top1"))


def _strata(rows: pl.DataFrame, probability: Floats) -> tuple[tuple[str, ...], Ints]:
    """Names of strata, and each row's number."""
    if "stratum" not in rows.columns:
        return strata.by_probability(probability)
    return strata.numbered(rows["stratum"], probability)


def sample_of(rows: ReviewedRows) -> strata.Sample | None:
    """The stratified sample behind the reviews.

    Returns
    -------
    None where no estimate exists: nothing was asked with a known probability, a stratum without
    decided rows has no neighbour, or nothing was drawn while some rows were not asked.
    """
    if not (rows.certain.all() or rows.drawn.any()):
        return None
    decided = rows.reviewed & rows.asked
    return strata.stratified(rows.strata, rows.stratum, rows.probability, decided, rows.patient)


def estimated_curve(rows: ReviewedRows) -> pl.DataFrame | None:
    """W and covered top-1 at every distinct score, from a review of a known sample.

    W(t) = N^-1 sum 1{s_i >= t} (g_i + w_i d_i), with g the error by the given label, d the error
    by the review minus g, w = N_h / n_h (``strata``). Where g is the same in a whole stratum this
    is sum_h (N_h / N) ybar_h. Covered top-1 = 1 - W N / n. Where every row at or above t is
    reviewed both are plain counts.

    ``se_design`` is what the draw of the reviews leaves open about these N images:
    V = N^-2 sum_h N_h^2 (1 - f_h) s_h^2 / n_h with one row a patient, in general
    (1 - f_h) m_h / (m_h - 1) sum_p (sum of w (d - dbar_h))^2 over the m_h decided patients. ``se``
    adds the draw of the images themselves, by patient.
    The 95 % interval is approximate: in every stratum Wilson intervals of the corrections upwards
    and downwards, at the rows that patients and the finite population's correction leave, and a
    normal one for the draw of patients, combined by MOVER (Zou and Donner, Stat Med 2008;27:1693).
    A Wald interval would be too short below some ten corrections.

    Returns
    -------
    None as :func:`sample_of`. Else highest score first: ``threshold, n, coverage``; ``given``,
    ``overwritten`` (reviews put in place of given labels), ``estimate``, ``se``, ``se_design``,
    ``low``, ``high`` of W; ``top1_given``, ``top1_overwritten``, ``top1``, ``top1_se``,
    ``top1_se_design``, ``top1_low``, ``top1_high``; ``full`` (every row here is reviewed). The
    estimate of W is not clipped: with few drawn rows it can leave [0, coverage], and it is not
    monotone in t.
    """
    sample = sample_of(rows) if len(rows) else None
    if sample is None:
        return None
    running = Running(rows, sample)
    n, errors, full = running.n, running.errors, running.full
    total = len(rows)
    columns = {
        "threshold": running.score,
        "n": n,
        "coverage": n / total,
        "given": np.cumsum(running.given) / total,
        "overwritten": np.cumsum(running.wrong) / total,
        "estimate": errors / total,
        "top1_given": 1 - np.cumsum(running.given) / n,
        "top1_overwritten": 1 - np.cumsum(running.wrong) / n,
        "top1": 1 - errors / n,
        "full": full,
    }
    design = running.design()
    columns["se_design"] = np.sqrt(design.variance) / total
    columns["top1_se_design"] = np.sqrt(design.variance) / n
    draw = running.draw(design, ratio=False)
    columns["se"] = np.sqrt(draw + design.variance) / total
    columns["low"], columns["high"] = (
        np.clip((errors + sign * np.sqrt(Z95**2 * draw + arm)) / total, 0, 1)
        for sign, arm in ((-1, design.down), (1, design.up))
    )
    draw = running.draw(design, ratio=True)
    columns["top1_se"] = np.sqrt(draw + design.variance) / n
    columns["top1_low"], columns["top1_high"] = (
        np.clip(1 - (errors + sign * np.sqrt(Z95**2 * draw + arm)) / n, 0, 1)
        for sign, arm in ((1, design.up), (-1, design.down))
    )
    score = columns["threshold"]
    ends = np.append(np.flatnonzero(score[1:] != score[:-1]), score.size - 1)
    table = pl.DataFrame({name: column[ends] for name, column in columns.items()})
    return table.with_columns(pl.col(pl.Float64).fill_nan(None))


def given_curve(rows: ReviewedRows) -> pl.DataFrame:
    """W and covered top-1 by the given labels, under the names of :func:`estimated_curve`.

    For a review of unknown design, from which no estimate for all labels exists: ``estimate``,
    ``low``, ``high`` of W, ``top1``, ``top1_low``, ``top1_high``; intervals are ``curve_band``.
    """
    right = ~rows.given_wrong
    counted = PatientRows(rows.score, right, right, rows.patient, rows.n_patients, known=True)
    sums = patient_sums(counted, rows.given_wrong)
    low, high = curve_band(sums, "k/N")
    wrong_low, wrong_high = curve_band(sums, "k/n")
    return pl.DataFrame(
        {
            "threshold": sums.threshold,
            "estimate": sums.k / sums.total,
            "low": low,
            "high": high,
            "top1": 1 - sums.k / sums.n,
            "top1_low": 1 - wrong_high,
            "top1_high": 1 - wrong_low,
        }
    )


def at_threshold(curve: pl.DataFrame, threshold: float) -> dict[str, float | bool] | None:
    """The row of :func:`estimated_curve` that holds at ``threshold``; None where no row is left."""
    inside = curve.filter(pl.col("threshold") >= threshold)
    return inside.row(-1, named=True) if inside.height else None


def undecided_bounds(rows: ReviewedRows, threshold: float) -> dict[str, list[float] | None]:
    """Where the estimates would lie if every undecided review were wrong, and if every one right.

    Worst and best case (Manski, Partial Identification of Probability Distributions, 2003, chapter
    1): nothing is assumed about rows that were answered and are still open (a tie, a single vote,
    unsure). What is asked and not back yet is no such row: it is missing at random, because the
    order of presentation is random.

    Returns
    -------
    ``confident_wrong``, ``covered_top1``: [lowest, highest], not clipped and without sampling
    error; null where no estimate exists.
    """
    found = []
    for wrong in (False, True):
        filled = replace(
            rows,
            reviewed=rows.reviewed | rows.undecided,
            wrong=np.where(rows.undecided, wrong, rows.wrong),
        )
        curve = estimated_curve(filled)
        at = None if curve is None else at_threshold(curve, threshold)
        if at is None:
            return {"confident_wrong": None, "covered_top1": None}
        found.append((at["estimate"], at["top1"]))
    (low, right), (high, least) = found
    return {"confident_wrong": [low, high], "covered_top1": [least, right]}


NOT_USABLE_NOTE = (
    "images reviewed as not usable are in no figure, N included; those nobody has found yet count "
    "like the usable ones of their stratum"
)


def partial_review_report(
    scored: pl.DataFrame,
    thresholds: Thresholds,
    delta: float,
    *,
    max_images: int = 5,
) -> dict[str, Any] | None:
    """What the reviews say of W and covered top-1 at the confident threshold, as plain JSON.

    Parameters
    ----------
    scored : (N,) rows with review columns; see :func:`reviewed_rows`.
    thresholds : the released ones.
    delta : of the certified bound; ``max_images`` as in ``certified_upper``.

    Returns
    -------
    None where nothing is reviewed. Else ``n_reviewed`` (decided reviews among the scored rows),
    ``n_sampled`` (those of them with a known inclusion probability), ``estimand``, ``frame``
    (``n_rows``; of rows asked with certainty and of rows drawn how many were asked, returned and
    decided; ``n_outside``; ``strata``), ``confident_wrong``, ``covered_top1`` (given, overwritten,
    estimate, se, ``se_design`` of the draw of the reviews alone, ci95, ``undecided``: of
    :func:`undecided_bounds`) and ``notes``. A figure that does not exist is null, and a note says
    why.
    """
    rows = reviewed_rows(scored)
    if not rows.reviewed.any():
        return None
    threshold = thresholds.confident
    inside = rows.score >= threshold
    curve = estimated_curve(rows)
    found = None if curve is None else at_threshold(curve, threshold)
    kept = reviewed_rows(scored, max_images=max_images)
    upper = review_bound.certified_upper(kept, threshold, delta, max_images=max_images)
    given, overwritten = (int((inside & x).sum()) for x in (rows.given_wrong, rows.wrong))
    n = int(inside.sum())
    undecided = undecided_bounds(rows, threshold)
    return {
        "n_reviewed": int(rows.reviewed.sum()),
        "n_sampled": int((rows.reviewed & (rows.certain | rows.drawn)).sum()),
        "estimand": "images",
        "frame": _frame(rows),
        "confident_wrong": {
            "given": given / len(rows),
            "overwritten": overwritten / len(rows),
            **_figures(found, ("estimate", "se", "se_design", "low", "high")),
            "undecided": undecided["confident_wrong"],
            "upper_certified": upper,
            "delta": delta,
        },
        "covered_top1": {
            "given": 1 - given / n if n else None,
            "overwritten": 1 - overwritten / n if n else None,
            **_figures(found, ("top1", "top1_se", "top1_se_design", "top1_low", "top1_high")),
            "undecided": undecided["covered_top1"],
        },
        "notes": _notes(rows, found, upper, len(rows) - len(kept)),
    }


def _frame(rows: ReviewedRows) -> dict[str, Any]:
    counts: dict[str, Any] = {
        "n_rows": len(rows),
        "n_outside": int((rows.outside & ~rows.asked).sum()),
    }
    for name, kind in (("certain", rows.certain), ("drawn", rows.drawn)):
        counts[f"n_{name}_asked"] = int(kind.sum())
        counts[f"n_{name}_returned"] = int((kind & rows.returned).sum())
        counts[f"n_{name}_decided"] = int((kind & rows.reviewed).sum())
    sample = sample_of(rows)
    merged = {} if sample is None else sample.merged
    counts["strata"] = [
        {
            "stratum": name,
            "n_rows": int(here.sum()),
            "n_patients": int(np.unique(rows.patient[here]).size),
            "n_asked": int((here & rows.asked).sum()),
            "n_returned": int((here & rows.asked & rows.returned).sum()),
            "n_decided": int((here & rows.asked & rows.reviewed).sum()),
            "estimated_with": merged.get(name),
        }
        for number, name in enumerate(rows.strata)
        if (here := rows.stratum == number).any()
    ]
    return counts


def _figures(
    found: dict[str, float | bool] | None, names: tuple[str, str, str, str, str]
) -> dict[str, Any]:
    if found is None:
        return {"estimate": None, "se": None, "se_design": None, "ci95": None}
    estimate, error, design, low, high = (found[name] for name in names)
    interval = None if low is None else [low, high]
    return {"estimate": estimate, "se": error, "se_design": design, "ci95": interval}


def _notes(
    rows: ReviewedRows, found: dict[str, float | bool] | None, upper: float | None, n_dropped: int
) -> list[str]:
    frame = _frame(rows)
    asked = frame["n_certain_asked"] + frame["n_drawn_asked"]
    notes = []
    if not asked:
        notes.append(
            "inclusion probabilities unknown (these reviews did not come from a packet): "
            "nothing can be estimated for the rows that nobody reviewed"
        )
    elif found is None:
        notes.append(
            "no estimate: every stratum, or a neighbour that it can be estimated with, needs a "
            "decided review, and a row must be above the threshold"
        )
    elif found["full"]:
        notes.append("every row above the confident threshold is reviewed: plain counts")
    notes += _sample_notes(rows, frame) if asked else []
    if upper is None:
        notes.append("no certified bound: nothing was drawn at random with a known probability")
    elif n_dropped:
        notes.append(
            f"certified bound: {n_dropped} images over the cap of images a patient left out"
        )
    return [*notes, NOT_USABLE_NOTE]


def _sample_notes(rows: ReviewedRows, frame: dict[str, Any]) -> list[str]:
    """What became of the sample: not back, undecided, merged, beside it, out of its reach."""
    asked, returned, decided = (
        frame[f"n_certain_{what}"] + frame[f"n_drawn_{what}"]
        for what in ("asked", "returned", "decided")
    )
    notes = []
    if 0 < returned < asked:
        notes.append(
            f"{returned} of {asked} rows asked about are back; as they were shown in random order "
            "these are a smaller sample of the same design, unless a reviewer left some out"
        )
    if 0 < decided < returned:
        notes.append(
            f"{decided} of {returned} returned rows are decided; the estimate takes the others to "
            "be like those of their stratum, the certified bound counts them as wrong"
        )
    merged = [
        f"{row['stratum']} with {row['estimated_with']}"
        for row in frame["strata"]
        if row["estimated_with"]
    ]
    if merged:
        notes.append(
            "strata with fewer than two decided patients are estimated with their neighbour: "
            + "; ".join(merged)
        )
    unsampled = int((rows.reviewed & ~rows.asked).sum())
    if unsampled:
        notes.append(f"{unsampled} reviews outside the sample: the estimate does not use them")
    if frame["n_outside"]:
        notes.append(
            f"{frame['n_outside']} rows could not have been drawn: they count as their given label "
            "says in the estimate, and as wrong in the certified bound unless a review says right"
        )
    return notes
