"""Partly reviewed labels: what W and covered top-1 are, when only some rows were looked at.

Belongs: the estimator from reviews with known inclusion probabilities, its error and interval.
Does not: where the probabilities come from (``review.sample``), certified bounds
(``review_bound``).
Concept: a label that is overwritten only where the model disagrees with it moves every figure in
the model's favour. Horvitz-Thompson difference estimator (Sarndal, Swensson, Wretman, Model
Assisted Survey Sampling, 6.3): the figure by given labels plus the weighted corrections.
N = images, P = patients, M = distinct scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from dagster_project.lib.evidence import review_bound
from dagster_project.lib.evidence.clustered import curve_band, patient_sums
from dagster_project.lib.evidence.proportion import Z95, wilson
from dagster_project.lib.evidence.rows import PatientRows, capped, hash_numbers, patient_key

if TYPE_CHECKING:
    import numpy.typing as npt

    from dagster_project.lib.tiers.thresholds import Thresholds

    Floats = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]


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
    probability : (N,) float64 in [0, 1]; NaN where unknown.
    patient : (N,) int64 in 0..P-1, numbered by the sha256 of the id.
    n_patients : P.
    """

    score: Floats
    given_wrong: Bools
    wrong: Bools
    reviewed: Bools
    asked: Bools
    probability: Floats
    patient: npt.NDArray[np.int64]
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
        return ~np.greater(self.probability, 0)


def reviewed_rows(scored: pl.DataFrame, *, max_images: int | None = None) -> ReviewedRows:
    """Scored rows with review columns (``review.sample.with_reviews``) as arrays.

    Parameters
    ----------
    scored : (N,) rows of ``score_rows`` with ``given_label``, ``reviewed``, ``asked`` and
        ``inclusion_probability``. Ties are counted against the given label, as they are against
        the truth. A row without a given label stands for itself alone (unreviewed ones like it are
        not scored): it counts by its review.
    max_images : images a patient at most, as in ``rows.patient_rows``; None: all.
    """
    rows = scored.with_columns(patient_key()).sort("image_uuid")
    if max_images is not None:
        rows = capped(rows, max_images).sort("image_uuid")
    best, second = (
        pl.col("top_probs").list.get(0),
        pl.col("top_probs").list.get(1, null_on_oob=True),
    )
    right = (pl.col("given_label") == pl.col("top_classes").list.get(0)) & (
        second.is_null() | (second < best)
    )
    columns = rows.select(
        pl.col("score").cast(pl.Float64),
        given_wrong=~right.fill_null(pl.col("top1")),
        wrong=~pl.col("top1"),
        probability=pl.col("inclusion_probability").cast(pl.Float64).fill_null(float("nan")),
    )
    patient, n_patients = hash_numbers(rows["patient"])
    return ReviewedRows(
        score=columns["score"].to_numpy(),
        given_wrong=columns["given_wrong"].to_numpy(),
        wrong=columns["wrong"].to_numpy(),
        reviewed=rows["reviewed"].to_numpy(),
        asked=rows["asked"].to_numpy(),
        probability=columns["probability"].to_numpy(),
        patient=patient,
        n_patients=n_patients,
    )


def weights(rows: ReviewedRows) -> Floats | None:
    """(N,) what each decided review of the sample stands for, 0 for every other row.

    1 / (inclusion probability x response), the response (decided / asked among the rows still
    scored) taken apart for rows asked with certainty and for rows drawn: undecided ones are taken
    to be like decided ones asked in the same way.

    Returns
    -------
    None where no estimate exists: nothing was asked with a known probability, no asked row of one
    of the two kinds is decided, or no row was drawn while some were not asked.
    """
    found = np.zeros(len(rows))
    for kind in (rows.certain, rows.drawn):
        n_asked, decided = int(kind.sum()), kind & rows.reviewed
        if not n_asked:
            continue
        if not decided.any():
            return None
        found[decided] = n_asked / decided.sum() / rows.probability[decided]
    all_asked = bool(rows.certain.all())
    return found if all_asked or bool(rows.drawn.any()) else None


