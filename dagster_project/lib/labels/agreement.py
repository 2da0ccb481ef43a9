"""Agreement: how far readers of the same photographs say the same, and how good each of them is.

Belongs: Krippendorff's nominal alpha with missing values, its interval, agreement of each reviewer
with the others.
Does not: what follows for a label (``consensus``), one reader's agreement with himself on repeats.
Concept: alpha = 1 - observed / expected disagreement, over pairs of readers of one image; 0 is
chance, 1 is perfect. A reviewer is judged by the others' consensus only: he does not confirm
himself. N = images, K = options (classes and ``not_usable``; ``unsure`` is a missing value).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from dagster_project.lib.evidence.proportion import clustered_interval, wilson
from dagster_project.lib.labels.consensus import DEFAULT, ConsensusPolicy, clean_labels
from dagster_project.lib.labels.judgements import NOT_USABLE, UNSURE
from dagster_project.lib.labels.names import folded

if TYPE_CHECKING:
    import numpy.typing as npt

DRAWS = 1000
SEED = 20260101
MIN_IMAGES = 10
"""Images (or patients) with two readers that an interval of alpha needs at least."""
MIN_NAMED = 20
"""Images with two readers, at least one of whom named the class, that its own alpha needs."""
_CHUNK = 100


def nominal_alpha(counts: npt.NDArray[np.int64]) -> float | None:
    """Krippendorff's alpha for nominal data, any number of readers, missing values left out.

    alpha = 1 - (n - 1) * D / (n^2 - sum_c n_c^2), with D = sum_u (m_u^2 - sum_c n_uc^2)/(m_u - 1):
    n_uc readers of unit u gave value c, m_u gave any, n_c = sum_u n_uc and n = sum_u m_u; only
    units with m_u >= 2 are in any sum (Krippendorff, Content Analysis, 2nd ed. 2004, section 11.3;
    Hayes and Krippendorff, Communication Methods and Measures 1:77, 2007).

    Parameters
    ----------
    counts : (N, K) how many readers of unit n gave value k. The order of rows and columns does not
        matter, nor do units with fewer than two values.

    Returns
    -------
    At most 1; None where nothing can be paired, or where all paired values are one (no disagreement
    is to be expected, and 0 / 0 is neither agreement nor chance).

    >>> nominal_alpha(np.array([[2, 0], [2, 0], [1, 1], [0, 2]]))
    0.5333333333333333
    """
    unit, totals = _sums(counts)
    return _alpha(float(unit.sum()), totals.sum(axis=0))


def _sums(
    counts: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Disagreement of each unit, and its counts; both 0 for units that cannot be paired."""
    m = counts.sum(axis=1)
    paired = np.where((m >= 2)[:, None], counts, 0)
    m = np.where(m >= 2, m, 0)
    unequal = m**2 - (paired**2).sum(axis=1)
    return unequal / np.maximum(m - 1, 1), paired


def _alpha(disagreement: float, totals: npt.NDArray[Any]) -> float | None:
    n = float(totals.sum())
    expected = n**2 - float((totals.astype(np.float64) ** 2).sum())
    return None if expected == 0 else 1 - (n - 1) * disagreement / expected


def alpha_interval(
    counts: npt.NDArray[np.int64],
    cluster: npt.NDArray[np.int64] | None = None,
    *,
    draws: int = DRAWS,
    seed: int = SEED,
) -> list[float] | None:
    """95 % percentile interval of :func:`nominal_alpha` over resampled images or patients.

    Approximate, never a certificate. Krippendorff resamples pairs of values; whole images keep
    the readers of one image together, whole patients the images of one patient.

    Parameters
    ----------
    counts : as in :func:`nominal_alpha`.
    cluster : (N,) whole numbers; equal numbers are one patient. None: every image is its own.

    Returns
    -------
    [low, high]; None with fewer than :data:`MIN_IMAGES` clusters that have a pair, or where alpha
    is undefined in so many draws (5 %) that the interval has no end.
    """
    unit, paired = _sums(counts)
    keep = paired.sum(axis=1) > 0
    table = np.column_stack([unit, paired])[keep]
    if cluster is not None:
        _, of = np.unique(cluster[keep], return_inverse=True)
        summed = np.zeros((int(of.max(initial=-1)) + 1, table.shape[1]))
        np.add.at(summed, of, table)
        table = summed
    if len(table) < MIN_IMAGES:
        return None
    # in one order: a draw is of places, and must not depend on the order of rows
    table = table[np.lexsort(table.T[::-1])]
    rng = np.random.default_rng(seed)
    found: list[float] = []
    for start in range(0, draws, _CHUNK):
        size = min(_CHUNK, draws - start)
        drawn = rng.multinomial(len(table), np.full(len(table), 1 / len(table)), size=size)
        alphas = [_alpha(row[0], row[1:]) for row in drawn @ table]
        found += [a for a in alphas if a is not None]
    if 2 * (draws - len(found)) >= 0.05 * draws:
        return None
    low, high = np.quantile(found, [0.025, 0.975], method="inverted_cdf")
    return [round(float(low), 12), round(float(high), 12)]


