"""Next reviews: which images another reader should look at, and why.

Belongs: cleanlab's CROWDLAB (arXiv 2210.06812) and ActiveLab (arXiv 2301.11856) scores, the order
of asking.
Does not: any label (``consensus``), building a packet (``review``).
Concept: here the model's probabilities are welcome: a ranking that leans on the model only decides
where a reader's minute goes. In a label they would be circular, because the model is judged by it.
A list ranked like this is no random sample either: nothing about the other images may be estimated
from it. N = images, K = classes.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from dagster_project.lib.labels.judgements import NOT_USABLE, UNSURE

if TYPE_CHECKING:
    import numpy.typing as npt

    from dagster_project.lib.probability_table import ProbabilityTable

WHY = ("tie", "single", "unsure", "low_quality", "not_reviewed")
"""In the order of asking: what a further reader decides first. low_quality: decided, and CROWDLAB
finds the label less probable than :data:`LOW_QUALITY`; not_reviewed: nobody looked."""
LOW_QUALITY = 0.5
TRIFLE = 1e-9
SCHEMA = {"image_uuid": pl.String, "why": pl.String, "score": pl.Float64}


def next_reviews(
    cleaned: pl.DataFrame, reviews: pl.DataFrame, table: ProbabilityTable
) -> pl.DataFrame:
    """Images to review next, in the order of asking.

    Left out are images without usable probabilities, ``not_usable`` ones, decided ones whose label
    CROWDLAB does not doubt, and those that a reference decided.

    Parameters
    ----------
    cleaned : rows of ``clean_labels``.
    reviews : ``image_uuid, reviewer, label``, as in ``Drop.reviews``.
    table : (N, K) probabilities; rows without a row in ``cleaned`` are left out.

    Returns
    -------
    ``image_uuid, why`` (one of :data:`WHY`), ``score`` in [0, 1]: ActiveLab's, low is most worth a
    reader. Sorted by ``why`` as in :data:`WHY`, then by score, then by id; a score is comparable
    over all reasons.
    """
    rows = _rows(cleaned, table)
    probs = _untied(table.probs[rows["at"].to_numpy()].astype(np.float64))
    votes = _votes(rows["image_uuid"], reviews, table.classes)
    number = {name: at for at, name in enumerate(table.classes)}
    label = np.array([number.get(name or "", -1) for name in rows["label"]])
    with _quiet():
        score, quality = _scores(votes, probs), _quality(votes, probs, label)
    doubted = pl.Series(quality < LOW_QUALITY)
    status = pl.col("status")
    why = (
        pl.when(status.is_in(["tie", "single", "unsure"]))
        .then(status)
        .when(status == "given")
        .then(pl.lit("not_reviewed"))
        .when(status.is_in(["confirmed", "corrected"]) & doubted)
        .then(pl.lit("low_quality"))
    )
    ranked = (
        rows.with_columns(score=pl.Series(score).round(6), why=why)
        .filter(pl.col("why").is_not_null(), pl.col("source").fill_null("") != "reference")
        .sort(pl.col("why").cast(pl.Enum(WHY)), "score", "image_uuid")
    )
    return ranked.select(pl.col(c).cast(t) for c, t in SCHEMA.items())


def _rows(cleaned: pl.DataFrame, table: ProbabilityTable) -> pl.DataFrame:
    """``image_uuid, label, status, source, at`` (row of the table) of images to rank, by id."""
    usable = pl.Series(table.probs.max(axis=1, initial=0) > 0)  # NaN is not above 0 either
    rows = table.frame.select("image_uuid").with_row_index("at").filter(usable)
    known = cleaned.select("image_uuid", "label", "status", "source")
    return rows.join(known, on="image_uuid").sort("image_uuid")


def _votes(
    images: pl.Series, reviews: pl.DataFrame, classes: tuple[str, ...]
) -> npt.NDArray[np.float64]:
    """(N, readers) class number of each vote, NaN where there is none; ``not_usable`` is none."""
    known = reviews.filter(
        pl.col("image_uuid").is_in(images.implode()), ~pl.col("label").is_in([UNSURE, NOT_USABLE])
    )
    readers = {name: at for at, name in enumerate(known["reviewer"].unique().sort())}
    place = {image: at for at, image in enumerate(images)}
    number = {name: at for at, name in enumerate(classes)}
    votes = np.full((images.len(), len(readers)), np.nan)
    for image, reviewer, label in known.select("image_uuid", "reviewer", "label").iter_rows():
        votes[place[image], readers[reviewer]] = number[label]
    return votes


def _untied(probs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Rows that sum to one, no two classes of a row equally probable: the first one a trifle more.

    Where votes and probabilities tie, cleanlab 2.9 draws by the global random generator, and where
    all images tie it fails.
    """
    normalised = probs / probs.sum(axis=1, keepdims=True)
    nudged = normalised + TRIFLE * np.arange(probs.shape[1], 0, -1)
    found: npt.NDArray[np.float64] = nudged / nudged.sum(axis=1, keepdims=True)
    return found


def _scores(
    votes: npt.NDArray[np.float64], probs: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """(N,) ActiveLab's score of images with votes and without."""
    from cleanlab.multiannotator import get_active_learning_scores

    score = np.ones(len(probs))
    voted = ~np.isnan(votes).all(axis=1)
    if len(probs):
        labelled = (votes[voted], probs[voted]) if voted.any() else (None, None)
        pool = probs[~voted] if (~voted).any() else None
        score[voted], score[~voted] = get_active_learning_scores(*labelled, pool)
    return score


def _quality(
    votes: npt.NDArray[np.float64], probs: npt.NDArray[np.float64], label: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """(N,) CROWDLAB's probability of the label in force; 1 where no reader said it.

    cleanlab gives it for each reader's label, so that of any reader who said the label will do. Its
    own consensus is not used: it breaks ties by the model, then for the rarer class.
    """
    from cleanlab.multiannotator import get_label_quality_multiannotator

    quality = np.ones(len(probs))
    voted = ~np.isnan(votes).all(axis=1)
    if (~np.isnan(votes)).sum(axis=1).max(initial=0) < 2:  # CROWDLAB needs somebody to compare
        return quality
    found = get_label_quality_multiannotator(
        votes[voted], probs[voted], return_annotator_stats=False, verbose=False
    )
    theirs = found["detailed_label_quality"].to_numpy()
    said = votes[voted] == label[voted, None]
    quality[voted] = np.where(said, theirs, 1.0).min(axis=1)
    return quality


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the lines that cleanlab prints about classes nobody named."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