def estimated_curve(rows: ReviewedRows) -> pl.DataFrame | None:
    """W and covered top-1 at every distinct score, from a review of a known sample.

    W(t) = N^-1 sum 1{s_i >= t} (g_i + w_i d_i), with g the error by the given label, d the error
    by the review minus g, w as in :func:`weights`; covered top-1 = 1 - W N / n. Where every row at
    or above t is reviewed both are plain counts.

    ``se`` is the linearised standard error over patients: of patient sums of g + w d, the draw
    being part of it (as if rows were drawn independently, slightly too wide for a fixed number).
    The 95 % interval is approximate: Wilson intervals of the two kinds of corrections among drawn
    rows, and a normal one for the rest, combined by MOVER (Zou and Donner, Stat Med 2008;27:1693).
    A Wald interval would be too short below some ten corrections.

    Returns
    -------
    None as :func:`weights`. Else highest score first: ``threshold, n, coverage``; ``given``,
    ``overwritten`` (reviews put in place of given labels), ``estimate``, ``se``, ``low``, ``high``
    of W; ``top1_given``, ``top1_overwritten``, ``top1``, ``top1_se``, ``top1_low``, ``top1_high``;
    ``full`` (every row here is reviewed). The estimate of W is not clipped: with few drawn rows it
    can leave [0, coverage], and it is not monotone in t.
    """
    weight = weights(rows)
    if weight is None or not len(rows):
        return None
    order = np.argsort(-rows.score, kind="stable")
    given, wrong = rows.given_wrong[order].astype(float), rows.wrong[order].astype(float)
    full = np.cumsum(~rows.reviewed[order]) == 0
    errors = np.where(full, np.cumsum(wrong), np.cumsum(given + weight[order] * (wrong - given)))
    n = np.arange(1, given.size + 1)
    columns = {
        "threshold": rows.score[order],
        "n": n,
        "coverage": n / n.size,
        "given": np.cumsum(given) / n.size,
        "overwritten": np.cumsum(wrong) / n.size,
        "estimate": errors / n.size,
        "top1_given": 1 - np.cumsum(given) / n,
        "top1_overwritten": 1 - np.cumsum(wrong) / n,
        "top1": 1 - errors / n,
        "full": full,
    }
    se, down, up = _errors(rows, order, weight, full, ratio=False)
    columns["se"] = se / n.size
    columns["low"], columns["high"] = (np.clip((errors + x) / n.size, 0, 1) for x in (-down, up))
    se, down, up = _errors(rows, order, weight, full, ratio=True)
    columns["top1_se"] = se / n
    columns["top1_low"], columns["top1_high"] = (
        np.clip(1 - (errors + x) / n, 0, 1) for x in (up, -down)
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


def _errors(
    rows: ReviewedRows,
    order: npt.NDArray[np.int64],
    weight: Floats,
    full: Bools,
    *,
    ratio: bool,
) -> tuple[Floats, Floats, Floats]:
    """Of the running number of errors: standard error, and the interval's reach down and up."""
    given, wrong = rows.given_wrong[order].astype(float), rows.wrong[order].astype(float)
    drawn, weight = rows.drawn[order], weight[order]
    correction = weight * (wrong - given)
    gain, loss = (np.where(drawn, np.maximum(sign * correction, 0), 0) for sign in (1, -1))
    sums = _PatientSums(rows.patient[order], rows.n_patients)
    plain = sums.error(wrong, ratio=ratio)
    se = np.where(full, plain, sums.error(given + correction, ratio=ratio))
    rest = sums.error(given + correction - gain + loss, ratio=ratio)
    rest = Z95 * np.where(full, plain, rest)
    decided = weight[drawn & (weight > 0)]
    # errors can be gained where the given label agrees, and lost where it does not
    (gain_down, gain_up), (loss_down, loss_up) = (
        _wilson_arms(np.cumsum(part), decided, np.cumsum(~rows.certain[order] & (given == side)))
        for side, part in ((0, gain), (1, loss))
    )
    down = np.sqrt(rest**2 + np.where(full, 0, gain_down**2 + loss_up**2))
    up = np.sqrt(rest**2 + np.where(full, 0, gain_up**2 + loss_down**2))
    return se, down, up


def at_threshold(curve: pl.DataFrame, threshold: float) -> dict[str, float | bool] | None:
    """The row of :func:`estimated_curve` that holds at ``threshold``; None where no row is left."""
    inside = curve.filter(pl.col("threshold") >= threshold)
    return inside.row(-1, named=True) if inside.height else None


NOT_USABLE_NOTE = (
    "images reviewed as not usable are in no figure, N included; those nobody has found yet count "
    "as their given label says"
)


def partial_review_report(
    scored: pl.DataFrame,
    thresholds: Thresholds,
    delta: float,
    *,
    max_images: int = 5,
    bound: review_bound.UpperBound = review_bound.upper_bound,
) -> dict[str, Any] | None:
    """What the reviews say of W and covered top-1 at the confident threshold, as plain JSON.

    Parameters
    ----------
    scored : (N,) rows with review columns; see :func:`reviewed_rows`.
    thresholds : the released ones.
    delta : of the certified bound; ``max_images`` and ``bound`` as in ``certified_upper``.

    Returns
    -------
    None where nothing is reviewed. Else ``n_reviewed`` (decided reviews among the scored rows),
    ``n_sampled`` (those of them with a known inclusion probability), ``estimand``, ``frame``
    (``n_rows``; of rows asked with certainty and of rows drawn how many were asked and decided;
    ``n_outside``), ``confident_wrong``, ``covered_top1`` and ``notes``. A figure that does not
    exist is null, and a note says why.
    """
    rows = reviewed_rows(scored)
    if not rows.reviewed.any():
        return None
    threshold = thresholds.confident
    inside = rows.score >= threshold
    curve = estimated_curve(rows)
    found = None if curve is None else at_threshold(curve, threshold)
    kept = reviewed_rows(scored, max_images=max_images)
    upper = review_bound.certified_upper(kept, threshold, delta, max_images=max_images, bound=bound)
    given, overwritten = (int((inside & x).sum()) for x in (rows.given_wrong, rows.wrong))
    n = int(inside.sum())
    return {
        "n_reviewed": int(rows.reviewed.sum()),
        "n_sampled": int((rows.reviewed & (rows.certain | rows.drawn)).sum()),
        "estimand": "images",
        "frame": _frame(rows),
        "confident_wrong": {
            "given": given / len(rows),
            "overwritten": overwritten / len(rows),
            **_figures(found, "estimate", "se", "low", "high"),
            "upper_certified": upper,
            "delta": delta,
        },
        "covered_top1": {
            "given": 1 - given / n if n else None,
            "overwritten": 1 - overwritten / n if n else None,
            **_figures(found, "top1", "top1_se", "top1_low", "top1_high"),
        },
        "notes": _notes(rows, found, upper, len(rows) - len(kept)),
    }


def _frame(rows: ReviewedRows) -> dict[str, int]:
    counts = {"n_rows": len(rows), "n_outside": int((rows.outside & ~rows.asked).sum())}
    for name, kind in (("certain", rows.certain), ("drawn", rows.drawn)):
        counts[f"n_{name}_asked"] = int(kind.sum())
        counts[f"n_{name}_decided"] = int((kind & rows.reviewed).sum())
    return counts


def _figures(
    found: dict[str, float | bool] | None, estimate: str, error: str, low: str, high: str
) -> dict[str, Any]:
    if found is None:
        return {"estimate": None, "se": None, "ci95": None}
    interval = None if found[low] is None else [found[low], found[high]]
    return {"estimate": found[estimate], "se": found[error], "ci95": interval}


def _notes(
    rows: ReviewedRows, found: dict[str, float | bool] | None, upper: float | None, n_dropped: int
) -> list[str]:
    frame = _frame(rows)
    asked = frame["n_certain_asked"] + frame["n_drawn_asked"]
    decided = frame["n_certain_decided"] + frame["n_drawn_decided"]
    notes = []
    if not asked:
        notes.append(
            "inclusion probabilities unknown (these reviews did not come from a packet): "
            "nothing can be estimated for the rows that nobody reviewed"
        )
    elif found is None:
        notes.append(
            "no estimate: of the rows asked with certainty and of the rows drawn, each needs a "
            "decided review, and a row must be above the threshold"
        )
    elif found["full"]:
        notes.append("every row above the confident threshold is reviewed: plain counts")
    if 0 < decided < asked:
        notes.append(
            f"{decided} of {asked} rows asked about are decided; the estimate takes the others to "
            "be like those asked in the same way, the certified bound counts them as wrong"
        )
    unsampled = int((rows.reviewed & ~rows.asked).sum())
    if asked and unsampled:
        notes.append(f"{unsampled} reviews outside the sample: the estimate counts them as given")
    if asked and frame["n_outside"]:
        notes.append(
            f"{frame['n_outside']} rows could not have been drawn: they count as their given label "
            "says in the estimate, and as wrong in the certified bound unless a review says right"
        )
    if upper is None:
        notes.append("no certified bound: the drawn rows are no simple random sample")
    elif n_dropped:
        notes.append(
            f"certified bound: {n_dropped} images over the cap of images a patient left out"
        )
    return [*notes, NOT_USABLE_NOTE]


class _PatientSums:
    """Standard errors of running sums over rows, as rows enter one by one, by patient."""

    def __init__(self, patient: npt.NDArray[np.int64], n_patients: int) -> None:
        self.patient = patient
        self.n_patients = n_patients
        self.order = np.argsort(patient, kind="stable")
        sizes = np.bincount(patient, minlength=n_patients)
        self.size = sizes.astype(float)
        self.start = np.cumsum(sizes) - sizes

    def error(self, values: Floats, *, ratio: bool) -> Floats:
        """(N,) standard error of the running sum, NaN for one patient.

        Of Z = sum of ``values`` about its share of all N rows, or with ``ratio`` about its share of
        the rows so far: sqrt(P / (P - 1) sum over patients of (Z_p - (Z / n) n_p)^2).
        """
        if self.n_patients < 2:
            return np.full(values.size, np.nan)
        mean = np.cumsum(values)
        if ratio:
            ones = np.ones(values.size)
            mean = mean / np.cumsum(ones)
            cross, squares = self._products(values, ones), self._products(ones, ones)
        else:
            mean = mean / values.size
            cross = np.cumsum(values * self.size[self.patient])
            squares = np.full(values.size, np.sum(self.size**2))
        total = self._products(values, values) - 2 * mean * cross + mean**2 * squares
        factor = self.n_patients / (self.n_patients - 1)
        # exact zeros come out as rounding of either sign
        return np.sqrt(factor * np.maximum(total, 0))

    def _products(self, x: Floats, y: Floats) -> Floats:
        """(N,) running sum over patients of X_p Y_p, where X_p and Y_p are sums so far."""
        before_x, before_y = self._before(x), self._before(y)
        return np.cumsum(before_x * y + x * before_y + x * y)

    def _before(self, x: Floats) -> Floats:
        """(N,) sum of the patient's earlier rows."""
        ordered = np.cumsum(x[self.order]) - x[self.order]
        first = np.repeat(ordered[self.start], self.size.astype(np.int64))
        found = np.empty(x.size)
        found[self.order] = ordered - first
        return found


def _wilson_arms(
    totals: Floats, weight: Floats, most: npt.NDArray[np.int64]
) -> tuple[Floats, Floats]:
    """How far the Wilson interval reaches below and above weighted totals of 0/1 answers.

    ``weight`` : of every decided drawn row; unequal ones count as (sum w)^2 / sum w^2 rows (Kish).
    ``most`` : (N,) how many rows could answer 1; the total of all rows is not above it.
    """
    if not weight.size:
        return np.zeros(totals.size), np.zeros(totals.size)
    low, high = wilson(totals / weight.sum(), float(weight.sum() ** 2 / (weight**2).sum()))
    up = np.minimum(high * weight.sum(), most) - totals
    return totals - low * weight.sum(), np.maximum(up, 0)
