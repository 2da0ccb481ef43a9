"""The verdict on one checkpoint: keep, reject, or neither, by the declared rule, in a sentence.

Belongs: applying ``Rule`` to a ``Comparison``; the sentence that a product manager can act on.
Does not: any difference or p (``paired``), recipes and their seeds (``recipe``).
Concept: REJECT needs proof of harm to a class, KEEP needs proof of a gain and of no harm anywhere
(every condition at its own level, an intersection-union test: Berger, Technometrics 24:295, 1982);
what is not known is no proof of either. K = classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from dagster_project.lib.scorecard.comparison import LOSSES, ClassDifference, Comparison, Verdict
from dagster_project.lib.scorecard.rule import Rule

CAP = 3
"""Classes that a sentence names; the others are counted."""

_LAST_BITS = 1e-12

_NAMES = {"top1": "top-1", "brier": "Brier", "nll": "NLL"}


def judge(comparison: Comparison, rule: Rule) -> Verdict:
    """KEEP, NEUTRAL or REJECT; the first of these that holds.

    1. **REJECT**: the recall of a class falls by more than ``rule.recall_drop`` (the estimate) with
       ``p_holm < rule.alpha``, whatever the averages say.
    2. **KEEP**: the lower limit of balanced accuracy is above 0, that of top-1 above its negative
       margin, the upper limits of Brier and NLL below theirs, and the lower limit of *every*
       class's recall (:func:`lower_recall`) above its negative margin; nor does the estimate of
       any class fall by more than ``rule.recall_drop`` where its margin is wider than that.
    3. **NEUTRAL** otherwise; ``unclear`` are the classes that fail the last condition.

    Limits are those of 95 % intervals. A value on the margin does not pass, a fall of exactly
    ``recall_drop`` does not reject. What is None or NaN proves nothing: neither a fall nor its
    absence, so a class without an image keeps a checkpoint from KEEP.

    Parameters
    ----------
    comparison : against the baseline, on the same rows.
    rule : declared before.

    Returns
    -------
    ``fallen`` and ``unclear`` worst first (equal ones by name); a fallen class is not unclear.
    """
    fallen = sorted(
        (c for c in comparison.per_class if _has_fallen(c, rule)), key=lambda c: (_fall(c), c.name)
    )
    unclear = sorted(
        (c for c in comparison.per_class if c not in fallen and not _class_is_safe(c, rule)),
        key=lambda c: (_worst(c), c.name),
    )
    names = tuple(c.name for c in unclear), tuple(c.name for c in fallen)
    if fallen:
        return Verdict("REJECT", _rejected(comparison, fallen, rule), *names)
    failing = [m for m in _NAMES if not _measure_is_safe(comparison, m, rule)]
    if _above(comparison.differences["balanced_accuracy"].low, 0) and not failing and not unclear:
        return Verdict("KEEP", _kept(comparison, rule), *names)
    return Verdict("NEUTRAL", _neutral(comparison, failing, unclear, rule), *names)


def least_half_width(n_patients: float) -> float:
    """How far a recall can have fallen although no patient of ``n_patients`` was seen to lose.

    The upper 97.5 % limit of a share of which none was seen, 1 - 0.025^(1/n) (Clopper and Pearson,
    Biometrika 26:404, 1934; the "rule of three" at 95 %: Hanley and Lippman-Hand, JAMA 249:1743,
    1983), where a patient takes at most 1/n of the recall with him: with unequal numbers of images
    n is the effective number of patients. 1.0 without patients.

    >>> [round(least_half_width(n), 3) for n in (1, 12, 36, 500)]
    [0.975, 0.265, 0.097, 0.007]
    """
    return 1.0 if n_patients < 1 else float(1 - 0.025 ** (1 / n_patients))


def lower_recall(found: ClassDifference) -> float | None:
    """Lower limit of a class's difference, never closer than :func:`least_half_width`.

    A bootstrap of a class in which no patient changed has width zero, with three patients as with
    three hundred. None where the difference has no interval.
    """
    estimate, low = found.difference.estimate, found.difference.low
    if estimate is None or low is None or math.isnan(estimate) or math.isnan(low):
        return None
    return min(low, estimate - least_half_width(found.n_effective))


def _above(value: float | None, bound: float) -> bool:
    # twelve digits: the last bits of a difference of two shares are the machine's
    return value is not None and round(value, 12) > bound


def _has_fallen(found: ClassDifference, rule: Rule) -> bool:
    estimate, p = found.difference.estimate, found.p_holm
    if estimate is None or p is None:
        return False
    return round(estimate, 12) < -rule.recall_drop and p < rule.alpha


def _class_is_safe(found: ClassDifference, rule: Rule) -> bool:
    # whatever the margin, a fall that would reject if it were proven is not one to keep
    seen_to_fall = not _above(found.difference.estimate, -rule.recall_drop - _LAST_BITS)
    return _above(lower_recall(found), -rule.margins.recall) and not seen_to_fall


def _measure_is_safe(comparison: Comparison, measure: str, rule: Rule) -> bool:
    """Whether the bad end of its interval is within the margin."""
    return _above(_good(comparison, measure), -_margin(measure, rule))


def _margin(measure: str, rule: Rule) -> float:
    margin: float = getattr(rule.margins, measure)
    return margin


def _good(comparison: Comparison, measure: str) -> float | None:
    """The bad end of a measure's interval, turned so that high is good."""
    found = comparison.differences[measure]
    if measure not in LOSSES:
        return found.low
    return None if found.high is None else -found.high


