"""Fitted thresholds: their shape from patients A, their level certified on patients B.

Belongs: dividing patients, putting shape and shift together, what each rank does on B.
Does not: the shape's rule (``shape``), the sequence of tests (``shift``), placing rows (``place``).
Concept: what is chosen on A is free, because nothing is claimed from A; what is claimed rests on B
alone. A guarantee for each rank would need a split for each, frozen in order; here one quantity is
guaranteed, P(placed and wrong), and the accuracies by rank are estimates with intervals.
N = images, R = ranks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dagster_project.lib.errors import InputError, some
from dagster_project.lib.evidence.division import in_first
from dagster_project.lib.evidence.proportion import clustered_interval
from dagster_project.lib.evidence.rows import capped, hash_numbers
from dagster_project.lib.rollup.candidates import all_right, candidate, candidates, is_right
from dagster_project.lib.rollup.config import FitThresholds
from dagster_project.lib.rollup.shape import fit_shape
from dagster_project.lib.rollup.shift import LIMIT, Sample, certify_shift, shifted

if TYPE_CHECKING:
    import numpy.typing as npt

    from dagster_project.lib.rollup.candidates import Candidates
    from dagster_project.lib.rollup.config import RollupConfig
    from dagster_project.lib.rollup.prepare import Prepared
    from dagster_project.lib.rollup.taxonomy import Taxonomy
    from dagster_project.lib.rollup.truth import Truth

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]
    Bools = npt.NDArray[np.bool_]

Aim = Literal["met", "missed", "open"]


@dataclass(frozen=True)
class RankAccuracy:
    """What a rank does on B at the certified thresholds; null where nothing was said there.

    Attributes
    ----------
    n, n_patients : images answered at this rank, and their patients. share : n / images of B.
    accuracy : right / n. low, high : see :func:`fit_thresholds`.
    aim : what the shape was to reach. aim_met : see :func:`against_aim`.
    """

    rank: str
    n: int
    n_patients: int
    share: float | None
    accuracy: float | None
    low: float | None
    high: float | None
    aim: float | None
    aim_met: Aim | None


@dataclass(frozen=True)
class RankThresholds:
    """Thresholds of R ranks and what is known of them.

    Attributes
    ----------
    thresholds : (R,) float64; NaN: never said. All NaN where nothing could be certified.
    shape : (R,) float64 before the shift, NaN where disabled.
    shift : of all logits; None where nothing could be certified.
    disabled : rank -> why it is never said.
    certificate : plain JSON (``shift.certify_shift``).
    accuracies : one a rank, finest first.
    n_a, n_b : ``images``, ``patients`` on each side, after the cap.
    """

    thresholds: Floats
    shape: Floats
    shift: float | None
    disabled: Mapping[str, str]
    certificate: dict[str, Any]
    accuracies: tuple[RankAccuracy, ...]
    n_a: Mapping[str, int]
    n_b: Mapping[str, int]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON, by rank; null for NaN."""
        ranks = [row.rank for row in self.accuracies]

        def named(values: Floats) -> dict[str, float | None]:
            return {
                rank: None if math.isnan(value) else value
                for rank, value in zip(ranks, values.tolist(), strict=True)
            }

        return {
            "thresholds": named(self.thresholds),
            "shape": named(self.shape),
            "shift": self.shift,
            "disabled": dict(self.disabled),
            "certificate": self.certificate,
            "accuracies": [asdict(row) for row in self.accuracies],
            "n_a": dict(self.n_a),
            "n_b": dict(self.n_b),
        }


def fit_thresholds(
    prepared: Prepared,
    truth: Truth,
    taxonomy: Taxonomy,
    config: RollupConfig,
    *,
    looks: int | None = None,
) -> RankThresholds:
    """Fit the shape on patients A and certify one shift of it on patients B.

    A patient is in A if the first 64 bits of sha256(patient), as a share of 2^64, lie below
    ``share_a``; of a patient at most ``max_images_per_patient`` images count, on either side, those
    with the smallest sha256 of their id. Aims are ``accuracy`` by rank; a rank it does not name is
    never said, as with given thresholds; where it names none, every rank aims at 1 - ``target``. An
    accuracy that was asked for is not given up for coverage: the shift then ends at 0, the shape
    itself. Otherwise only the bound counts, and the shift may loosen the shape.

    Parameters
    ----------
    prepared : N rows. truth : of the same rows, in the same order.
    config : ``thresholds`` is a ``FitThresholds``; ``rule`` is one of ``candidates.BY_RANK``.
    looks : how often such rows have been looked at, this time included; None: not counted.

    Returns
    -------
    Where nothing can be certified every threshold is NaN: no row is placed on an unproven bound.
    ``accuracies`` have Bonferroni intervals over the m ranks that are said, jointly at 1 - delta:
    each is ``proportion.clustered_interval`` at 1 - delta / m. Approximate: Wilson with a design
    effect by patient, on the rows that also chose the shift, and on the labels in force, also where
    those were reviewed in part.

    Raises
    ------
    InputError
        Given thresholds, a rule without thresholds by rank, an accuracy for a rank that is none.
    """
    fit = config.thresholds
    if not isinstance(fit, FitThresholds):
        raise InputError("thresholds are given, not fitted; nothing to fit")
    aims = aims_of(fit, taxonomy.ranks)
    a, b, n_dropped = _sides(truth, fit)

    def ask(rank: int, finer: Bools) -> tuple[Floats, Bools]:
        node, score = candidate(prepared, taxonomy, config, finer, rank)
        return score[a], is_right(node, truth.true, taxonomy)[a]

    shape = fit_shape(ask, truth.patient[a], aims)
    found = candidates(prepared, taxonomy, config, ~np.isnan(shape.thresholds))
    sample = _sample(found, truth, taxonomy, b, n_dropped)
    certificate = certify_shift(
        sample,
        shape.thresholds,
        fit,
        loosest=0.0 if fit.accuracy else -LIMIT,
        monotone=config.rule == "lineage",
        looks=looks,
    )
    shift = certificate["shift"]
    thresholds = np.full(len(aims), np.nan) if shift is None else shifted(shape.thresholds, shift)
    return RankThresholds(
        thresholds=thresholds,
        shape=shape.thresholds,
        shift=shift,
        disabled={taxonomy.ranks[rank]: why for rank, why in shape.disabled.items()},
        certificate=certificate,
        accuracies=_accuracies(sample, thresholds, taxonomy.ranks, aims, fit.delta),
        n_a=_sizes(truth.patient[a]),
        n_b=_sizes(sample.patient),
    )


