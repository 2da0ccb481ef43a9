"""Truth beside the rows: labels, patients and tiers in the order of what is judged.

Belongs: turning a table of labelled images into arrays, and refusing what is no truth.
Does not: joining labels to probabilities (the caller, by ``image_uuid``), any statistic.
Concept: labels that no roll-up and no filter by agreement with a model has touched. A label that
was changed, dropped or chosen because of what the model said makes every rate look better than it
is, and nothing in the numbers would show it. Where it is known which labels reviewers decided, and
how probably each was drawn for review, that travels along (:class:`Review`): then the certificate
need not trust what was overwritten. N = images, P = patients, K = classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from dagster_project.lib import tables
from dagster_project.lib.errors import InputError, some, unknown_class
from dagster_project.lib.evidence import strata
from dagster_project.lib.evidence.rows import hash_numbers, patient_key
from dagster_project.lib.tiers.assign import TIERS

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]
    Bools = npt.NDArray[np.bool_]

REVIEW_COLUMNS = ("given_label", "reviewed", "asked", "inclusion_probability")
"""Of ``review.sample.with_reviews``."""

REVIEW_MORE = ("returned", "stratum")
"""Of the same; may be left out."""


@dataclass(frozen=True)
class Tiered:
    """What the tiers make of N images.

    Attributes
    ----------
    tier : (N,) int64 number into ``TIERS``.
    top1, top3 : (N,) whether the truth is the best, or among the three best classes.
    """

    tier: Ints
    top1: Bools
    top3: Bools


@dataclass(frozen=True)
class Review:
    """Which labels reviewers decided, and how probably each image was drawn for it.

    Attributes
    ----------
    given : (N,) int64 class of the label as given; where none was, of the label in force.
    reviewed, asked, returned, probability, strata, stratum : as in ``evidence.ReviewedRows``.
    """

    given: Ints
    reviewed: Bools
    asked: Bools
    returned: Bools
    probability: Floats
    strata: tuple[str, ...]
    stratum: Ints

    @property
    def n_reviewed(self) -> int:
        """Images whose label reviewers confirmed or corrected."""
        return int(self.reviewed.sum())

    @property
    def in_part(self) -> bool:
        """Some labels are reviewed and others not."""
        return bool(self.reviewed.any() and not self.reviewed.all())

    @property
    def n_drawn(self) -> int:
        """Reviewed images that were drawn with a known probability below 1."""
        by_chance = self.asked & (self.probability > 0) & (self.probability < 1)
        return int((by_chance & self.reviewed).sum())

    def take(self, at: Ints) -> Review:
        """These images only."""
        return replace(
            self,
            given=self.given[at],
            reviewed=self.reviewed[at],
            asked=self.asked[at],
            returned=self.returned[at],
            probability=self.probability[at],
            stratum=self.stratum[at],
        )


@dataclass(frozen=True)
class Truth:
    """What is known of N images, in the row order of the probabilities they are judged with.

    Attributes
    ----------
    keys : ``image_uuid, patient`` (text; an image without a known patient is its own).
    true : (N,) int64 class of each image.
    patient : (N,) int64 in 0..P-1, by the sha256 of the patient's name.
    n_patients, known : P; whether every image names its patient.
    tiers : None where they are not known.
    review : None where it is not known which labels were reviewed: all count as given.
    """

    keys: pl.DataFrame
    true: Ints
    patient: Ints
    n_patients: int
    known: bool
    tiers: Tiered | None = None
    review: Review | None = None

    def __len__(self) -> int:
        """N, images."""
        return int(self.true.size)


def truth_of(rows: pl.DataFrame, classes: Sequence[str]) -> Truth:
    """The arrays of a table of labelled images.

    Parameters
    ----------
    rows : (N,) in the row order of the probabilities: ``image_uuid`` (once each), ``label``;
        optional ``patient_id`` (null where unknown), and ``tier`` (``tiers.assign.tier_of``) with
        ``top1`` and ``top3`` (``tiers.scored_rows``), and :data:`REVIEW_COLUMNS`. Without those
        labels are taken as given: whoever calls vouches that no mask, roll-up or model-based filter
        had a part in them.
    classes : (K,) in output order.

    Raises
    ------
    InputError
        No row, an image twice, a label that is missing or no class, a tier that is none, some
        columns of a review without the others.

    >>> found = truth_of(pl.DataFrame({"image_uuid": ["i", "j"], "label": ["b", "a"],
    ...                                "patient_id": ["p", "p"]}), ["a", "b"])
    >>> found.true.tolist(), found.n_patients, found.known
    ([1, 0], 1, True)
    """
    tables.require_columns("labels", rows.columns, ["image_uuid", "label"])
    if rows.is_empty():
        raise InputError("labels: no image has probabilities and a label; check that image_uuid "
                         "means the same in both")  # fmt: skip
    twice = tables.duplicates(rows, "image_uuid")
    if twice:
        raise InputError(f"labels, column image_uuid: {some(twice)} on more than one row; keep one")
    if "patient_id" not in rows.columns:
        rows = rows.with_columns(pl.lit(None, dtype=pl.String).alias("patient_id"))
    keys = rows.select(pl.col("image_uuid").cast(pl.String), pl.col("patient_id").cast(pl.String))
    known = keys["patient_id"].null_count() == 0
    keys = keys.select("image_uuid", patient_key())
    patient, n_patients = hash_numbers(keys["patient"])
    return Truth(
        keys=keys,
        true=_numbers(rows, "label", classes),
        patient=patient,
        n_patients=n_patients,
        known=known,
        tiers=_tiered(rows) if "tier" in rows.columns else None,
        review=_review(rows, classes) if "reviewed" in rows.columns else None,
    )


def _tiered(rows: pl.DataFrame) -> Tiered:
    tables.require_columns("labels", rows.columns, ["top1", "top3"])
    top1, top3 = (rows[column].to_numpy().astype(bool) for column in ("top1", "top3"))
    return Tiered(_numbers(rows, "tier", TIERS), top1, top3)


def _review(rows: pl.DataFrame, classes: Sequence[str]) -> Review:
    tables.require_columns("labels", rows.columns, REVIEW_COLUMNS)
    given = rows.with_columns(pl.coalesce("given_label", "label").alias("given_label"))
    number = rows["inclusion_probability"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    names, stratum = (
        strata.numbered(rows["stratum"], number)
        if "stratum" in rows.columns
        else strata.by_probability(number)
    )
    reviewed, asked, returned = (
        rows[name].to_numpy().astype(bool)
        for name in ("reviewed", "asked", "returned" if "returned" in rows.columns else "asked")
    )
    numbers = _numbers(given, "given_label", classes)
    return Review(numbers, reviewed, asked, returned, number, names, stratum)


def _numbers(rows: pl.DataFrame, column: str, names: Sequence[str]) -> Ints:
    numbers = {name: at for at, name in enumerate(names)}
    found = rows[column].cast(pl.String)
    for name in found.unique(maintain_order=True):
        if name not in numbers:
            images = rows.filter(found.is_null() if name is None else found == name)["image_uuid"]
            what = f"no {column}" if name is None else unknown_class(name, names)
            raise InputError(f"labels, column {column}: image {some(images.to_list())}: {what}")
    return found.replace_strict(numbers, return_dtype=pl.Int64).to_numpy().astype(np.int64)
