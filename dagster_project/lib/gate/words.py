"""``tau_sweep.md`` and ``operating_points.md``: what each threshold gains and costs, in words.

Belongs: the wording and the order: decision, what is gained and lost, evidence, limits.
Does not: any number of its own; everything is read from the reports' JSON.
Concept: a threshold is in the units of the scores file, and the sentence that says on which side
there is no answer stands beside it. What is certified and what is an estimate are told apart.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from decimal import ROUND_CEILING, Decimal
from typing import Any

import numpy as np

from dagster_project.lib.markdown import cell, percent, table

PICTURES = ("tau_sweep.png", "tau_tradeoff.png", "score_distribution.png")
MAX_ROWS = 30
"""Of the sweep's table; all of them are in its JSON."""

MEANING = {
    "fn_in": "in range without an answer, of those in range",
    "fp_cens": "out of range and answered, of those out of range",
    "accepted_censored": "out of range and answered, of all",
    "bottom_rate": "without an answer, of all",
    "accept_rate": "answered, of all",
    "fault_rate": "faults, of all",
    "semantic_bottom_rate": "without an answer because of the score, of all",
    "gap_rate": "answered, and marked as gray, of all",
}
IDENTITY = {
    "model_family": "model family",
    "model_tree_hash": "model (tree hash)",
    "preprocessing": "preprocessing",
    "dataset": "dataset",
}
LIMITS = """\
- Whether a case is in range is taken from the file as it is; wrong marks make wrong rates.
- All of it is about cases like these. Other sites, devices or mixes need a sweep of their own.
- The points are compared on the same evaluation cases; who picks the one that looks best on them \
flatters it a little."""
_STATUS = {
    "backed": "backed",
    "unavailable": "**unavailable**",
    "not_added": "not added",
}

_SHOWN = ("accept_rate", "fn_in", "fp_cens")

Report = Mapping[str, Any]


def sweep_note(sweep: Report, points: Report | None = None) -> str:
    """Markdown of a sweep of ``report.sweep_report``; of ``points`` its taus are marked."""
    pins = {} if points is None else pinned(points)
    gauge = sweep["provenance"]["gauge"]
    return _joined(
        [
            f"# What every threshold of `{cell(gauge['head'])}` would do",
            f"**{no_answer(gauge)}**; a score that equals tau is answered, and a score that is not "
            "finite is a fault, without an answer at every tau. " + _of_what(gauge),
            _kinds(sweep["distribution"]),
            f"![rates against tau]({PICTURES[0]})",
            "## By threshold\n\n" + _sweep_table(sweep, pins),
            "Over all cases of the file. The operating points are judged on the evaluation cases "
            "alone, in `operating_points.md`.",
            f"## Where the scores lie\n\n![scores by kind]({PICTURES[2]})",
            "## When to run it again\n\n" + rerun_words(sweep["provenance"]),
            "## Made from\n\n" + _facts(sweep["provenance"]),
        ]
    )


def points_note(points: Report) -> str:
    """Markdown of the operating points of ``report.points_report``."""
    gauge = points["gauge"]
    return _joined(
        [
            "# Operating points: where to stop answering",
            decision(points),
            *_frozen_does(points),
            f"{no_answer(gauge)}. " + _of_what(gauge),
            "## The points\n\n" + _points_table(points),
            "## What one gains and what it costs\n\n" + _neighbours(points),
            f"![what is lost against what slips through]({PICTURES[1]})",
            "## What is certified, and what is an estimate\n\n" + _evidence(points),
            *_gray(points),
            *_models(points),
            "## When to run it again\n\n" + rerun_words(points),
            "## How it was made\n\n" + _facts(points["split"]),
            "## Limits\n\n" + _limits(points),
        ]
    )


def summary_lines(points: Report) -> list[str]:
    """A few plain lines for a terminal."""
    lines = [f"{no_answer(points['gauge'])}"]
    for name, point in points["points"].items():
        if point["status"] == "backed":
            told = ", ".join(f"{key} {_rate(rate_of(point, key), ends=False)}" for key in _SHOWN)
            certified = {True: ", certified", False: ", not certified", None: ""}
            lines.append(f"{name}: tau {number(point['tau'])}{certified[point['certified']]}; "
                         f"{told}")  # fmt: skip
        else:
            lines.append(f"{name}: {_STATUS[point['status']].strip('*')} ({point['reason']})")
    lines += [_plain(told) for told in _compared(points)]
    lines += [_plain(f"{name} among models: {told}") for name, told in _picks(points)]
    return [*lines, _plain(decision(points))]


