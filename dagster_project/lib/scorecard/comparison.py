"""The shapes that the rooms of a scorecard hand each other: differences, and what is said of them.

Belongs: plain values without a formula.
Does not: computing any (``paired``, ``resampled``), judging them (``verdict``).
Concept: every difference is configuration minus baseline on the same rows. Undefined is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

MEASURES = ("top1", "top3", "balanced_accuracy", "macro_f1", "brier", "nll")
"""Measures that have a paired difference; the last two are better low."""

LOSSES = ("brier", "nll")


@dataclass(frozen=True)
class Difference:
    """Configuration minus baseline.

    Attributes
    ----------
    estimate : in the measure's own unit (shares in [-1, 1]); None where either is undefined.
    low, high : approximate 95 % interval of the patient bootstrap; None below two patients.
    z, p : by patient (``paired``), two-sided; None where the measure has no such test, or no
        patient differs.
    """

    estimate: float | None
    low: float | None
    high: float | None
    z: float | None = None
    p: float | None = None


@dataclass(frozen=True)
class ClassDifference:
    """One class's recall, before and after.

    Attributes
    ----------
    n, n_patients : images labelled so, and their patients.
    n_effective : how many patients with equally many images they are worth, (sum m)^2 / sum m^2
        for m images a patient (Kish, Survey Sampling, 1965, section 8.2); 0 without an image.
    baseline, recall : recalls in [0, 1]; None without an image.
    method : how ``difference.p`` was found; None where no patient differs.
    p_holm : adjusted over all classes of this comparison (Holm 1979); None without ``p``.
    """

    name: str
    n: int
    n_patients: int
    n_effective: float
    baseline: float | None
    recall: float | None
    difference: Difference
    method: Literal["normal", "sign_flips"] | None
    p_holm: float | None


@dataclass(frozen=True)
class Comparison:
    """A configuration against the baseline.

    Attributes
    ----------
    differences : one for each of :data:`MEASURES`.
    per_class : (K,) in class order.
    """

    baseline: str
    config: str
    differences: Mapping[str, Difference]
    per_class: tuple[ClassDifference, ...]


Word = Literal["KEEP", "NEUTRAL", "REJECT"]


@dataclass(frozen=True)
class Verdict:
    """What the declared rule says, and the sentence that explains it.

    Attributes
    ----------
    sentence : for a person; names classes, numbers and margins.
    unclear : classes of which a fall beyond the margin cannot be excluded.
    fallen : classes whose recall fell by more than allowed, beyond chance.
    """

    word: Word
    sentence: str
    unclear: tuple[str, ...] = ()
    fallen: tuple[str, ...] = ()
