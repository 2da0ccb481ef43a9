"""Dividing patients in two: one side chooses, the other is claimed from.

Belongs: which side a patient is on.
Does not: cross-validation folds (``lib.folds``), the order of patients (``rows``).
Concept: the side follows from the sha256 of the name alone, so that no seed can be shopped and a
patient's images never part.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    Bools = npt.NDArray[np.bool_]


def in_first(patients: pl.Series, share: float) -> Bools:
    """(N,) whether a patient is on the first side: the first 64 bits of its sha256 < share 2^64.

    >>> in_first(pl.Series(["patient:b", "patient:c", "patient:b"]), 0.5).tolist()
    [True, False, True]
    """
    names = patients.unique()
    # a dictionary of millions of names takes as much memory as all the rest
    sided = pl.DataFrame({"patient": names, "first": below(first_bits(names), share)})
    rows = patients.to_frame("patient").join(sided, on="patient", how="left", maintain_order="left")
    return rows["first"].to_numpy().astype(bool)


def first_bits(names: Iterable[str]) -> npt.NDArray[np.uint64]:
    """(P,) the first 64 bits of each name's sha256."""
    digests = (int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) for name in names)
    return np.fromiter(digests, dtype=np.uint64)


def below(bits: npt.NDArray[np.uint64], share: float) -> Bools:
    """(P,) bits < share 2^64, exactly: none at share 0, all at share 1."""
    limit = math.ceil(share * 2.0**64)
    return bits < np.uint64(limit) if limit < 1 << 64 else np.ones(bits.shape, dtype=bool)