def no_answer(gauge: Report) -> str:
    """On which side of tau there is none."""
    sign = "<" if gauge["accept"] == "high" else ">"
    return f"A score {sign} tau is no answer"


def decision(points: Report) -> str:
    """Which point is frozen, in one sentence; or why none is."""
    freeze = points["freeze"]
    if not freeze["frozen"]:
        return f"**Nothing is frozen**: {cell(freeze['reason'])}"
    point = points["points"][freeze["point"]]
    gray = point["tau_train"]
    marked = "" if gray is None else f"; {_grayly(points, point)} are marked as gray"
    if point["no_gray_zone"] is not None:
        marked = f", without the gray zone that was asked for: {point['no_gray_zone']}"
    return f"**Frozen: {freeze['point']}, tau {number(point['tau'])}**{marked}."


def _frozen_does(points: Report) -> list[str]:
    """What the frozen point does, in shares of cases."""
    freeze = points["freeze"]
    if not freeze["frozen"]:
        return []
    point = points["points"][freeze["point"]]
    answered, fn_in, fp_cens = (_rate(rate_of(point, key), ends=False) for key in _SHOWN)
    certified = [
        f"`{key}` is certified at {100 * bound['target']:g} % or less"
        for key, bound in point["bounds"].items()
        if point["certified"]
    ]
    told = f"; {' and '.join(certified)}" if certified else "; nothing of it is certified"
    return [
        f"On the evaluation cases it answers {answered} of all; {fn_in} of those in range get no "
        f"answer, and {fp_cens} of those out of range get one. These are estimates{told}."
    ]


def _grayly(points: Report, point: Report) -> str:
    way = "up" if points["gauge"]["accept"] == "high" else "down"
    return f"answers from there {way} to {number(point['tau_train'])}"


def pinned(points: Report) -> dict[str, float]:
    """Name -> tau of the points that have one, in the order given."""
    return {
        name: points["points"][name]["tau"]
        for name in points["order"]
        if points["points"][name]["tau"] is not None
    }


def rate_of(point: Report, key: str) -> Report | None:
    """A rate of a point on the evaluation cases with its interval; None where it has no tau."""
    return (point["evaluation"] or {}).get(key)


def change_words(row: Report, taus: Mapping[str, float]) -> str:
    """What the second of two neighbouring points does otherwise, per 1,000 cases.

    >>> change = {"from": "balanced", "to": "safety_first", "per_1000": {
    ...     "answered": -84.0, "answered_in_range": -71.2, "answered_censored": -12.8}}
    >>> print(change_words(change, {"balanced": 0.21, "safety_first": 0.45}))
    Against **balanced** (tau 0.21), **safety_first** (tau 0.45) answers 84 fewer of 1,000 cases: \
71 of them could have been answered, 13 were out of range.
    """
    one, other = row["from"], row["to"]
    said = f"Against {_named(one, taus[one])}, {_named(other, taus[other])}"
    return _change(said, row["per_1000"])


def _change(said: str, per_1000: Report) -> str:
    good, bad = (per_1000[f"answered_{kind}"] for kind in ("in_range", "censored"))
    if good is None or bad is None:
        return f"{said}: what changes is undefined, there are no cases of one of the two kinds."
    if good == bad == 0:
        return f"{said} answers the same cases."
    fewer = good + bad < 0
    could = "could have been answered" if fewer else "should be answered"
    digits = _digits(good, bad)
    parts = [round(abs(part), digits) for part in (good, bad)]
    if not any(parts):
        return f"{said} changes less than {0.1**digits:.{digits}f} of 1,000 cases."
    one_bad = parts[1] == 1
    were = (
        f"{'was' if one_bad else 'were'} out of range"
        if fewer
        else f"{'is' if one_bad else 'are'} out of range and should not be"
    )
    return (
        f"{said} answers {sum(parts):.{digits}f} {'fewer' if fewer else 'more'} of 1,000 cases: "
        f"{parts[0]:.{digits}f} of them {could}, {parts[1]:.{digits}f} {were}."
    )


