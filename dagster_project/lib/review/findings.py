"""What a returned packet taught: how good the suspicion was, and how wrong the labels are.

Belongs: precision of each kind of candidate, recall, noise rates, rates by class, named confusions;
each with its interval, or null with the reason.
Does not: weights and intervals (``evidence.strata``), agreement (``self_agreement``,
``labels.agreement``), the effect on thresholds (``effect``), words and pictures
(``findings_page``).
Concept: everything is estimated for the frozen frame of one packet from its stratified sample;
what was flagged, named and expected is read from the packet, so that nothing is chosen after
looking at the answers. The definitions are in docs/review-findings.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from dagster_project.lib.evidence import strata
from dagster_project.lib.evidence.rows import hash_numbers, patient_key
from dagster_project.lib.evidence.strata import Sample, Share
from dagster_project.lib.labels.consensus import DECIDED
from dagster_project.lib.labels.drop import NOT_USABLE
from dagster_project.lib.review.sample import Packet, choose_packet, expected
from dagster_project.lib.review.self_agreement import self_agreement

if TYPE_CHECKING:
    import numpy.typing as npt

    Bools = npt.NDArray[np.bool_]

SPLITS = ("test", "train")
ENOUGH = 30
"""Decided reviews that a class needs before it gets a rate."""
MAX_PAIRS = 10
"""Confusions that a packet names: its most frequent flagged pairs of given and predicted label."""
EXPECTED = ("noise_rate", "precision", "recall")
"""Figures that a packet's summary says what to expect of."""
USABLE_KINDS = ("not_skin", "outlier")
"""Kinds of image issue that claim a useless picture, not a wrong label."""


@dataclass(frozen=True)
class Returned:
    """What is known when labels have landed.

    Attributes
    ----------
    packets : of ``sample.read_packets``.
    cleaned : rows of ``cleaned_labels``: ``image_uuid, label, status``, all images.
    reviews : ``image_uuid, reviewer, label``; repeats under their presented id.
    repeats : of ``sample.read_repeats``.
    kinds : ``image_uuid, kind``, image issues that were found without reviews; None: not looked
        for.
    """

    packets: Sequence[Packet]
    cleaned: pl.DataFrame
    reviews: pl.DataFrame
    repeats: pl.DataFrame
    kinds: pl.DataFrame | None = None


