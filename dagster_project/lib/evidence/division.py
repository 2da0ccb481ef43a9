"""Dividing patients in two: one side chooses, the other is claimed from.

Belongs: which side a patient is on.
Does not: cross-validation folds (``lib.folds``), the order of patients (``rows``).
Concept: the side follows from the sha256 of the name alone, so that no seed can be shopped and a
patient's images never part.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    import numpy.typing as npt


def in_first(patients: pl.Series, share: float) -> npt.NDArray[np.bool_]:
    """(N,) whether a patient is on the first side: the first 64 bits of its sha256 < share 2^64.

    >>> in_first(pl.Series(["patient:b", "patient:c", "patient:b"]), 0.5).tolist()
    [True, False, True]
    """
    names = patients.unique()
    firsts = (
        int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) < share * 2.0**64
        for name in names
    )
    # a dictionary of millions of names takes as much memory as all the rest
    sides = np.fromiter(firsts, dtype=bool, count=len(names))
    sided = pl.DataFrame({"patient": names, "first": sides})
    rows = patients.to_frame("patient").join(sided, on="patient", how="left", maintain_order="left")
    return rows["first"].to_numpy().astype(bool)
