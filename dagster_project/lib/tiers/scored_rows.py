"""Scored rows: probabilities and labels joined into what every tier statistic counts.

Belongs: the join by ``image_uuid``, the score, the rank of the truth, the three best items.
Does not: thresholds, reading files (``probability_table``, ``labels``).
Concept: one row an image that has both probabilities and a label, sorted by ``image_uuid``, so that
the order of the input never matters. N = rows, K = classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from dagster_project.lib.errors import InputError
from dagster_project.lib.labels.given import check_labels

if TYPE_CHECKING:
    import numpy.typing as npt

    from dagster_project.lib.probability_table import Probabilities

TOP = 3
_BLOCK_VALUES = 200_000
"""Probabilities that are turned and compared at a time: what fits a processor's cache."""


@dataclass(frozen=True)
class ScoreCounts:
    """Where the rows went: ``n_rows`` = scored + without probabilities + without label."""

    n_rows: int
    n_scored: int
    n_without_probs: int
    n_without_label: int

    def as_dict(self) -> dict[str, int]:
        """Plain numbers for metadata."""
        return asdict(self)


def labels_in(table: Probabilities) -> pl.DataFrame:
    """The labels that travel with the table: ``image_uuid, label``.

    Raises
    ------
    InputError
        It has neither ``label`` nor ``true_idx``.
    """
    if "label" not in table.frame.columns:
        raise InputError(
            "the probabilities carry no column 'label' or 'true_idx'; pass labels (--labels)"
        )
    return table.frame.select("image_uuid", "label")


def score_rows(
    table: Probabilities, labels: pl.DataFrame, *, compact: bool = False
) -> pl.DataFrame:
    """Join probabilities and labels, and score each row of the deployed view.

    Parameters
    ----------
    table : (N, K) probabilities.
    labels : ``image_uuid, label`` (optional ``patient_id``, used where ``table`` has none). A null
        label is no label; labels of images that are not in ``table`` are not used.
    compact : ``predicted`` and ``top_classes`` as ``Enum`` of the classes in place of text: a byte
        or two a name instead of sixteen.

    Returns
    -------
    Sorted by ``image_uuid``: ``image_uuid``, ``patient_id`` (null if unknown), ``label``,
    ``predicted`` (first class of largest probability), ``score`` (that probability, in the stored
    dtype), ``rank`` (0-based), ``top1`` (rank = 0), ``top3`` (rank < 3), ``top_probs`` and
    ``top_classes`` (the min(3, K) largest, descending, equal ones in class order).

    ``rank`` = #{p > p_true} + #{other classes with p = p_true}: a tie is never counted for the
    truth, so neither the order of the classes nor a constant output can look right.

    Raises
    ------
    InputError
        An image labelled twice, an unknown class, or no image with both.
    """
    joined = _joined(table, labels)
    keep = (joined["has_probs"] & joined["label"].is_not_null()).to_numpy()
    if not keep.any():
        raise InputError(
            f"none of the {joined.height} images has probabilities and a label; "
            "check that image_uuid means the same in both"
        )
    frame = joined.filter(keep).sort("image_uuid")
    known = pl.Enum(table.classes)
    names = pl.Series("classes", list(table.classes), dtype=known if compact else pl.String)
    true = frame["label"].cast(known).to_physical().to_numpy()
    rank, values, index = _scores(table, frame["__at"].to_numpy(), true)
    return frame.select("image_uuid", "patient_id", "label").with_columns(
        names.gather(index[:, 0]).alias("predicted"),
        pl.Series("score", np.ascontiguousarray(values[:, 0])),
        pl.Series("rank", rank),
        pl.Series("top1", rank == 0),
        pl.Series("top3", rank < TOP),
        pl.Series("top_probs", values).arr.to_list(),
        names.gather(index.ravel()).reshape(index.shape).arr.to_list().alias("top_classes"),
    )


def as_text(scored: pl.DataFrame) -> pl.DataFrame:
    """Compact rows of :func:`score_rows` as it returns them otherwise; others unchanged."""
    text = {"predicted": pl.String(), "top_classes": pl.List(pl.String)}
    return scored.cast({name: kind for name, kind in text.items() if name in scored.columns})