def rule_words(rule: Report) -> str:
    """A rule as it was declared, without the word for a direction that the gauge may turn.

    >>> rule_words({"choose": "smallest", "bound": {"fp_cens": 0.05}, "order": []})
    'answers the most cases of all taus with `fp_cens` certified at 5 % or less'
    """
    if "recipe" in rule:
        of = {"in_range": "in-range"}.get(rule["of"], rule["of"])
        return (
            f"is the {100 * rule['quantile']:g} % quantile, from the side that gets no answer, of "
            f"the scores of {of} calibration rows"
        )
    bounds = " and ".join(f"`{name}` certified at {100 * target:g} % or less"
                          for name, target in rule["bound"].items())  # fmt: skip
    among = f" of all taus with {bounds}" if bounds else " of all taus"
    if rule["choose"] == "smallest":
        return f"answers the most cases{among}"
    if rule["choose"] == "largest":
        return f"answers the fewest cases{among}"
    first, *then = [f"{'most' if name.startswith('-') else 'least'} `{name.removeprefix('-')}`"
                    for name in rule["order"]]  # fmt: skip
    ties = f"; among equals the {', then the '.join(then)}" if then else ""
    return f"has the {first}{among}{ties}"


def rerun_words(recorded: Report) -> str:
    """When these thresholds stop being good, and of which changes nothing would be noticed.

    Parameters
    ----------
    recorded : its ``gauge`` and ``identity`` are read.
    """
    gauge, identity = recorded["gauge"], recorded["identity"]
    known = [("head", gauge["head"]), ("magnitude", gauge["magnitude"]),
             ("normalisation", gauge["normalisation"])]  # fmt: skip
    known += [(words, identity[key]) for key, words in IDENTITY.items() if identity[key]]
    gaps = [f"`{key}`" for key in IDENTITY if not identity[key]]
    said = (
        "Sweep, choose and freeze again as soon as one of these is another one; scores that say so "
        "are refused by the frozen gate or reported:\n\n"
        + table(("what", "here"), [(words, cell(value)) for words, value in known])
    )
    if gaps:
        said += (
            f"\n\n**Not stated: {', '.join(gaps)}.** A change of "
            f"{'it' if len(gaps) == 1 else 'them'} would go unnoticed: state "
            f"{'it' if len(gaps) == 1 else 'them'} in the scores file or under `identity` in the "
            "configuration."
        )
    return said + "\n\nAnd when the share of gray or unanswered cases drifts in service."


def readable(curves: Report, pins: Collection[float]) -> list[int]:
    """At most :data:`MAX_ROWS` positions: both ends, every pin, others evenly by share answered."""
    taus, bottom = np.array(curves["taus"]), np.array(curves["bottom_rate"], dtype=np.float64)
    if taus.size <= MAX_ROWS:
        return list(range(taus.size))
    kept = {0, taus.size - 1, *(int(np.abs(taus - pin).argmin()) for pin in pins)}
    n = max(MAX_ROWS - len(kept), 0)
    for share in np.linspace(bottom[0], bottom[-1], n + 2)[1:-1]:
        kept.add(int(np.abs(bottom - share).argmin()))
    return sorted(kept)


def number(value: float | None) -> str:
    """A threshold for a person; all of its digits are in the JSON.

    >>> number(0.0031416), number(12345678.0), number(None)
    ('0.003142', '1.235e+07', 'none')
    """
    return "none" if value is None else f"{value:.4g}"


def at_most(share: float | None) -> str:
    """An upper bound for a person: rounded up, since no less is refuted.

    >>> at_most(0.047701), at_most(0.05), at_most(3e-6), at_most(None)
    ('4.78 %', '5.00 %', '0.01 %', 'undefined')
    """
    if share is None:
        return percent(None)
    in_percent = 100 * Decimal(repr(share))  # 100 * 0.07 is above 7 in floats
    return f"{in_percent.quantize(Decimal('0.01'), ROUND_CEILING)} %"


def _of_what(gauge: Report) -> str:
    return (
        f"The score is the {cell(gauge['magnitude'])} of `{cell(gauge['head'])}`, normalisation: "
        f"{cell(gauge['normalisation'])}."
    )


def _kinds(found: Report) -> str:
    rows = [
        (words, *(f"{found[key][name]:,}" for name in ("n", "faults")))
        for key, words in (("in_range", "in range"), ("censored", "out of range (censored)"))
    ]
    total = [sum(found[key][name] for key in ("in_range", "censored")) for name in ("n", "faults")]
    rows.append(("all", *(f"{n:,}" for n in total)))
    empty = [row[0] for row in rows if row[1] == "0"]
    note = f"\n\nNone is {empty[0]}: what is a share of them is undefined." if empty else ""
    return table(("cases", "n", "of them faults"), rows) + note


