"""Paired differences by patient: what one checkpoint gets right that another does not.

Belongs: the z of a difference, its p, Holm's adjustment, a comparison of two configurations.
Does not: intervals (``resampled``), judging a difference (``verdict``), levels (``measures``).
Concept: the patient is the independent unit. With d_p the difference in right answers over all of
patient p's images, z = sum d_p / sqrt(sum d_p^2): if neither side is better, each d_p is as likely
with the other sign. Images of a patient share their fate, so that a test by images (McNemar's)
calls far too many differences real. N = images, P = patients, K = classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from dagster_project.lib.errors import InputError, some
from dagster_project.lib.evidence.bootstrap import SEED
from dagster_project.lib.scorecard.comparison import (
    MEASURES,
    ClassDifference,
    Comparison,
    Difference,
)
from dagster_project.lib.scorecard.outcomes import Outcomes, averages, class_counts, outcomes
from dagster_project.lib.scorecard.resampled import DRAWS, Intervals, intervals

if TYPE_CHECKING:
    import numpy.typing as npt

    from dagster_project.lib.scorecard.answers import Answers

    Ints = npt.NDArray[np.int64]

MIN_PATIENTS = 30
"""From so many patients on, z is taken to be normal; below, all sign patterns are counted."""

Method = Literal["normal", "sign_flips"]


@dataclass(frozen=True)
class SignTest:
    """A difference by patient; all None where no patient differs.

    Attributes
    ----------
    z : above 0 where the configuration has more right answers.
    p : two-sided. method : how it was found.
    """

    z: float | None
    p: float | None
    method: Method | None


def compare(
    answers: Answers, baseline: str, *, draws: int = DRAWS, seed: int = SEED
) -> dict[str, Comparison]:
    """Every other configuration against ``baseline``, in the order of ``answers.probs``.

    Parameters
    ----------
    draws, seed : of the bootstrap (``resampled.intervals``); 0 draws: no intervals.

    Returns
    -------
    Estimates are the differences of ``outcomes.averages`` and of recalls. z and p (``sign_test``)
    for top-1, top-3 and the recall of each class, with Holm's adjustment over the classes that have
    a p. The same for any order of the images; swapping the two sides negates everything.

    Raises
    ------
    InputError
        No configuration has the baseline's name.

    >>> import polars as pl
    >>> from dagster_project.lib.scorecard.answers import Answers
    >>> sure, unsure = np.array([[.9, .1], [.9, .1]]), np.array([[.9, .1], [.1, .9]])
    >>> answers = Answers(("a", "b"), pl.Series(["i", "j"]), np.arange(2), 2, True,
    ...                   np.array([0, 0]), {"old": unsure, "new": sure})
    >>> found = compare(answers, "old")["new"].differences["top1"]
    >>> found.estimate, found.z, found.p
    (0.5, 1.0, 1.0)
    """
    if baseline not in answers.probs:
        raise InputError(
            f'baseline "{baseline}": no such configuration; there are {some(list(answers.probs))}'
        )
    found = {name: outcomes(probs, answers.true) for name, probs in answers.probs.items()}
    spread = intervals(answers, found, baseline, draws=draws, seed=seed)
    cells = _cells(answers)
    return {
        name: _comparison(answers, cells, (baseline, found[baseline]), (name, of), spread[name])
        for name, of in found.items()
        if name != baseline
    }


def sign_test(differences: Ints, n_patients: int) -> SignTest:
    """Test whether patients' differences are 0 on average: z and p.

    z = sum d / sqrt(sum d^2). From ``MIN_PATIENTS`` patients on p is that of a standard normal.
    Below, it is the share of the 2^m sign patterns of the m patients that differ whose |sum| is at
    least the one seen; all of them are counted (sums of subsets, by convolution), so that it is
    exact where the signs are exchangeable, and needs no seed. Its least value is 2^(1 - m).

    Parameters
    ----------
    differences : (m,) whole numbers, one a patient; zeros say nothing and may be left out.
    n_patients : patients that could differ: those with an image.

    Returns
    -------
    All None where no patient differs: 0/0. Such a comparison has shown nothing, which is not the
    same as a p of 1 that was earned, and it must not weigh in Holm's adjustment. Given the sizes
    |d| it could not have been small, so that leaving it out keeps the error rate.

    >>> sign_test(np.array([1, 1, 1, 1, -1]), 5)
    SignTest(z=1.3416407864998738, p=0.375, method='sign_flips')
    >>> sign_test(np.array([0, 0]), 2)
    SignTest(z=None, p=None, method=None)
    """
    differing = differences[differences != 0].astype(np.int64)
    if not differing.size:
        return SignTest(None, None, None)
    total = int(differing.sum())
    z = total / math.sqrt(int((differing**2).sum()))
    if n_patients >= MIN_PATIENTS:
        return SignTest(z, math.erfc(abs(z) / math.sqrt(2)), "normal")
    return SignTest(z, _share_of_patterns(np.abs(differing), abs(total)), "sign_flips")


def _share_of_patterns(sizes: Ints, seen: int) -> float:
    """Share of sign patterns of ``sizes`` (fewer than 62) with |sum| >= ``seen``."""
    most = int(sizes.sum())
    # a pattern that turns a subset of sum t has the sum most - 2t
    ways = np.zeros(most + 1, dtype=np.int64)
    ways[0] = 1
    for size in sizes.tolist():
        ways[size:] += ways[: most + 1 - size].copy()
    one_side = int(ways[: (most - seen) // 2 + 1].sum())
    return 1.0 if seen == 0 else 2 * one_side / 2.0**sizes.size


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment over the m entries that are not None (Scand. J. Stat. 6, 1979).

    max over the i-th smallest and all before it of min(1, (m - i + 1) p): a family of which each
    adjusted p < alpha is called has a chance of at most alpha of a single false call, whatever the
    dependence. Equal p stay equal; None stays None.

    >>> holm([0.01, None, 0.04, 0.03])
    [0.03, None, 0.06, 0.06]
    """
    known = sorted((value, at) for at, value in enumerate(p) if value is not None)
    adjusted: list[float | None] = [None] * len(p)
    highest = 0.0
    for before, (value, at) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - before) * value))
        adjusted[at] = highest
    return adjusted


