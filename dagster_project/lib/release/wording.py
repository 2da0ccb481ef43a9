"""The words that the report uses for rules, claims and outcomes, in Markdown and on the page.

Belongs: half-sentences by key, and what looks cost in words, so that both reports say the same.
Does not: numbers, sections (``note``, ``report_page``).
Concept: one place a term; ``{target}`` is a share in per cent, ``{value}`` a threshold.
"""

from __future__ import annotations


def looked(looks: int, delta: float) -> str:
    """How often rows have been looked at, and what that leaves of a promise made at ``delta``.

    >>> looked(1, 0.05)
    'Look 1 at these rows: wrong with probability 5 % at most.'
    >>> looked(3, 0.05)
    'Look 3 at these rows: any of the 3 is wrong with probability 15 % at most, together.'
    """
    risk = f"{100 * min(1.0, looks * delta):.3g} %"
    if looks == 1:
        return f"Look 1 at these rows: wrong with probability {risk} at most."
    return (
        f"Look {looks} at these rows: any of the {looks} is wrong with probability {risk} at most, "
        "together."
    )


RULES = {
    "coverage": "answer confidently at least {target} of images",
    "covered_top1": "at least {target} of confident answers are right",
    "confident_wrong_share": "at most {target} of all images get a confident wrong answer",
    "share": "refer at most {target} of images",
    "kept_top3": "for at least {target} of images not referred, the truth is among the best three",
    "fixed": "fixed at {value}",
}
CLAIMS = {
    "confident_wrong_share": "fewer than {target} of all images confident and wrong",
    "covered_top1": "more than {target} of confident answers right",
}
OUTCOMES = {
    "confident_correct": "confident and right",
    "confident_wrong": "confident and wrong",
    "possible_top3": "possible, truth among the best three",
    "possible_miss": "possible, truth not among them",
    "refer": "referred to a doctor",
}
PATIENTS = {
    "coverage": "answered confidently, mean over a patient's images",
    "confident_wrong": "confident and wrong, mean over a patient's images",
    "any_confident_wrong": "at least one confident wrong answer",
    "refer_share": "referred, mean over a patient's images",
    "top1": "first answer right, mean over a patient's images",
}