def agreement_report(
    reviews: pl.DataFrame,
    cleaned: pl.DataFrame,
    classes: Sequence[str],
    *,
    policy: ConsensusPolicy = DEFAULT,
    patients: pl.DataFrame | None = None,
) -> dict[str, Any]:
    """What the reviews say about the reviewers: counts and rates, no patient, no image.

    Alpha is of the readers of photographs; ``policy.references`` are left out of it, but not of the
    list of reviewers. A reviewer's ``agreement_with_consensus`` is over images that he gave a vote
    on and that the *other* reviewers decide (:func:`consensus.clean_labels` without him, ``policy``
    as in force, single reviews never accepted). Such images are easier than the rest: read it as a
    comparison between reviewers, not as their accuracy.

    Parameters
    ----------
    reviews : ``Drop.reviews``.
    cleaned : ``image_uuid``: the images that count; reviews of others are left out.
    classes : (K,) class names.
    patients : ``image_uuid, patient_id``; intervals are by patient then.

    Returns
    -------
    Plain JSON: ``n_images_two_readers, alpha, alpha_ci95, interval_by`` (image or patient),
    ``per_class`` (``class, n`` images with two readers one of whom named it, ``alpha`` of that
    class against the rest, null where n < :data:`MIN_NAMED`), ``reviewers`` (``reviewer,
    reference, n, n_unsure, n_not_usable, n_compared, agreement_with_consensus, ci95``) by name.
    What is undefined is null.
    """
    ids = cleaned["image_uuid"].unique().sort()
    mine = reviews.filter(pl.col("image_uuid").is_in(ids.implode()))
    counted = _count(_photograph_votes(mine, policy), classes, patients)
    pairs = counted.counts[counted.counts.sum(axis=1) >= 2]
    return {
        "n_images_two_readers": len(pairs),
        "alpha": _rounded(nominal_alpha(counted.counts)),
        "alpha_ci95": alpha_interval(counted.counts, counted.cluster),
        "interval_by": "image" if counted.cluster is None else "patient",
        "per_class": [_class_alpha(pairs, k, name) for k, name in enumerate(classes)],
        "reviewers": _reviewers(mine, ids, policy, patients),
    }


@dataclass(frozen=True)
class _Counted:
    counts: npt.NDArray[np.int64]
    cluster: npt.NDArray[np.int64] | None


def _photograph_votes(reviews: pl.DataFrame, policy: ConsensusPolicy) -> pl.DataFrame:
    levels = policy.levels()
    readers = [name for name in reviews["reviewer"].unique() if folded(name) not in levels]
    return reviews.filter(pl.col("reviewer").is_in(readers), pl.col("label") != UNSURE)


def _count(votes: pl.DataFrame, classes: Sequence[str], patients: pl.DataFrame | None) -> _Counted:
    """How many readers gave each image each option; the images in one order."""
    options = {name: k for k, name in enumerate([*classes, NOT_USABLE])}
    known = votes.filter(pl.col("label").is_in(list(options)))
    images = known["image_uuid"].unique().sort()
    place = {image: at for at, image in enumerate(images)}
    counts = np.zeros((images.len(), len(options)), dtype=np.int64)
    rows = [place[image] for image in known["image_uuid"]]
    np.add.at(counts, (rows, [options[label] for label in known["label"]]), 1)
    return _Counted(counts, _clusters(images, patients))