@dataclass(frozen=True)
class _Cells:
    """Pairs (class, patient) that have an image.

    Attributes
    ----------
    of : (N,) the pair of each image. group : the class of each pair.
    """

    of: Ints
    group: Ints


def _cells(answers: Answers) -> _Cells:
    key = answers.true * answers.n_patients + answers.patient
    pairs, of = np.unique(key, return_inverse=True)
    return _Cells(of, pairs // answers.n_patients)


def _comparison(
    answers: Answers,
    cells: _Cells,
    base: tuple[str, Outcomes],
    config: tuple[str, Outcomes],
    spread: Intervals,
) -> Comparison:
    k = len(answers.classes)
    before, after = (averages(of, answers.true, k) for of in (base[1], config[1]))
    tests = {
        measure: sign_test(_sums(new.astype(np.int64) - old, answers.patient), answers.n_patients)
        for measure, old, new in (
            ("top1", base[1].right, config[1].right),
            ("top3", base[1].top3, config[1].top3),
        )
    }
    return Comparison(
        baseline=base[0],
        config=config[0],
        differences={
            name: _difference(after[name] - before[name], spread.measures[name], tests.get(name))
            for name in MEASURES
        },
        per_class=_per_class(answers, cells, base[1], config[1], spread),
    )


def _per_class(
    answers: Answers, cells: _Cells, base: Outcomes, config: Outcomes, spread: Intervals
) -> tuple[ClassDifference, ...]:
    k = len(answers.classes)
    before, after = (class_counts(of, answers.true, k) for of in (base, config))
    differences = _sums(config.right.astype(np.int64) - base.right, cells.of)
    patients = np.bincount(cells.group, minlength=k)
    tests = [sign_test(differences[cells.group == at], int(patients[at])) for at in range(k)]
    adjusted = holm([test.p for test in tests])
    found = []
    for at, name in enumerate(answers.classes):
        n = int(before.n[at])
        change = (int(after.n_right[at]) - int(before.n_right[at])) / n if n else None
        found.append(
            ClassDifference(
                name=name,
                n=n,
                n_patients=int(patients[at]),
                baseline=float(before.recall[at]) if n else None,
                recall=float(after.recall[at]) if n else None,
                difference=_difference(change, spread.recalls[at], tests[at]),
                method=tests[at].method,
                p_holm=adjusted[at],
            )
        )
    return tuple(found)


def _difference(
    estimate: float | None, ends: tuple[float, float] | None, test: SignTest | None
) -> Difference:
    low, high = ends if ends is not None and estimate is not None else (None, None)
    if test is None:
        return Difference(estimate, low, high)
    return Difference(estimate, low, high, test.z, test.p)


def _sums(values: Ints, of: Ints) -> Ints:
    """``values`` added up by ``of``; whole floats are exact to 2^53."""
    return np.bincount(of, weights=values).astype(np.int64)