def review_findings(
    returned: Returned, *, thresholds: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """All that the reviews taught, as plain JSON.

    Parameters
    ----------
    thresholds : of ``effect.threshold_effect``; None where it is not known.

    Returns
    -------
    ``splits``: for test and train either :func:`split_findings` or ``{"packet": null, "reason"}``;
    ``self_agreement``; ``thresholds``.
    """
    return {
        "splits": {split: _of_split(returned, split) for split in SPLITS},
        "self_agreement": self_agreement(returned.reviews, returned.repeats),
        "thresholds": None if thresholds is None else dict(thresholds),
    }


def _of_split(returned: Returned, split: str) -> dict[str, Any]:
    here = [
        Packet(packet.name, rows, packet.summary)
        for packet in returned.packets
        if (rows := packet.design.filter(pl.col("split") == split)).height
    ]
    if not here:
        return {"packet": None, "reason": f"no packet asks about the {split} split"}
    packet = choose_packet(here, returned.cleaned)
    if packet is None:
        return {"packet": None, "reason": f"no packet of the {split} split has come back"}
    return split_findings(packet, returned.cleaned, returned.kinds)


@dataclass(frozen=True)
class _Answers:
    """The frame of a packet with what became of each image, and the sample behind it.

    ``sample``: of answers, ``not_usable`` among them, because a reviewer who finds a photograph
    useless has looked; ``usable``: all rows but those.
    """

    frame: pl.DataFrame
    sample: Sample | None
    usable: Bools
    wrong: Bools
    undecided: Bools


def split_findings(
    packet: Packet, cleaned: pl.DataFrame, kinds: pl.DataFrame | None = None
) -> dict[str, Any]:
    """What the reviews of one packet say of the frame that it was drawn from.

    Every figure is about the usable photographs with a given label. Those found not usable answer
    for others like them that nobody has looked at, and are counted. A label is wrong where the
    reviewers decided for another one than was given when the packet was built.

    Parameters
    ----------
    packet : its ``design`` holds the images of one split.
    cleaned : ``image_uuid, label, status``.
    kinds : ``image_uuid, kind``.

    Returns
    -------
    ``packet``; ``n_frame, n_asked, n_returned, n_decided, n_undecided, n_not_usable``; ``noise``
    (share of wrong given labels, with ``undecided``: the range if all undecided ones were right,
    or all wrong); ``precision`` (a row a kind of candidate); ``recall``; ``per_class`` and
    ``confusions`` (null and ``too_few`` below :data:`ENOUGH` decided rows); ``reason`` where
    nothing can be estimated. Each figure has ``n`` (rows in the frame, less those found useless),
    ``n_decided``, ``n_patients``, ``n_hits``, ``estimate, se, ci95`` and ``expected`` (of the
    packet's summary, else null).
    """
    joined = packet.design.join(
        cleaned.select("image_uuid", "label", "status"),
        on="image_uuid",
        how="left",
        maintain_order="left",
    ).with_columns(pl.col("status").fill_null("given"))
    asked = joined.filter("asked")
    answers = _answers(joined.filter(pl.col("given_label").is_not_null()))
    counts = {
        "packet": packet.name,
        "n_frame": joined.height,
        "n_asked": asked.height,
        "n_returned": asked.filter(pl.col("status") != "given").height,
        "n_decided": asked.filter(pl.col("status").is_in(DECIDED)).height,
        "n_not_usable": asked.filter(pl.col("status") == NOT_USABLE).height,
        "n_undecided": int(answers.undecided.sum()),
    }
    if answers.sample is None:
        reason = "a stratum without neighbours has no answer: nothing can be estimated"
        return {**counts, "reason": reason}
    known = {name: expected([packet], packet.name, name) for name in EXPECTED}
    sample, wrong = answers.sample, answers.wrong
    flagged = answers.frame["flagged"].to_numpy()
    # of all flagged rows and of all others, useless ones too: their numbers are known
    parts = [strata.share(sample, wrong, x) for x in (flagged, ~flagged)]
    return {
        **counts,
        "reason": None,
        "noise": {
            **_figure(strata.share(sample, wrong, answers.usable), known["noise_rate"]),
            "undecided": _undecided(answers),
        },
        "precision": _precision(answers, known) + _of_kinds(joined, answers, kinds),
        "recall": {**recall(*parts), "expected": known["recall"]},
        "per_class": _per_class(answers),
        "confusions": _confusions(answers, packet.design),
    }


def _answers(rows: pl.DataFrame) -> _Answers:
    frame = rows.with_columns(patient_key()).sort("image_uuid")
    patient, _ = hash_numbers(frame["patient"])
    probability = frame["inclusion_probability"].cast(pl.Float64).fill_null(0.0).to_numpy()
    names, number = strata.numbered(frame["stratum"], probability)
    asked, decided = pl.col("asked"), pl.col("status").is_in(DECIDED)
    useless = pl.col("status") == NOT_USABLE
    about = frame.select(
        answered=asked & (decided | useless),
        usable=~useless,
        wrong=asked & decided & pl.col("label").ne_missing(pl.col("given_label")),
        undecided=asked & ~(decided | useless | (pl.col("status") == "given")),
    )
    answered, usable, wrong, undecided = (about[name].to_numpy() for name in about.columns)
    sample = strata.stratified(names, number, probability, answered, patient)
    return _Answers(frame, sample, usable, wrong, undecided)


def _figure(share: Share, before: Any = None) -> dict[str, Any]:
    return {
        "n": share.n,
        "n_decided": share.n_decided,
        "n_patients": share.n_patients,
        "n_hits": share.n_hits,
        "n_outside": share.n_outside,
        "estimate": share.estimate,
        "se": share.se,
        "ci95": share.ci95,
        "expected": None if before is None else dict(before),
    }


def _undecided(answers: _Answers) -> list[float] | None:
    """The noise rate if every undecided label were right, and if every one were wrong (Manski)."""
    rows = answers.frame.with_columns(
        status=pl.when(pl.lit(answers.undecided)).then(pl.lit(DECIDED[0])).otherwise("status")
    )
    filled = _answers(rows).sample
    if filled is None:
        return None
    hits = (answers.wrong, answers.wrong | answers.undecided)
    ends = [strata.share(filled, hit, answers.usable).estimate for hit in hits]
    return None if None in ends else [float(end or 0.0) for end in ends]


def _precision(answers: _Answers, known: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Share of wrong labels in each kind of candidate, and where nothing was suspected."""
    frame = answers.frame
    flagged, agrees = frame["flagged"].to_numpy(), frame["agrees"].to_numpy()
    tier = frame["tier"].to_numpy()
    kinds: dict[str, Bools] = {
        "flagged": flagged,
        "certain": (frame["stratum"] == strata.CERTAIN).to_numpy(),
        **{f"flagged, {name}": flagged & (tier == name) for name in strata.TIER_ORDER},
        "not flagged": ~flagged,
        **{f"label and model agree, {name}": agrees & (tier == name) for name in strata.TIER_ORDER},
    }
    sample = answers.sample
    assert sample is not None  # noqa: S101 - the caller has seen to it
    return [
        {
            "kind": kind,
            "what": "label wrong",
            **_figure(
                strata.share(sample, answers.wrong, rows & answers.usable),
                known["precision"] if kind == "flagged" else None,
            ),
        }
        for kind, rows in kinds.items()
    ]


def _of_kinds(
    joined: pl.DataFrame, answers: _Answers, kinds: pl.DataFrame | None
) -> list[dict[str, Any]]:
    """The same for image issues; for those that claim a useless picture, share not usable."""
    if kinds is None:
        return []
    pictures = _answers(joined)
    found = []
    for kind in kinds["kind"].unique().sort():
        of_picture = kind in USABLE_KINDS
        side = pictures if of_picture else answers
        members = kinds.filter(pl.col("kind") == kind)["image_uuid"]
        domain = side.frame["image_uuid"].is_in(members.implode()).to_numpy()
        if side.sample is None:
            continue
        if of_picture:
            what, share = "picture not usable", strata.share(side.sample, ~side.usable, domain)
        else:
            share = strata.share(side.sample, side.wrong, domain & side.usable)
            what = "label wrong"
        found.append({"kind": kind, "what": what, **_figure(share)})
    return found


def _too_few(share: Share) -> dict[str, Any]:
    few = share.n_decided < ENOUGH
    blank = {"estimate": None, "se": None, "ci95": None} if few else {}
    return {**_figure(share), **blank, "too_few": few}


def _per_class(answers: _Answers) -> list[dict[str, Any]]:
    """P(wrong | given) of every class, by name."""
    given = answers.frame["given_label"]
    sample = answers.sample
    assert sample is not None  # noqa: S101 - the caller has seen to it
    return [
        {
            "class": name,
            **_too_few(
                strata.share(sample, answers.wrong, (given == name).to_numpy() & answers.usable)
            ),
        }
        for name in given.unique().sort()
    ]


def _confusions(answers: _Answers, design: pl.DataFrame) -> list[dict[str, Any]]:
    """P(reviewers say b | given a) for the pairs (a, b) that the packet named, most flagged first.

    A full transition matrix is not estimable from a packet: K^2 - K rates from some hundred rows.
    """
    frame, sample = answers.frame, answers.sample
    assert sample is not None  # noqa: S101 - the caller has seen to it
    named = (
        design.filter(pl.col("flagged") & (pl.col("given_label") != pl.col("predicted_label")))
        .group_by("given_label", "predicted_label")
        .agg(n_flagged=pl.len())
        .sort(["n_flagged", "given_label", "predicted_label"], descending=[True, False, False])
        .head(MAX_PAIRS)
    )
    found = []
    for given, predicted, n_flagged in named.rows():
        domain = (frame["given_label"] == given).to_numpy()
        hit = answers.wrong & (frame["label"] == predicted).fill_null(value=False).to_numpy()
        share = strata.share(sample, hit, domain & answers.usable)
        found.append(
            {"given": given, "judged": predicted, "n_flagged": n_flagged, **_too_few(share)}
        )
    return found


def recall(flagged: Share, rest: Share) -> dict[str, Any]:
    """Share of all wrong labels that were flagged: N_F p_F / (N_F p_F + N_C e_C).

    The interval is all r for which A (1 - r) - B r = 0 is inside its MOVER interval, with A and B
    the two totals and their own intervals: MOVER-R (Donner and Zou, Stat Methods Med Res
    2012;21:347) of B / A, which r is a falling function of. The two are taken as independent.

    Parameters
    ----------
    flagged, rest : shares of wrong labels among flagged rows and among all others.

    Returns
    -------
    ``estimate`` in [0, 1], ``ci95``; both null where a part is unknown or no label is found wrong.
    """
    parts = []
    for part in (flagged, rest):
        if not part.n:
            parts.append((0.0, 0.0, 0.0))
        elif part.estimate is None or part.low is None or part.high is None:
            return {"estimate": None, "ci95": None}
        else:
            parts.append((part.n * part.estimate, part.n * part.low, part.n * part.high))
    (a, a_low, a_high), (b, b_low, b_high) = parts
    if a + b == 0:
        return {"estimate": None, "ci95": None}
    # odds = (1 - r) / r, so A odds - B = 0; each end solves a quadratic
    most = _odds(a, a - a_low, b, b_high - b, sign=1)
    least = _odds(a, a_high - a, b, b - b_low, sign=-1)
    return {"estimate": a / (a + b), "ci95": [1 / (1 + most), 1 / (1 + least)]}


def _odds(a: float, arm_a: float, b: float, arm_b: float, *, sign: int) -> float:
    """The root of (a x - b)^2 = (arm_a x)^2 + arm_b^2 above or below b / a; may be infinite."""
    left, right = (a - arm_a) * (a + arm_a), (b - arm_b) * (b + arm_b)
    root = float(max((a * b) ** 2 - left * right, 0.0)) ** 0.5
    if sign > 0:
        return (a * b + root) / left if left > 0 else float("inf")
    return right / (a * b + root) if a * b + root > 0 else 0.0