def score_counts(table: Probabilities, labels: pl.DataFrame) -> ScoreCounts:
    """How many rows :func:`score_rows` uses and leaves out; no probabilities counts first."""
    joined = _joined(table, labels)
    without_probs = int((~joined["has_probs"]).sum())
    without_label = int((joined["has_probs"] & joined["label"].is_null()).sum())
    n_scored = joined.height - without_probs - without_label
    return ScoreCounts(joined.height, n_scored, without_probs, without_label)


def rank_of_truth(
    probs: npt.NDArray[np.floating[Any]], true: npt.NDArray[np.integer[Any]]
) -> npt.NDArray[np.int32]:
    """0-based rank of the true class by counting, ties against the truth.

    Parameters
    ----------
    probs : (N, K) finite. true : (N,) in 0..K-1.

    >>> rank_of_truth(np.array([[.5, .5, .1], [.2, .7, .1]]), np.array([0, 1])).tolist()
    [1, 0]
    """
    rank = np.empty(len(probs), dtype=np.int32)
    for block in _blocks(probs):
        rank[block] = _rank(probs[block].T.copy(), true[block])
    return rank


def _scores(
    table: Probabilities, at: npt.NDArray[np.integer[Any]], true: npt.NDArray[np.integer[Any]]
) -> tuple[
    npt.NDArray[np.int32], npt.NDArray[np.floating[Any]], npt.NDArray[np.unsignedinteger[Any]]
]:
    """Rank of the truth (M,), largest values and their classes (M, min(3, K)), batch by batch.

    Parameters
    ----------
    at, true : (M,) rows of ``table``, each once, and the class of each.
    """
    place = np.full(table.frame.height, -1, dtype=np.int32)
    place[at] = np.arange(at.size)
    width = len(table.classes)
    rank = np.empty(at.size, dtype=np.int32)
    values = np.empty((at.size, min(TOP, width)), dtype=table.dtype)
    index = np.empty(values.shape, dtype=np.min_scalar_type(width))
    classes = np.arange(width, dtype=index.dtype)[:, None]
    for first, probs in table.batches():
        for block in _blocks(probs):
            to = place[first + block.start : first + block.stop]
            turned = probs[block][to >= 0].T.copy()  # a row a class: comparisons run along images
            to = to[to >= 0]
            rank[to] = _rank(turned, true[to])
            for item in range(values.shape[1]):
                best = turned.max(axis=0)
                # of equal ones the first class
                column = np.where(turned == best, classes, index.dtype.type(width)).min(axis=0)
                values[to, item], index[to, item] = best, column
                turned[column, np.arange(to.size)] = -1
    return rank, values, index


def _rank(
    turned: npt.NDArray[np.floating[Any]], true: npt.NDArray[np.integer[Any]]
) -> npt.NDArray[np.int32]:
    own = turned[true, np.arange(true.size)]
    rank: npt.NDArray[np.int32] = np.add.reduce(turned >= own, axis=0, dtype=np.int32) - 1
    return rank


def _blocks(probs: npt.NDArray[np.floating[Any]]) -> Iterator[slice]:
    rows = max(1, _BLOCK_VALUES // probs.shape[1])
    for first in range(0, len(probs), rows):
        yield slice(first, min(first + rows, len(probs)))


def _joined(table: Probabilities, labels: pl.DataFrame) -> pl.DataFrame:
    """Every row of the table with ``label``, ``patient_id``, ``has_probs`` and its row number."""
    check_labels(labels, table.classes)
    frame = table.frame.select(
        "image_uuid",
        *(c for c in ("patient_id",) if c in table.frame.columns),
        pl.col("error").is_null().alias("has_probs")
        if "error" in table.frame.columns
        else pl.lit(True).alias("has_probs"),
    ).with_row_index("__at")
    wanted = ["image_uuid", "label"]
    if "patient_id" not in frame.columns and "patient_id" in labels.columns:
        wanted.append("patient_id")
    if labels["image_uuid"].equals(frame["image_uuid"]):  # as they come from the table itself
        joined = frame.with_columns(labels.select(wanted[1:]))
    else:
        joined = frame.join(labels.select(wanted), on="image_uuid", how="left")
    if "patient_id" not in joined.columns:
        joined = joined.with_columns(pl.lit(None, dtype=pl.String).alias("patient_id"))
    return joined