def against_aim(aim: float | None, low: float | None, high: float | None) -> Aim | None:
    """``met`` if the whole interval is at or above the aim, ``missed`` if below, else ``open``.

    >>> against_aim(0.8, 0.81, 0.9), against_aim(0.8, 0.7, 0.79), against_aim(0.8, 0.7, 0.9)
    ('met', 'missed', 'open')
    """
    if aim is None or low is None or high is None:
        return None
    return "met" if low >= aim else "missed" if high < aim else "open"


def aims_of(fit: FitThresholds, ranks: tuple[str, ...]) -> list[float | None]:
    """(R,) the accuracy that each rank aims at; None: it is never said.

    Raises
    ------
    InputError
        An accuracy for a rank that the taxonomy has not.

    >>> aims_of(FitThresholds(target=0.25), ("class", "family"))
    [0.75, 0.75]
    >>> aims_of(FitThresholds(accuracy={"family": 0.9}), ("class", "family"))
    [None, 0.9]
    """
    unknown = [name for name in fit.accuracy if name not in ranks]
    if unknown:
        raise InputError(
            f"thresholds, accuracy: {some(unknown)}: no such rank; the taxonomy has {some(ranks)}"
        )
    return [fit.accuracy.get(rank) if fit.accuracy else 1 - fit.target for rank in ranks]


def _sides(truth: Truth, fit: FitThresholds) -> tuple[Ints, Ints, int]:
    """Rows of A and of B, capped, in the order of their ids; and how many of B the cap left out."""
    rows = capped(truth.keys.with_row_index("at"), fit.max_images_per_patient)
    kept = rows.sort("image_uuid")["at"].to_numpy().astype(np.int64)
    in_a = in_first(truth.keys["patient"], fit.share_a)
    b = kept[~in_a[kept]]
    return kept[in_a[kept]], b, int((~in_a).sum()) - b.size


def _sample(
    found: Candidates, truth: Truth, taxonomy: Taxonomy, at: Ints, n_dropped: int
) -> Sample:
    patient, n_patients = hash_numbers(truth.keys["patient"][at])
    here, review = found.take(at), truth.review
    return Sample(
        here,
        all_right(here, truth.true[at], taxonomy),
        patient,
        n_patients,
        truth.known,
        n_dropped,
        review=None if review is None else review.take(at),
        given_right=None if review is None else all_right(here, review.given[at], taxonomy),
        in_part=review is not None and review.in_part,
    )


def _accuracies(
    sample: Sample,
    thresholds: Floats,
    ranks: tuple[str, ...],
    aims: list[float | None],
    delta: float,
) -> tuple[RankAccuracy, ...]:
    said = sample.candidates.rank_said(thresholds)
    placed = said >= 0
    level = 1 - delta / max(1, int((~np.isnan(thresholds)).sum()))
    right = sample.right[np.arange(said.size), said]
    by_rank = clustered_interval(
        right[placed], sample.patient[placed], said[placed], n_groups=len(ranks), level=level
    )
    found = []
    for at, rank in enumerate(ranks):
        low, high = _known(by_rank.low[at]), _known(by_rank.high[at])
        found.append(
            RankAccuracy(
                rank=rank,
                n=int(by_rank.n[at]),
                n_patients=int(by_rank.n_patients[at]),
                share=int(by_rank.n[at]) / said.size if said.size else None,
                accuracy=_known(by_rank.rate[at]),
                low=low,
                high=high,
                aim=aims[at],
                aim_met=against_aim(aims[at], low, high),
            )
        )
    return tuple(found)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 12)


def _sizes(patient: Ints) -> dict[str, int]:
    return {"images": int(patient.size), "patients": int(np.unique(patient).size)}
