"""What a packet can and cannot show, before it is sent, and what size would.

Belongs: expected errors of the estimates that a design allows, the sizes for narrower ones, words.
Does not: estimating from reviews (``evidence.partial_review``); the design itself (``design``).
Concept: the variance of a stratified estimate at assumed shares of wrong labels (Cochran, Sampling
Techniques, 3rd ed. 1977, 5.3), that of a ratio by the delta method. Half-widths are 1.96 standard
errors: what to expect, not an interval that anybody will report.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from dagster_project.lib.evidence.proportion import Z95
from dagster_project.lib.evidence.strata import CERTAIN
from dagster_project.lib.review.findings import ENOUGH

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from dagster_project.lib.review.design import Plan, Priors

    Floats = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]

RECALL_GOAL, WRONG_GOAL = 0.05, 0.01
"""Half-widths that a size is given for: of the recall of the flags, and of W."""


def expected_precision(plan: Plan, n_outside: int = 0) -> dict[str, Any]:
    """How well the design is expected to pin down each figure, as plain JSON.

    For a figure sum a_c p_c over the cells c (stratum x tier x agreement x flag) with N_c images,
    of which n_c are decided, V = sum a_c^2 (1 - n_c/N_c) p_c (1 - p_c) d_c / n_c; p_c is the prior,
    d_c = 1 + (sum s^2 / sum s - 1) likeness the design effect of patients with s images each. In W
    the correction of an image is 0 or 1 where label and prediction agree, 0 or -1 where they
    differ; a wrong label that differs is taken to be the predicted class.

    Parameters
    ----------
    plan : of ``design.plan_sample``.
    n_outside : images of the split that are not in the frame; only counted.

    Returns
    -------
    ``n_frame, n_outside, n_asked, n_certain`` (expected images asked), ``n_strata``,
    ``noise_rate, precision, recall, confident_wrong`` (each ``{"expected", "half_width"}``, shares;
    null where there is nothing to estimate it from), ``hidden`` (confident images whose label
    agrees: ``n_decided``, ``n_effective``, ``smallest`` share of wrong ones among them that shows
    at least one with 95 %, ``smallest_confident_wrong`` the same as a share of all images),
    ``size_for`` (``recall``, ``confident_wrong``: ``{"half_width", "n"}``, images asked in all
    with the same proportions; n null where no size does), ``n_classes_with_30, n_classes``,
    ``priors``.
    """
    cells = _Cells(plan)
    return {
        "n_frame": plan.rows.height,
        "n_outside": n_outside,
        "n_asked": float(cells.asked().sum()),
        "n_certain": plan.rows.filter(pl.col("stratum") == CERTAIN).height,
        "n_strata": plan.strata.filter(pl.col("stratum") != CERTAIN).height,
        "noise_rate": cells.share(np.ones_like(cells.flagged)),
        "precision": cells.share(cells.flagged),
        "recall": cells.recall(),
        "confident_wrong": cells.confident_wrong(),
        "hidden": cells.hidden(),
        "size_for": {
            "recall": {"half_width": RECALL_GOAL, "n": cells.size_for("recall", RECALL_GOAL)},
            "confident_wrong": {
                "half_width": WRONG_GOAL,
                "n": cells.size_for("confident_wrong", WRONG_GOAL),
            },
        },
        **_classes(plan),
        "priors": vars(plan.sampling.priors),
    }


def recall_error(
    found: float, found_variance: float, missed: float, missed_variance: float
) -> float:
    """Standard error of recall r = A / (A + B) from independent estimates of A and B.

    Delta method: Var r = (B^2 Var A + A^2 Var B) / (A + B)^4.

    Parameters
    ----------
    found, found_variance : wrong labels among flagged images (A > 0), and its variance.
    missed, missed_variance : among all others (B).

    300 flagged and 300 other images reviewed, 7 % of all labels wrong, precision .88 and recall
    .55: recall is known to 15 points.

    >>> share, e = 0.045, 0.034  # flagged images; wrong labels among the others
    >>> var_a, var_b = share**2 * 0.88 * 0.12 / 300, (1 - share) ** 2 * e * (1 - e) / 300
    >>> round(1.96 * recall_error(share * 0.88, var_a, (1 - share) * e, var_b), 3)
    0.15
    """
    top = missed**2 * found_variance + found**2 * missed_variance
    return float(np.sqrt(top) / (found + missed) ** 2)


def sentences(found: Mapping[str, Any]) -> list[str]:
    """:func:`expected_precision` in words: what the packet can show, what not, what size would."""
    asked = round(found["n_asked"])
    hidden, sizes, priors = found["hidden"], found["size_for"], found["priors"]
    lines = [
        f"Asks about {asked:,} of {found['n_frame']:,} images: {found['n_certain']} with "
        f"certainty, the others drawn from {found['n_strata']} strata.",
        f"Expected of it: share of wrong labels {_known(found['noise_rate'])}; flags: precision "
        f"{_known(found['precision'])}, recall {_known(found['recall'])}; confident and wrong, of "
        f"all images, {_known(found['confident_wrong'])}.",
    ]
    if hidden["smallest"] is not None:
        lines.append(
            f"Errors that label and confident prediction share: {hidden['n_decided']:.0f} such "
            f"images are judged. If {hidden['smallest']:.1%} of them are wrong "
            f"({hidden['smallest_confident_wrong']:.1%} of all images), at least one shows with a "
            "probability of 95 %; fewer may stay unseen."
        )
    for name, words in (("recall", "recall"), ("confident_wrong", "confident and wrong")):
        if sizes[name]["n"] is not None and sizes[name]["n"] > asked:
            size, goal = sizes[name]["n"], 100 * sizes[name]["half_width"]
            unit = "point" if goal == 1 else "points"
            lines.append(f"For {words} to ± {goal:.0f} {unit} ask about {size:,} images.")
    lines += [
        f"Not shown: rates by class ({found['n_classes_with_30']} of {found['n_classes']} classes "
        f"can expect {ENOUGH} judgements), a matrix of confusions, errors of the reviewers"
        + (
            f", the {found['n_outside']:,} images without probabilities, label or photograph."
            if found["n_outside"]
            else "."
        ),
        f"Assumed: {priors['agrees']:.0%} of labels wrong where they agree with the prediction, "
        f"{priors['differs']:.0%} where they differ, {priors['differs_flagged']:.0%} where flagged "
        f"too; {priors['undecided']:.0%} of judgements undecided.",
    ]
    return lines


def _known(figure: Mapping[str, float] | None) -> str:
    if figure is None:
        return "unknown (nothing to estimate it from)"
    return f"{figure['expected']:.1%} ± {100 * figure['half_width']:.1f} points"


class _Cells:
    """The cells of a plan as arrays (C,): images, probability of being asked, prior, effect."""

    def __init__(self, plan: Plan) -> None:
        by = ["stratum", "tier", "agrees", "flagged"]
        rows = plan.rows.filter("readable")
        sizes = rows.group_by([*by, "patient"]).len("s")
        effect = sizes.group_by(by).agg(likely=(pl.col("s") ** 2).sum() / pl.col("s").sum())
        cells = (
            rows.group_by(by)
            .agg(n=pl.len(), probability=pl.col("inclusion_probability").first())
            .join(effect, on=by)
            .sort(by)
        )
        self.priors: Priors = plan.sampling.priors
        self.n: Floats = cells["n"].to_numpy().astype(np.float64)
        self.probability: Floats = cells["probability"].to_numpy()
        self.agrees: Bools = cells["agrees"].to_numpy()
        self.flagged: Bools = cells["flagged"].to_numpy()
        self.confident: Bools = (cells["tier"] == "confident").to_numpy()
        self.effect: Floats = 1 + (cells["likely"].to_numpy() - 1) * self.priors.likeness
        self.p: Floats = np.array(
            [
                self.priors.wrong(agrees=bool(a), flagged=bool(f))
                for a, f in zip(self.agrees, self.flagged, strict=True)
            ]
        )

    def asked(self, times: float = 1.0) -> Floats:
        """Images asked about, were every probability ``times`` as high (and at most 1)."""
        return np.minimum(times * self.probability, 1.0) * self.n

    def variance(self, part: Bools, times: float = 1.0) -> float:
        """Of the estimated number of wrong labels in the cells of ``part``."""
        decided = self.asked(times) * (1 - self.priors.undecided)
        with np.errstate(divide="ignore", invalid="ignore"):
            each = (1 - decided / self.n) * self.p * (1 - self.p) * self.effect / decided
        return float((self.n[part] ** 2 * each[part]).sum())

    def share(self, part: Bools) -> dict[str, float] | None:
        """Share of wrong labels among the images of ``part``."""
        n = float(self.n[part].sum())
        if not n:
            return None
        expected = float((self.n * self.p)[part].sum()) / n
        return _figure(expected, np.sqrt(self.variance(part)) / n)

    def recall(self, times: float = 1.0) -> dict[str, float] | None:
        """Flagged wrong labels / wrong labels."""
        wrong = self.n * self.p
        found, missed = float(wrong[self.flagged].sum()), float(wrong[~self.flagged].sum())
        if not found:
            return None
        error = recall_error(
            found, self.variance(self.flagged, times), missed, self.variance(~self.flagged, times)
        )
        return _figure(found / (found + missed), error)

    def confident_wrong(self, times: float = 1.0) -> dict[str, float] | None:
        """W: confident images whose prediction is wrong / all images."""
        wrong = np.where(self.agrees, self.p, 1 - self.p) * self.n
        n = float(self.n.sum())
        if not self.confident.any():
            return None
        error = np.sqrt(self.variance(self.confident, times)) / n
        return _figure(float(wrong[self.confident].sum()) / n, error)

    def hidden(self) -> dict[str, float | None]:
        """What can be seen of errors that the label shares with a confident prediction."""
        part = self.confident & self.agrees
        decided = (self.asked() * (1 - self.priors.undecided))[part]
        effective = float((decided / self.effect[part]).sum())
        smallest = 1 - 0.05 ** (1 / effective) if effective > 0 else None
        of_all = float(self.n[part].sum() / self.n.sum())
        return {
            "n_decided": float(decided.sum()),
            "n_effective": effective,
            "smallest": smallest,
            "smallest_confident_wrong": None if smallest is None else smallest * of_all,
        }

    def size_for(self, name: str, half_width: float) -> int | None:
        """Images to ask about, in the same proportions, for that half-width of a figure."""
        figure = {"recall": self.recall, "confident_wrong": self.confident_wrong}[name]

        def wide(times: float) -> bool:
            found = figure(times)
            return found is None or not found["half_width"] <= half_width

        low, high = 0.0, float(1 / self.probability[self.probability > 0].min(initial=1.0))
        if wide(high):
            return None
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if wide(middle) else (low, middle)
        return int(np.ceil(self.asked(high).sum()))


def _figure(expected: float, error: float) -> dict[str, float]:
    return {"expected": expected, "half_width": float(Z95 * error)}


def _classes(plan: Plan) -> dict[str, int]:
    decided = pl.col("inclusion_probability").sum() * (1 - plan.sampling.priors.undecided)
    counts = plan.rows.group_by("given_label").agg(n=decided)
    return {
        "n_classes_with_30": counts.filter(pl.col("n") >= ENOUGH).height,
        "n_classes": counts.height,
    }
