"""Who reviewed the labels, how blindly, how far they agree, and what was left out.

Belongs: ``report["reviews"]``, and the wording that the note and the page share.
Does not: agreement itself (``labels.agreement``), estimates from a review (``partial_review``).
Concept: what an auditor asks of a reference standard before believing a number that rests on it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from dagster_project.lib.review.sample import Packet

HEAD = ("reader", "images", "unsure", "not usable", "agrees with the others' consensus (95 %)")
_AGREEMENT = ("n_images_two_readers", "alpha", "alpha_ci95", "interval_by", "reviewers")
_LEFT_OUT = {
    "not_usable": "judged not usable: in no figure",
    "tie": "in conflict, another reader is needed",
    "single": "with one vote where more are needed",
    "unsure": "on which every reader was unsure",
}


def reviews_of(
    cleaned: pl.DataFrame,
    agreement: Mapping[str, Any],
    policy: Mapping[str, Any],
    packet: Packet | None,
) -> dict[str, Any] | None:
    """``report["reviews"]``: counts and rates, no image and no patient.

    Parameters
    ----------
    cleaned : rows of ``clean_labels``, of the images that are evaluated.
    agreement : of ``agreement_report``.
    policy : ``min_agreeing``, ``references`` (names) of the consensus.
    packet : whose sample counts (``sample.choose_packet``), if any.

    Returns
    -------
    None where nobody has reviewed any of these images.
    """
    looked = cleaned.filter(pl.col("status") != "given")
    if looked.is_empty():
        return None
    asked = None if packet is None else packet.design.filter("asked").join(cleaned, on="image_uuid")
    return {
        "policy": dict(policy),
        "images": dict(looked["status"].value_counts().sort("status").rows()),
        "agreement": {key: agreement[key] for key in _AGREEMENT},
        "packet": None
        if packet is None or asked is None
        else {
            "name": packet.name,
            "n_asked": asked.height,
            "n_returned": asked.filter(pl.col("status") != "given").height,
        },
    }


def reviewer_lines(reviews: Mapping[str, Any]) -> list[str]:
    """Sentences on blinding, consensus, agreement and exclusions, without a full stop at the end.

    Parameters
    ----------
    reviews : of :func:`reviews_of`.
    """
    return [
        _blinding(reviews["packet"]),
        _consensus(reviews["policy"]),
        _agreement(reviews["agreement"]),
        _left_out(reviews["images"]),
    ]


def reviewer_rows(reviews: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Rows under :data:`HEAD`, one a reader."""
    return [
        (
            _clean(row["reviewer"]),
            f"{row['n']:,}",
            f"{row['n_unsure']:,}",
            f"{row['n_not_usable']:,}",
            _share(row["agreement_with_consensus"], row["ci95"]),
        )
        for row in reviews["agreement"]["reviewers"]
    ]


def _clean(reader: object) -> str:
    """The name on one line, without what Markdown or HTML would act on: it came in a file."""
    return " ".join(re.sub(r"[`|<>]", " ", str(reader)).split())


def _blinding(packet: Mapping[str, Any] | None) -> str:
    if packet is None:
        return "The reviews came from no packet: whether readers were blind is not known"
    return (
        f"Blind: packet {packet['name']} showed neither given label, prediction nor score, each "
        f"reader had an own order; {packet['n_returned']:,} of {packet['n_asked']:,} images "
        "came back with at least one answer"
    )


def _consensus(policy: Mapping[str, Any]) -> str:
    references: Sequence[str] = policy["references"]
    stronger = f"; not overruled by readers: {', '.join(references)}" if references else ""
    return (
        f"Consensus: at least {policy['min_agreeing']} agreeing votes and more than any other; "
        f"no model probability is used{stronger}"
    )


def _agreement(found: Mapping[str, Any]) -> str:
    if found["alpha"] is None:
        return "Agreement between readers: not estimable, too few images have two readers"
    return (
        f"Agreement, nominal alpha over {found['n_images_two_readers']:,} images with two or more "
        f"readers: {_number(found['alpha'], found['alpha_ci95'])}"
    )


def _left_out(images: Mapping[str, int]) -> str:
    told = [f"{images[key]:,} {words}" for key, words in _LEFT_OUT.items() if images.get(key)]
    if not told:
        return "Excluded or undecided: no reviewed image"
    return f"Excluded or undecided: {'; '.join(told)}; undecided images keep the given label"


def _share(value: float | None, ends: Sequence[float] | None) -> str:
    if value is None:
        return "undefined"
    told = f"{100 * value:.1f} %"
    return told if ends is None else f"{told} ({100 * ends[0]:.1f} to {100 * ends[1]:.1f} %)"


def _number(value: float, ends: Sequence[float] | None) -> str:
    told = f"{value:.2f}"
    return told if ends is None else f"{told} (95 %: {ends[0]:.2f} to {ends[1]:.2f})"