def _clusters(images: pl.Series, patients: pl.DataFrame | None) -> npt.NDArray[np.int64] | None:
    """A number for each image's patient; an image whose patient is unknown is its own."""
    if patients is None:
        return None
    of = pl.DataFrame({"image_uuid": images}).join(
        patients.select("image_uuid", pl.col("patient_id").cast(pl.String)),
        on="image_uuid",
        how="left",
        maintain_order="left",
    )
    key = pl.coalesce(pl.lit("p:") + pl.col("patient_id"), pl.lit("i:") + pl.col("image_uuid"))
    return of.select(key.rank("dense").cast(pl.Int64) - 1).to_series().to_numpy()


def _class_alpha(pairs: npt.NDArray[np.int64], k: int, name: str) -> dict[str, Any]:
    named = pairs[:, k]
    n = int((named > 0).sum())
    binary = np.column_stack([named, pairs.sum(axis=1) - named])
    alpha = nominal_alpha(binary) if n >= MIN_NAMED else None
    return {"class": name, "n": n, "alpha": _rounded(alpha)}


def _reviewers(
    reviews: pl.DataFrame, ids: pl.Series, policy: ConsensusPolicy, patients: pl.DataFrame | None
) -> list[dict[str, Any]]:
    rows = pl.DataFrame({"image_uuid": ids}, schema={"image_uuid": pl.String}).with_columns(
        label=pl.lit(None, pl.String)
    )
    strict = ConsensusPolicy(min_agreeing=policy.min_agreeing, references=policy.references)
    found: list[dict[str, Any]] = []
    for (name,), said in sorted(reviews.group_by("reviewer"), key=lambda item: str(item[0][0])):
        others = clean_labels(rows, reviews.filter(pl.col("reviewer") != name), strict)
        decided = others.filter(pl.col("source").is_in(["consensus", "reference"]))
        votes = said.filter(pl.col("label") != UNSURE).join(
            decided.select("image_uuid", others=pl.col("label").fill_null(NOT_USABLE)),
            on="image_uuid",
        )
        found.append(
            {
                "reviewer": str(name),
                "reference": folded(str(name)) in policy.levels(),
                "n": said.height,
                "n_unsure": int((said["label"] == UNSURE).sum()),
                "n_not_usable": int((said["label"] == NOT_USABLE).sum()),
                **_share(votes, patients),
            }
        )
    return found


def _share(votes: pl.DataFrame, patients: pl.DataFrame | None) -> Mapping[str, Any]:
    """Agreement with the others and its Wilson interval, by patient where they are known."""
    n = votes.height
    if n == 0:
        return {"n_compared": 0, "agreement_with_consensus": None, "ci95": None}
    hit = (votes["label"] == votes["others"]).to_numpy()
    share = float(hit.mean())
    cluster = _clusters(votes["image_uuid"], patients)
    if cluster is None:
        low, high = wilson(np.array([share]), float(n))
    else:
        by_patient = clustered_interval(hit, cluster)
        low, high = by_patient.low, by_patient.high
    ends = [float(low[0]), float(high[0])]
    ci95 = None if any(math.isnan(end) for end in ends) else [round(end, 12) for end in ends]
    return {"n_compared": n, "agreement_with_consensus": _rounded(share), "ci95": ci95}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 12)


def reviewer_table(report: Mapping[str, Any]) -> pl.DataFrame:
    """``reviewers`` of a report, one row each, ``ci95`` as ``low`` and ``high``."""
    rows = [
        (
            r["reviewer"],
            r["reference"],
            r["n"],
            r["n_unsure"],
            r["n_not_usable"],
            r["n_compared"],
            r["agreement_with_consensus"],
            *(r["ci95"] or (None, None)),
        )
        for r in report["reviewers"]
    ]
    counts = dict.fromkeys(("n", "n_unsure", "n_not_usable", "n_compared"), pl.Int64)
    rates = dict.fromkeys(("agreement_with_consensus", "low", "high"), pl.Float64)
    schema = {"reviewer": pl.String, "reference": pl.Boolean, **counts, **rates}
    return pl.DataFrame(rows, schema=schema, orient="row")
