"""Which verdicts would be others if the labels were: redrawing what no review has decided.

Belongs: P(true | given) and where it comes from, redrawn labels, the share of draws with each word.
Does not: measured intervals and p (``paired``), the rule (``verdict``), bounds for tiers
(``evidence.label_noise``).
Concept: class-conditional noise (Northcutt, Jiang and Chuang, JAIR 70:1373, 2021): a wrong label
depends on the given class and not on the picture. Real errors do depend on it, and models share
them; no redraw shows that. N = images, K = classes, D = draws.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import polars as pl

from dagster_project.lib import tables
from dagster_project.lib.errors import InputError
from dagster_project.lib.evidence import strata
from dagster_project.lib.evidence.bootstrap import SEED
from dagster_project.lib.evidence.proportion import Z95
from dagster_project.lib.scorecard.comparison import (
    ClassDifference,
    Comparison,
    Difference,
    Verdict,
    Word,
)
from dagster_project.lib.scorecard.outcomes import outcomes
from dagster_project.lib.scorecard.paired import holm
from dagster_project.lib.scorecard.verdict import judge

if TYPE_CHECKING:
    import numpy.typing as npt

    from dagster_project.lib.scorecard.answers import Answers
    from dagster_project.lib.scorecard.rule import Rule

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

DRAWS = 200
MIN_DECIDED = 50
"""Decided reviews below which no noise is estimated from them."""

PRIOR = 10.0
"""Reviews that the noise of all classes together counts for in each class."""

COULD, WOULD = 0.05, 0.5
"""Share of draws with another word above which a verdict could, and would, flip."""

LIMITS = (
    "Labels are redrawn by given class alone. Errors that depend on the picture, which models tend "
    "to share, are not in it, and a redraw adds noise where a correction would take it away."
)
"""What the table cannot show; goes wherever it goes."""


@dataclass(frozen=True)
class Noise:
    """P(true = b | given = a), for images that no review decided.

    Attributes
    ----------
    classes : (K,) names.
    matrix : (K, K) float64, rows given, columns true; rows sum to 1.
    rate : share of wrong labels that it stands for, in [0, 1].
    n : images that it was estimated from.
    source : where it comes from, for a sentence.
    decided : image_uuid of images whose label is not in doubt.
    """

    classes: tuple[str, ...]
    matrix: Floats
    rate: float
    n: int
    source: str
    decided: pl.Series


def from_reviews(
    given: pl.DataFrame, cleaned: pl.DataFrame, classes: Sequence[str]
) -> Noise | None:
    """Noise as the decided reviews show it: given label against the decided one.

    Row a is (sum_i w_i 1{given a, true b} + PRIOR q_ab) / (sum_i w_i 1{given a} + PRIOR), scaled so
    that the w sum to the number of reviews; q is the noise of all classes together: right with the
    share that is right, else a true class as often as corrections lead there.

    Parameters
    ----------
    given : ``image_uuid, label``, before any review; a null label says nothing.
    cleaned : ``image_uuid, label, status`` as of ``clean_labels``. Rows that are ``confirmed`` or
        ``corrected`` to a class count. With a column ``inclusion_probability`` pi an image stands
        for the 1/pi - 1 like it that nobody was asked about, and one without pi for none; without
        the column all count alike, as if images had been picked for review blindly. With
        ``stratum`` and ``asked`` as well, of every image of the frame, it stands for N_h / n_h - 1
        of its stratum: of what was asked only a part may have come back, and more of it in one
        stratum than in another (``evidence.strata``).
    classes : (K,) names.

    Returns
    -------
    None with fewer than :data:`MIN_DECIDED` such rows (of pi < 1).
    """
    from dagster_project.lib.labels.consensus import DECIDED
    from dagster_project.lib.labels.given import check_known

    tables.require_columns("cleaned labels", cleaned.columns, ["image_uuid", "label", "status"])
    reviewed = cleaned.filter(pl.col("status").is_in(DECIDED)).drop("given_label", strict=False)
    pairs = reviewed.join(
        given.select("image_uuid", given_label="label"), on="image_uuid", how="inner"
    ).drop_nulls(["label", "given_label"])
    check_known(pairs.select("image_uuid", label="given_label"), tuple(classes), source="labels")
    check_known(pairs, tuple(classes), source="cleaned labels")
    known = "inclusion_probability" in pairs.columns
    pairs = pairs.join(_stood_for(cleaned), on="image_uuid", how="left").filter(
        pl.col("weight").is_finite() & (pl.col("weight") > 0)
    )
    if pairs.height < MIN_DECIDED:
        return None
    counts = _counts(pairs.sort("image_uuid"), classes)
    rate = 1 - float(counts.trace() / counts.sum())
    drawn = "weighted by how they were drawn" if known else "as if picked blindly"
    source = f"{pairs.height} decided reviews, {drawn}"
    return Noise(
        tuple(classes), _shrunk(counts), rate, pairs.height, source, reviewed["image_uuid"]
    )


def _stood_for(cleaned: pl.DataFrame) -> pl.DataFrame:
    """``image_uuid, weight``: how many undecided images a decided one speaks for."""
    from dagster_project.lib.labels.consensus import DECIDED

    if "inclusion_probability" not in cleaned.columns:
        return cleaned.select("image_uuid", weight=pl.lit(1.0))
    chance = pl.col("inclusion_probability").cast(pl.Float64)
    if not {"stratum", "asked"} <= set(cleaned.columns):
        return cleaned.select("image_uuid", weight=1 / chance - 1)
    rows = cleaned.sort("image_uuid").select(
        "image_uuid",
        "stratum",
        chance=chance.fill_null(math.nan),
        decided=(pl.col("asked") & pl.col("status").is_in(DECIDED)).fill_null(value=False),
    )
    probability, decided = rows["chance"].to_numpy(), rows["decided"].to_numpy()
    names, number = strata.numbered(rows["stratum"], probability)
    # who the patient is decides errors only, and none is taken of these
    sample = strata.stratified(names, number, probability, decided, np.arange(rows.height))
    if sample is None:
        return cleaned.select("image_uuid", weight=1 / chance - 1)
    return rows.select("image_uuid", weight=pl.Series(sample.weight) - 1)


def from_joint(answers: Answers, baseline: str, *, decided: pl.Series | None = None) -> Noise:
    """Noise as the confident joint of one configuration's probabilities suggests it.

    It takes a model's confident contradictions for label errors, so it holds the model's own
    confident errors too and cannot hold the label errors that the model shares.

    Parameters
    ----------
    answers : out of sample.
    baseline : whose probabilities; rows are scaled to sum to one.
    decided : image_uuid of images that a review decided; they are left out.
    """
    from dagster_project.lib.mislabels.confident_joint import confident_joint

    names = pl.Series("image_uuid", [] if decided is None else decided, dtype=pl.String)
    open_ = ~answers.image_uuid.is_in(names.implode()).to_numpy()
    probs = answers.probs[baseline][open_].astype(np.float64)
    given, k = answers.true[open_], len(answers.classes)
    total = probs.sum(axis=1, keepdims=True)
    normalised = np.divide(probs, total, out=np.full_like(probs, 1 / k), where=total > 0)
    counts = np.eye(k)
    if given.size:
        own = normalised[np.arange(given.size), given]
        counts = confident_joint(given, normalised, own).astype(np.float64)
    rows = counts.sum(axis=1, keepdims=True)
    matrix = np.divide(counts, rows, out=np.eye(k), where=rows > 0)
    rate = 1 - float(matrix[given, given].mean()) if given.size else 0.0
    source = f"the confident joint of {baseline}"
    return Noise(answers.classes, matrix, rate, int(given.size), source, names)


def _counts(pairs: pl.DataFrame, classes: Sequence[str]) -> Floats:
    """(K, K) weighted pairs, scaled to sum to their number."""
    names = pl.Enum(list(classes))
    at = [pairs[c].cast(names).to_physical().cast(pl.Int64).to_numpy() for c in _PAIR]
    weight = pairs["weight"].to_numpy()
    counts = np.zeros((len(classes), len(classes)))
    np.add.at(counts, tuple(at), weight * (weight.size / weight.sum()))
    return counts


_PAIR = ("given_label", "label")


def _shrunk(counts: Floats) -> Floats:
    """Rows of P(true | given), pulled towards what all classes show together."""
    k = len(counts)
    right = counts.trace() / counts.sum()
    wrong = counts * (1 - np.eye(k))
    to = np.broadcast_to(wrong.sum(axis=0), (k, k)) * (1 - np.eye(k))
    spread = to.sum(axis=1, keepdims=True)
    shares = np.divide(to, spread, out=np.zeros((k, k)), where=spread > 0)
    everywhere = right * np.eye(k) + (1 - right) * shares
    # a class that all corrections lead to has nowhere to go itself: it stays
    everywhere += np.diag(1 - everywhere.sum(axis=1))
    found: Floats = (counts + PRIOR * everywhere) / (counts.sum(axis=1, keepdims=True) + PRIOR)
    return found


def noise_flips(
    answers: Answers,
    baseline: str,
    verdicts: Mapping[str, Verdict],
    comparisons: Mapping[str, Comparison],
    rule: Rule,
    noise: Noise,
    *,
    draws: int = DRAWS,
    seed: int = SEED,
) -> list[dict[str, Any]]:
    """How often each word would be said if the labels that nobody decided were drawn again.

    In every draw each undecided row gets a label from P(true | given), alone; all configurations
    are measured against the same labels. Each difference moves by as much as these labels move it,
    its interval moves along at the width that was measured, its p becomes that of the same standard
    error (from the measured p, else from the interval), Holm again; then the same rule.

    Parameters
    ----------
    verdicts, comparisons : of the labels in force, against ``baseline``.
    noise : of the same classes.
    draws : D.

    Returns
    -------
    For each configuration of ``verdicts``, in order: ``config, word`` (in force), ``shares`` (word
    -> share of draws, sum 1), ``share_other``, ``flips`` ("would": another word in more than half
    of the draws; "could": in more than 5 %; else "stands"), ``would_flip`` (bool), ``sentence``.
    Without noise every verdict stands, in all draws.
    """
    if noise.classes != answers.classes:
        raise InputError("label noise: other classes than the answers; estimate it on these")
    said = {name: dict.fromkeys(get_args(Word), 0) for name in verdicts}
    tallies = {name: _Tally(answers, name) for name in (baseline, *verdicts)}
    seen = {name: tally.measure(answers.true) for name, tally in tallies.items()}
    errors = {name: _recall_errors(comparisons[name]) for name in verdicts}
    for true in _redrawn(answers, noise, draws, seed):
        now = {name: tally.measure(true) for name, tally in tallies.items()}
        for name in verdicts:
            shift = _shift(now[name], now[baseline], seen[name], seen[baseline])
            moved = _moved(comparisons[name], shift, errors[name])
            said[name][judge(moved, rule).word] += 1
    return [_row(name, verdicts[name].word, said[name], noise) for name in verdicts]


def _redrawn(answers: Answers, noise: Noise, draws: int, seed: int) -> Iterator[Ints]:
    """Yield (N,) labels; rows are in the order of ``image_uuid``, so the same rows, same draws."""
    rng = np.random.default_rng(seed)
    k = len(answers.classes)
    rows = np.flatnonzero(~answers.image_uuid.is_in(noise.decided.implode()).to_numpy())
    given = answers.true[rows]
    # the row of a class lies in [class, class + 1]: one search for all of them
    steps = np.cumsum(noise.matrix, axis=1)
    steps[:, -1] = 1.0
    edges = (np.arange(k)[:, None] + np.minimum(steps, 1.0)).ravel()
    for _ in range(draws):
        true = answers.true.copy()
        at = np.searchsorted(edges, given + rng.random(rows.size), side="right") - given * k
        true[rows] = np.clip(at, 0, k - 1)
        yield true


class _Tally:
    """One configuration, ready to be measured against any labels."""

    def __init__(self, answers: Answers, config: str) -> None:
        from dagster_project.lib.calibration.temperature import CLIP

        probs = answers.probs[config].astype(np.float64)
        self.top = outcomes(probs, answers.true).predicted
        self.k = probs.shape[1]
        self.rows = np.arange(len(probs)) * self.k
        clipped = np.clip(probs, CLIP, 1 - CLIP)
        self.brier = ((probs**2).sum() + len(probs), (-2 * probs).ravel())
        self.nll = (-np.log1p(-clipped).sum(), (np.log1p(-clipped) - np.log(clipped)).ravel())

    def measure(self, true: Ints) -> dict[str, Any]:
        """``top1, balanced_accuracy, brier, nll`` and (K,) ``recall``, NaN without an image."""
        hit = self.top == true
        n = np.bincount(true, minlength=self.k)
        hits = np.bincount(true[hit], minlength=self.k)
        recall = np.divide(hits, n, out=np.full(self.k, np.nan), where=n > 0)
        at = self.rows + true
        losses = {
            name: (base + own[at].sum()) / true.size
            for name, (base, own) in (("brier", self.brier), ("nll", self.nll))
        }
        mean = float(np.nanmean(recall))
        return {"top1": hit.mean(), "balanced_accuracy": mean, "recall": recall, **losses}


def _shift(
    now: Mapping[str, Any],
    now_base: Mapping[str, Any],
    seen: Mapping[str, Any],
    seen_base: Mapping[str, Any],
) -> dict[str, Any]:
    """By how much each difference moves."""
    return {m: (now[m] - now_base[m]) - (seen[m] - seen_base[m]) for m in now}


def _moved(comparison: Comparison, shift: Mapping[str, Any], errors: Floats) -> Comparison:
    """The comparison with its differences, and all that hangs on them, moved."""
    differences = {
        name: _moved_difference(found, float(shift[name])) if name in shift else found
        for name, found in comparison.differences.items()
    }
    by = np.nan_to_num(shift["recall"]).tolist()
    recalls = [
        _moved_difference(found.difference, step)
        for found, step in zip(comparison.per_class, by, strict=True)
    ]
    p_holm = holm([_p(d.estimate, e) for d, e in zip(recalls, errors.tolist(), strict=True)])
    per_class: list[ClassDifference] = [
        replace(found, difference=d, p_holm=p)
        for found, d, p in zip(comparison.per_class, recalls, p_holm, strict=True)
    ]
    return Comparison(comparison.baseline, comparison.config, differences, tuple(per_class))


def _moved_difference(found: Difference, step: float) -> Difference:
    def plus(value: float | None) -> float | None:
        return None if value is None else value + step

    return Difference(plus(found.estimate), plus(found.low), plus(found.high))


def _recall_errors(comparison: Comparison) -> Floats:
    """(K,) standard errors of recall differences; NaN where there is none.

    The one that makes the measured p of the measured difference; where that is none (no
    difference), that of the interval.
    """
    from scipy.special import ndtri

    found = []
    for each in comparison.per_class:
        d = each.difference
        z = 0.0 if d.p is None else -float(ndtri(max(d.p, 1e-300) / 2))
        if d.estimate and z > 0:
            found.append(abs(d.estimate) / z)
        elif d.low is not None and d.high is not None and d.high > d.low:
            found.append((d.high - d.low) / (2 * Z95))
        else:
            found.append(math.nan)
    return np.asarray(found)


def _p(estimate: float | None, error: float) -> float | None:
    """Two-sided normal p; None where nothing is known."""
    if estimate is None or math.isnan(error):
        return None
    return math.erfc(abs(estimate) / error / math.sqrt(2))


def _row(config: str, word: Word, said: Mapping[Word, int], noise: Noise) -> dict[str, Any]:
    draws = sum(said.values())
    shares = {name: (count / draws if draws else None) for name, count in said.items()}
    other = (draws - said[word]) / draws if draws else 0.0
    flips = "would" if other > WOULD else "could" if other > COULD else "stands"
    return {
        "config": config,
        "word": word,
        "shares": shares,
        "share_other": other,
        "flips": flips,
        "would_flip": flips == "would",
        "sentence": _sentence(word, said, other, flips, noise),
    }


def _sentence(word: Word, said: Mapping[Word, int], other: float, flips: str, noise: Noise) -> str:
    behind = f"labels redrawn at {100 * noise.rate:.1f} % wrong ({noise.source})"
    if flips == "stands":
        return f"{word} stands: with {behind} {100 * (1 - other):.0f} % of draws say the same."
    likely = max((name for name in said if name != word), key=lambda name: said[name])
    return (
        f"{word} {flips} flip: with {behind} {100 * other:.0f} % of draws say otherwise, mostly "
        f"{likely}."
    )