def _fall(found: ClassDifference) -> float:
    estimate = found.difference.estimate
    return math.inf if estimate is None else estimate


def _worst(found: ClassDifference) -> float:
    lower = lower_recall(found)
    return -math.inf if lower is None else lower


# --- the words -------------------------------------------------------------------------------


def points(value: float) -> str:
    """A difference of shares in percentage points, signed: ``+2.1 points``.

    >>> points(-0.4812), points(0.0)
    ('-48.1 points', '0.0 points')
    """
    return f"{_signed(100 * value, 1)} points"


def listed(items: Sequence[str], limit: int = CAP) -> str:
    """As a person would list them.

    >>> listed(["a", "b", "c", "d"]), listed(["a", "b"])
    ('a, b, c and 1 more', 'a and b')
    """
    if len(items) > limit:
        return f"{', '.join(items[:limit])} and {len(items) - limit} more"
    return " and ".join([*([", ".join(items[:-1])] if items[:-1] else []), *items[-1:]])


def _signed(value: float, digits: int) -> str:
    shown = f"{abs(value):.{digits}f}"
    if not float(shown):
        return shown
    return f"{'+' if value > 0 else '-'}{shown}"


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{100 * value:.1f} %"


def _plain(value: float) -> str:
    return f"{round(value, 6):g}"


def _p(value: float | None) -> str:
    if value is None:
        return "no p"
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _change(found: ClassDifference) -> str:
    return f"{_percent(found.baseline)} → {_percent(found.recall)}"


def _gain(comparison: Comparison) -> str:
    found = comparison.differences["balanced_accuracy"]
    if found.estimate is None:
        return "balanced accuracy is undefined"
    if found.low is None or found.high is None:
        return f"balanced accuracy changes by {points(found.estimate)}, without an interval"
    size = f"{100 * abs(found.estimate):.1f} points"
    interval = f"95 % interval {_signed(100 * found.low, 1)} to {_signed(100 * found.high, 1)}"
    if _above(found.low, 0):
        return f"balanced accuracy rises by {size} ({interval})"
    if _above(-found.high, 0):
        return f"balanced accuracy falls by {size} ({interval})"
    return f"balanced accuracy ({points(found.estimate)}, {interval}) is within noise"


def _rejected(comparison: Comparison, fallen: Sequence[ClassDifference], rule: Rule) -> str:
    each = [f"{c.name} {_change(c)} ({points(_fall(c))}, adjusted {_p(c.p_holm)})" for c in fallen]
    gain = comparison.differences["balanced_accuracy"].estimate
    beside = "" if gain is None else f" (balanced accuracy {points(gain)})"
    return (
        f"Recall falls beyond chance, and by more than the {_plain(100 * rule.recall_drop)} points "
        f"allowed, in {listed(each)}; the averages do not outweigh that{beside}."
    )


def _kept(comparison: Comparison, rule: Rule) -> str:
    worst = min(comparison.per_class, key=lambda c: (_worst(c), c.name), default=None)
    ends = [_end(comparison, measure, rule) for measure in _NAMES]
    if worst is not None:
        ends.append(
            f"the recall of every class (worst {worst.name} {_change(worst)}, at worst "
            f"{points(_worst(worst))}, margin {_plain(100 * rule.margins.recall)})"
        )
    return (
        f"{_capital(_gain(comparison))}, and even at the bad end of their intervals "
        f"{listed(ends, limit=len(ends))} stay within their margins."
    )


def _end(comparison: Comparison, measure: str, rule: Rule) -> str:
    """The bad end of one measure's interval beside its margin."""
    good, margin = _good(comparison, measure), _margin(measure, rule)
    if good is None:
        return f"{_NAMES[measure]} (no interval)"
    if measure in LOSSES:
        return f"{_NAMES[measure]} ({_signed(-good, 3)}, margin {_plain(margin)})"
    return f"{_NAMES[measure]} ({points(good)}, margin {_plain(100 * margin)})"


def _neutral(
    comparison: Comparison,
    failing: Sequence[str],
    unclear: Sequence[ClassDifference],
    rule: Rule,
) -> str:
    parts = [_capital(_gain(comparison))]
    if failing:
        ends = [_end(comparison, measure, rule) for measure in failing]
        parts.append(f"not within the margin at the bad end of the interval: {listed(ends)}")
    if unclear:
        each = [f"{c.name} ({_change(c)}, {_doubt(c)})" for c in unclear]
        parts.append(
            f"cannot exclude a collapse in {listed(each)} (a recall more than "
            f"{_plain(100 * rule.margins.recall)} points lower)"
        )
    return f"{'; '.join(parts)}."


def _doubt(found: ClassDifference) -> str:
    if not found.n:
        return "no image of it"
    lower = lower_recall(found)
    who = f"{found.n_patients} patient{'' if found.n_patients == 1 else 's'}"
    return f"{who}, no interval" if lower is None else f"{who}, at worst {points(max(lower, -1))}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
