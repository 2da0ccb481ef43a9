"""Upper bounds on a share of images, by independent patients.

Belongs: the bound that the certificate's test (``certificate.share_p_values``) would refute, as a
number.
Does not: sequences of thresholds (``certificate``), reviews in part (``review_bound``).
Concept: one image a patient, Clopper-Pearson; otherwise the betting test turned round. N = images,
P = patients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from dagster_project.lib.evidence import betting

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]
    Ints = npt.NDArray[np.int64]

STEPS = 40
"""Halvings of the search for a bound: 1e-12."""


def clopper_pearson(k: int, n: int, delta: float) -> float:
    """Upper bound on a share of which k of n independent rows were hits.

    >>> round(clopper_pearson(0, 59, 0.05), 4)
    0.0495
    """
    from scipy.special import betaincinv

    return 1.0 if k >= n else float(betaincinv(k + 1, n - k, 1 - delta))


def upper_by_patient(
    patient: Ints, losses: Floats | Bools, delta: float, *, max_images: int
) -> float:
    """Upper bound on the mean of ``losses``, 0 or 1, over images, by independent patients.

    One image a patient: Clopper-Pearson. Otherwise the largest alpha that the betting test
    does not refute with Y_p = (sum over the patient's images of (loss - alpha)) / ``max_images`` +
    alpha, which lies in [0, 1] and has a mean of at least alpha if the mean over images is.

    Parameters
    ----------
    patient : (N,) numbers of patients, in an order fixed without the losses.
    losses : (N,). max_images : declared, never read off the rows.

    Raises
    ------
    ValueError
        A patient has more than ``max_images`` images.
    """
    check_size(patient, max_images)
    if np.bincount(patient).max(initial=1) == 1:
        return clopper_pearson(int(losses.sum()), losses.size, delta)
    return betting_bound(patient, losses, delta, max_images=max_images)


def betting_bound(patient: Ints, losses: Floats | Bools, delta: float, *, max_images: int) -> float:
    """:func:`upper_by_patient` by betting, however many images a patient has."""
    total, size = patient_losses(patient, losses)
    needed = np.log(1 / delta)

    def refuted(alpha: float) -> bool:
        values = np.clip(total / max_images + alpha * (1 - size / max_images), 0, 1)
        return bool(betting.log_wealth(values[None, :], alpha, delta=delta)[0] >= needed)

    return smallest(refuted)


def check_size(patient: Ints, max_images: int) -> None:
    """Raise ``ValueError`` if a patient has more than ``max_images`` images."""
    most = np.bincount(patient).max(initial=0)
    if most > max_images:
        raise ValueError(f"a patient has {most} images, over the declared {max_images}")


def patient_losses(patient: Ints, losses: Floats | Bools) -> tuple[Floats, Ints]:
    """Sums of losses and numbers of rows of the patients that have any, in hash order."""
    _, number = np.unique(patient, return_inverse=True)
    return np.bincount(number, losses).astype(np.float64), np.bincount(number)


def smallest(refuted: Callable[[float], bool]) -> float:
    """The smallest share that is refuted with all above it, rounded up; 1 if none is."""
    low, high = 0.0, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        if refuted(middle):
            high = middle
        else:
            low = middle
    return high
