"""Rows by patient: the arrays that every statistic of this room counts.

Belongs: patients in hash order, the cap on images a patient, one row a patient or not.
Does not: any statistic; where rows come from (``tiers.scored_rows``).
Concept: the patient is the independent unit. Patients are ordered by sha256 of their id, so that
no seed can be shopped and the order of the input never matters. N = images, P = patients.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True)
class PatientRows:
    """Images with the patient each belongs to.

    Attributes
    ----------
    score : (N,) float64, a stored float32 widened exactly; in [0, 1] of tiers, of
        gates any, infinite too.
    top1, top3 : (N,) bool, whether the truth is the best, or among the three best classes.
    patient : (N,) int64 in 0..P-1, patients numbered by the sha256 of their id.
    n_patients : P.
    known : whether every image names its patient; one that does not counts as its own patient.
    n_dropped : images left out by the cap.
    """

    score: npt.NDArray[np.float64]
    top1: npt.NDArray[np.bool_]
    top3: npt.NDArray[np.bool_]
    patient: npt.NDArray[np.int64]
    n_patients: int
    known: bool
    n_dropped: int = 0

    @property
    def single(self) -> bool:
        """Every patient has exactly one image."""
        return self.n_patients == self.score.size

    def __len__(self) -> int:
        """N, images."""
        return int(self.score.size)


def patient_rows(scored: pl.DataFrame, *, max_images: int | None = None) -> PatientRows:
    """Scored rows as arrays by patient.

    Parameters
    ----------
    scored : (N,) rows with ``image_uuid``, ``patient_id`` (null where unknown), ``score``,
        ``top1``, ``top3``. Their order does not matter.
    max_images : images a patient at most; of more, those with the smallest sha256 of
        ``image_uuid`` are kept. None: all.
    """
    known = scored["patient_id"].null_count() == 0
    rows = scored.select(
        "image_uuid",
        pl.col("score").cast(pl.Float64),
        "top1",
        "top3",
        patient_key() if not known else pl.col("patient_id").alias("patient"),
    )
    kept = rows if max_images is None else capped(rows, max_images)
    kept = kept.sort("image_uuid")
    patient, n_patients = hash_numbers(kept["patient"])
    return PatientRows(
        score=kept["score"].to_numpy(),
        top1=kept["top1"].to_numpy(),
        top3=kept["top3"].to_numpy(),
        patient=patient,
        n_patients=n_patients,
        known=known,
        n_dropped=rows.height - kept.height,
    )


def patient_key() -> pl.Expr:
    """``patient``: the patient's id, and the image's own where none is known; never the same."""
    return (
        pl.when(pl.col("patient_id").is_null())
        .then("image:" + pl.col("image_uuid"))
        .otherwise("patient:" + pl.col("patient_id"))
        .alias("patient")
    )


def hash_numbers(patients: pl.Series) -> tuple[npt.NDArray[np.int64], int]:
    """(N,) the number of each row's patient, 0..P-1 by the sha256 of the name; and P."""
    names = patients.unique().sort()
    hashes = (hashlib.sha256(name.encode()).digest() for name in names)
    digests = np.fromiter(hashes, dtype="S32", count=len(names))  # a list takes four times as much
    # equal digests are out of reach; the stable sort of sorted names settles even those
    number = np.empty(len(names), dtype=np.int64)
    number[np.argsort(digests, kind="stable")] = np.arange(len(names))
    order = pl.DataFrame({"patient": names, "number": number})
    rows = patients.to_frame("patient").join(order, on="patient", how="left", maintain_order="left")
    return rows["number"].to_numpy(), len(names)


def capped(rows: pl.DataFrame, max_images: int) -> pl.DataFrame:
    """``rows`` without what a ``patient`` has beyond ``max_images``; see :func:`patient_rows`."""
    crowded = rows.filter(pl.len().over("patient") > max_images)
    if crowded.is_empty():
        return rows
    digests = [hashlib.sha256(name.encode()).hexdigest() for name in crowded["image_uuid"]]
    kept = (
        crowded.with_columns(pl.Series("digest", digests))
        .sort("digest", "image_uuid")
        .group_by("patient", maintain_order=True)
        .head(max_images)
    )
    rest = rows.join(crowded.select("image_uuid"), on="image_uuid", how="anti")
    return pl.concat([rest, kept.select(rest.columns)])
