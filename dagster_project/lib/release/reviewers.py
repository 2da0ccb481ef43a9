"""Who reviewed the labels, how blindly, how far they agree, and what was left out.

Belongs: the wording that the note and the page share, from ``report["reviews"]``.
Does not: agreement itself (``labels.agreement``), estimates from a review (``partial_review``).
Concept: what an auditor asks of a reference standard before believing a number that rests on it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

HEAD = ("reader", "images", "unsure", "not usable", "agrees with the others' consensus (95 %)")
_LEFT_OUT = {
    "not_usable": "judged not usable: in no figure",
    "tie": "in conflict, another reader is needed",
    "single": "with one vote where more are needed",
    "unsure": "on which every reader was unsure",
}


def reviewer_lines(reviews: Mapping[str, Any]) -> list[str]:
    """Sentences on blinding, consensus, agreement and exclusions, without a full stop at the end.

    Parameters
    ----------
    reviews : ``policy`` (of ``labels.consensus``), ``images`` (number of images by status),
        ``agreement`` (of ``agreement_report``), ``packet`` (``name, n_asked, n_returned``, or null
        where the reviews came from none).
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