def _sweep_table(sweep: Report, pins: Mapping[str, float]) -> str:
    curves = sweep["curves"]
    shown = readable(curves, pins.values())
    keys = [key for key in curves if key in MEANING]
    rows = []
    for at in shown:
        tau = curves["taus"][at]
        here = ", ".join(f"**{name}**" for name, pin in pins.items() if pin == tau)
        rows.append((number(tau), here, *(percent(curves[key][at], 2) for key in keys)))
    swept, written = sweep["provenance"]["taus"], len(curves["taus"])
    parts = [table(("tau", "point", *keys), rows),
             "\n".join(f"- `{key}`: {MEANING[key]}" for key in keys)]  # fmt: skip
    if swept > len(shown):
        kept = "all of them" if written == swept else f"{written:,} of them"
        parts.append(f"{len(shown)} of {swept:,} taus are shown; {kept} are in `tau_sweep.json`.")
    return "\n\n".join(parts)


def _points_table(points: Report) -> str:
    rows = []
    for name, point in points["points"].items():
        rates = [_rate(rate_of(point, key)) for key in _SHOWN]
        rows.append((_bold(points, name), _STATUS[point["status"]], number(point["tau"]), *rates))
    head = ("point", "status", "tau", *(f"{key} (95 %)" for key in _SHOWN))
    return "\n\n".join(
        [
            table(head, rows),
            "Rates are those of the evaluation cases, whose labels had no part in choosing; "
            "`undefined`: there is no such case, or no threshold.",
            "\n".join(f"- `{key}`: {MEANING[key]}" for key in _SHOWN),
            "What each was declared to be:",
            "\n".join(_declared(name, point) for name, point in points["points"].items()),
        ]
    )


def _declared(name: str, point: Report) -> str:
    told = f"- **{name}** {rule_words(point['rule'])}"
    if point["status"] == "backed":
        return f"{told}."
    return f"{told}. {_STATUS[point['status']]}: {cell(point['reason'])}"


def _bold(points: Report, name: str) -> str:
    freeze = points["freeze"]
    return f"**{name}** (frozen)" if freeze["frozen"] and freeze["point"] == name else name


def _neighbours(points: Report) -> str:
    lines = [f"- {told}" for told in _compared(points)]
    if not lines:
        return "There is no threshold to compare with another."
    return "\n".join(lines) + (
        "\n\nPer 1,000 cases of a mix like that of the evaluation cases: where more or fewer are "
        "out of range, the two parts grow and shrink with them. Estimates, not bounds."
    )


def _compared(points: Report) -> list[str]:
    """Each point against its neighbour; points that all have one threshold, against the next tau.

    How far the next tau is depends on the taus that were declared, so it is told only where no
    point says more.
    """
    taus = pinned(points)
    lines = [change_words(row, taus) for row in points["neighbours"]]
    if len(set(taus.values())) != 1:
        return lines
    one = points["order"][0]
    return lines + [
        _change(f"Against {_named(one, step['tau'])}, the next tau, {number(step['to_tau'])},",
                step["per_1000"])
        for step in points["steps"] if step["from"] == one
    ]  # fmt: skip


def _evidence(points: Report) -> str:
    rows, notes = [], []
    for name, point in points["points"].items():
        for quantity, bound in point["bounds"].items():
            shares = [f"{100 * bound['target']:g} %", at_most(bound["upper"]),
                      percent(bound["observed"], 2)]  # fmt: skip
            rows.append((name, quantity, *shares, _number_of(bound), _certified(point)))
            needed = _needed(name, quantity, bound)
            notes += [needed] if needed else []
        if point["status"] == "backed" and not point["bounds"]:
            notes.append(f"- **{name}** bounds nothing: its rates are estimates only.")
    if not rows:
        return "Nothing is bounded: every rate here is an estimate.\n\n" + "\n".join(notes)
    head = ("point", "quantity", "target", "upper bound", "seen", "calibration cases (groups)", "")
    parts = [table(head, rows), " ".join(points["terms"].get("scope", ()))]
    deltas = sorted({bound["delta"] for point in points["points"].values()
                     for bound in point["bounds"].values()})  # fmt: skip
    parts.append(
        "What is promised is the target: that a certified one is missed has probability "
        f"{' or '.join(f'{100 * delta:g} %' for delta in deltas)} at most, over the draw of the "
        "calibration cases. The upper bound is the smallest share that the same test refutes at "
        "the tau it chose: how near the edge that is, and no promise of its own. Every other rate "
        "is an estimate with an approximate interval."
    )
    return "\n\n".join(part for part in (*parts, "\n".join(notes)) if part)


def _certified(point: Report) -> str:
    return {True: "certified", False: "**not certified**", None: ""}[point["certified"]]


def _number_of(bound: Report) -> str:
    groups = bound["n_groups"]
    return f"{bound['n']:,}" + ("" if groups in (None, bound["n"]) else f" ({groups:,})")


def _needed(name: str, quantity: str, bound: Report) -> str | None:
    needed = bound["rows_needed"]
    if needed is None:
        return None
    if needed == "never":
        return f"- **{name}**, {quantity}: at the rate that was seen no number of cases would do."
    return f"- **{name}**, {quantity}: about {needed:,} such cases would be needed."


def _gray(points: Report) -> list[str]:
    name = points["freeze"]["point"]
    point = points["points"].get(name)
    if point is None:
        return []
    if point["tau_train"] is None:
        why = point["no_gray_zone"]
        return [] if why is None else [f"## Gray zone\n\n**None** beside {name}: {why}."]
    rate = _rate(rate_of(point, "gap_rate"))
    return [
        f"## Gray zone\n\nTau of {name} is {number(point['tau'])}; {_grayly(points, point)} are "
        f"given and marked as gray: {rate} of all evaluation cases. Watch this share in service: "
        "when it moves, the scores have."
    ]


def _models(points: Report) -> list[str]:
    found = points["models"]
    if found is None:
        return []
    rows = []
    for row in found["rows"]:
        rates = [percent(row.get(key)) for key in _SHOWN]
        backed = row["status"] == "backed"
        rows.append((cell(row["model"]), cell(row["seed"]), number(row["tau"]), *rates,
                     "" if backed else cell(row["reason"])))  # fmt: skip
    return [
        "## Models and seeds\n\n"
        "Another question than the one above: there a threshold is chosen for one model, here "
        f"models are compared, each at the threshold that {found['point']} has for it. Frozen is "
        "the first one given, whatever wins here.\n\n"
        + table(("model", "seed", "tau", *_SHOWN, ""), rows)
        + "\n\nBy purpose, on means over seeds, and not by any bound:\n\n"
        + "\n".join(f"- {name}: {told}" for name, told in _picks(points))
    ]


def _picks(points: Report) -> list[tuple[str, str]]:
    """Name and choice of each purpose among models; none where there is one model."""
    choice = {} if points["models"] is None else points["models"]["choice"]["points"]
    return [(name, _picked(of)) for name, of in choice.items()]


def _picked(of: Report) -> str:
    if of["model"] is None:
        return f"none ({cell(of['reason'])})"
    note = "" if of["reason"] is None else f" ({cell(of['reason'])})"
    rates = ", ".join(f"{key} {percent(of['metrics'][key]['mean'])}" for key in _SHOWN)
    n = of["metrics"][_SHOWN[0]]["n_seeds"]
    order = ", then ".join(f"{'most' if key.startswith('-') else 'least'} `{key.removeprefix('-')}`"
                           for key in of["order"])  # fmt: skip
    return (
        f"**{cell(of['model'])}**{note}, {rates} on the mean of {n} {'seed' if n == 1 else 'seeds'}"
        f"; by {order}"
    )


def _limits(points: Report) -> str:
    if points["groups"] is not None:
        return LIMITS
    return (
        "- **No groups are given**: every row counts as independent. Several of one patient make "
        f"every bound better than it is; give a column `group`.\n{LIMITS}"
    )


def _facts(value: Report) -> str:
    """Nested plain JSON as a table of paths and values."""
    return table(("", ""), [(f"`{key}`", cell(told)) for key, told in _flat(value)])


def _flat(value: Report, above: str = "") -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = []
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            rows += _flat(inner, f"{above}{key}.")
        elif isinstance(inner, list):
            rows.append((above + key, ", ".join(map(str, inner))))
        else:
            rows.append((above + key, "none given" if inner is None else inner))
    return rows


def _rate(found: Report | None, *, ends: bool = True) -> str:
    if found is None or found["rate"] is None:
        return "undefined"
    if not ends or found["low"] is None:
        return percent(found["rate"])
    return f"{percent(found['rate'])} ({100 * found['low']:.1f} to {100 * found['high']:.1f})"


def _named(name: str, tau: float) -> str:
    return f"**{name}** (tau {number(tau)})"


def _digits(*parts: float) -> int:
    """So few that nothing which is there becomes 0; 3 at most."""
    return next((d for d in range(3) if all(round(abs(x), d) or not x for x in parts)), 3)


def _plain(text: str) -> str:
    return text.replace("**", "")


def _joined(parts: Sequence[str]) -> str:
    return "\n\n".join(parts) + "\n"
