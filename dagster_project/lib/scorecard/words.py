"""``scorecard.md``: what to ship and why, as a report that is read from the top.

Belongs: the wording and the order: decision, table, configurations, recipes, doubts, limits.
Does not: any number of its own; everything is read from the card.
Concept: each number says what it is of. Differences are configuration minus baseline on the same
images; shares are per cent, their differences points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dagster_project.lib.markdown import cell as _cell
from dagster_project.lib.markdown import percent
from dagster_project.lib.markdown import table as _table
from dagster_project.lib.scorecard.comparison import LOSSES, MEASURES

PICTURES = ("recall_change.png", "reliability.png", "operating_curves.png")

MEASURE_WORDS = {
    "top1": "top-1",
    "top3": "top-3",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro-F1",
    "brier": "Brier",
    "nll": "NLL",
}
_ORDER = ("KEEP", "REJECT", "NEUTRAL")
_MOVED = 5
"""Falls and gains told of a configuration; all are in ``per_class.csv``."""

_SWALLOWED = 3
_NAMED = 3
_PROPOSED = 6

_OVERWRITTEN = (
    "**Labels reviewed in part favour the model whose suspicions were reviewed**, as a rule the "
    "one in service: what contradicts it is looked at and put right, and where a candidate is "
    "right against it and the label, nobody looks. A candidate then looks worse on cleaned labels "
    "than it is: what speaks against it there and not on given labels may be the review's doing."
)

Card = Mapping[str, Any]


def scorecard_note(card: Card) -> str:
    """Markdown of a card of ``make_scorecard``."""
    others = [row for row in card["configs"] if row["verdict"] is not None]
    first, *rest = (row["notes"] for row in card["configs"])
    shared = [note for note in first if all(note in notes for notes in rest)]
    parts = [
        "# Scorecard: which recipe to ship",
        _decision(card, others),
        _based_on(card),
        "## Measures\n\n" + _measures(card["configs"]),
        *(["## Differences from the baseline\n\n" + _differences(card)] if others else []),
        *(_configuration(card, row, shared) for row in others),
        *(["## Recipes\n\n" + _recipes(card)] if others else []),
        "## Calibration\n\n" + _calibration(card),
        "## Operating points\n\n" + _operating(card),
        "## Label noise\n\n" + _labels(card, others),
        "## Mirror images (TTA)\n\n" + _tta(card["tta"]),
        *(["## Next experiments\n\n" + _composition(card["composition"])] if others else []),
        "## The rule\n\n" + _rule(card),
        "## Limits\n\n" + _limits(card, shared),
    ]
    return "\n\n".join(parts) + "\n"


def verdict_lines(card: Card) -> list[str]:
    """A plain line a configuration, for a terminal."""
    rows = [row for row in card["configs"] if row["verdict"] is not None]
    if not rows:
        return [f"only the baseline {card['baseline']}: nothing is compared"]
    width = max(len(row["config"]) for row in rows)
    lines = [f"{row['config']:<{width}}  {row['verdict']:<7}  {_sentence(row)}" for row in rows]
    return [*lines, *copy_notes(card)]


def copy_notes(card: Card) -> list[str]:
    """A sentence for each configuration that is another one under a second name."""
    return [
        f"{_cell(name)} answers every image exactly as {_cell(first)}: the same weights under two "
        "names, which count neither as a run of a recipe nor as a try."
        for name, first in card["copies"].items()
    ]


def _decision(card: Card, others: Sequence[Card]) -> str:
    if not others:
        return f"Only the baseline {_name(card['baseline'])} is here: nothing is compared."
    ordered = sorted(others, key=lambda row: _ORDER.index(row["verdict"]))
    rows = []
    for row in ordered:
        change = card["comparisons"][row["config"]]["differences"]["balanced_accuracy"]
        told = _difference("balanced_accuracy", change)
        rows.append((_name(row["config"]), f"**{row['verdict']}**", _recipe_word(row), told,
                     _some(row["fallen"]), _some(row["unclear"])))  # fmt: skip
    words = {word: [_name(r["config"]) for r in ordered if r["verdict"] == word] for word in _ORDER}
    headline = "; ".join(
        f"**{word}** {', '.join(names) or 'none'}" for word, names in words.items()
    )
    kept = [recipe for recipe in card["recipes"] if recipe["word"] == "KEEP"]
    recipes = (
        f"Better over seeds: {', '.join(_recipe_name(recipe) for recipe in kept)}."
        if kept
        else "No recipe is shown to be better over seeds: a checkpoint's verdict is on one file of "
        "weights, not on what was changed in training ([Recipes](#recipes))."
    )
    head = ("configuration", "checkpoint", "recipe", "balanced accuracy, points (95 %)",
            "rejected for a fall in", "a fall is not excluded in")  # fmt: skip
    against = f"{headline}. Against {_name(card['baseline'])}, by the [rule](#the-rule)."
    copied = [f"**{note}**" for note in copy_notes(card)]
    return "\n\n".join([against, _table(head, rows), *copied, recipes])


def _recipe_word(row: Card) -> str:
    if row["recipe"] is not None:
        return str(row["recipe"])
    return "another run of the baseline's" if row["changed"] == [] else "not judged"


def _some(names: Sequence[str]) -> str:
    if not names:
        return "none"
    more = len(names) - _NAMED
    told = ", ".join(_cell(name) for name in names[:_NAMED])
    return f"{told} and {more} more" if more > 0 else told


def _based_on(card: Card) -> str:
    labels = card["labels"]
    said = (
        "the labels in force, cleaned by review "
        f"({labels['n_changed']:,} of them differ from the given ones)"
        if labels["source"] == "cleaned"
        else "one set of labels; whether it was reviewed is not known here"
    )
    without = [
        f"{card[key]:,} more {words}"
        for key, words in (
            ("n_without_label", "have no label"),
            ("n_without_probs", "have no probabilities"),
        )
        if card[key]
    ]
    left = f" Left out everywhere: {' and '.join(without)}." if without else ""
    who = f"{card['n_patients']:,} patient{'' if card['n_patients'] == 1 else 's'}"
    patients = (
        who if card["patients_known"] else f"{who} (an image without a known patient counts as one)"
    )
    return (
        f"All numbers: {card['n']:,} images of {patients}, {len(card['classes'])} classes, "
        f"the same images for every configuration; against {said}. Rule `{card['rule_sha256']}`."
        f"{left}"
    )


def _measures(configs: Sequence[Card]) -> str:
    rows = [
        (
            _name(row["config"]),
            row["verdict"] or "baseline",
            *(percent(row[key]) for key in ("top1", "top3", "balanced_accuracy", "macro_f1")),
            *(number(row[key]) for key in ("brier", "nll", "aurc", "augrc")),
            _sink(row["sink"]),
        )
        for row in configs
    ]
    head = ("configuration", "verdict", "top-1", "top-3", "balanced accuracy", "macro-F1",
            "Brier", "NLL", "AURC", "AUGRC", "largest sink")  # fmt: skip
    return _table(head, rows) + (
        "\n\nBrier, NLL (summed over the classes, mean over images), AURC and AUGRC are better "
        "low. A row whose truth only shares the largest probability counts as wrong. "
        "Largest sink: the class that most images of others are taken for, and its over-prediction "
        "(answered so / labelled so); that of every class is in `per_class.csv`."
    )


def _sink(sink: Card | None) -> str:
    if sink is None:
        return "none"
    factor = sink["overprediction"]
    told = "never labelled so" if factor is None else f"{factor:.2f}"
    return f"{_cell(sink['class'])} ({told})"


def _differences(card: Card) -> str:
    rows = []
    for name, comparison in card["comparisons"].items():
        found = comparison["differences"]
        rows.append((_name(name), *(_difference(key, found[key]) for key in MEASURES)))
    shares = ", ".join(MEASURE_WORDS[key] for key in MEASURES if key not in LOSSES)
    return (
        _table(("configuration", *(MEASURE_WORDS[key] for key in MEASURES)), rows)
        + f"\n\n{shares[0].upper()}{shares[1:]} in points (better high); Brier and NLL in their "
        "own unit (better low). In brackets 95 %, from "
        f"{card['bootstrap']['draws']:,} paired bootstraps of patients, approximate.\n\n"
        f"![change of recall by class]({PICTURES[0]})"
    )


def _difference(measure: str, found: Card) -> str:
    if found["estimate"] is None:
        return "undefined"
    show = _plain if measure in LOSSES else _points
    return show(found["estimate"]) + _between(found, show)


def _between(found: Card, show: Any) -> str:
    if found["low"] is None or found["high"] is None:
        return " (no interval)"
    return f" ({show(found['low'])} to {show(found['high'])})"


def _configuration(card: Card, row: Card, shared: Sequence[str]) -> str:
    name = row["config"]
    per_class = card["comparisons"][name]["per_class"]
    known = [found for found in per_class if found["difference"]["estimate"] is not None]
    falls = sorted(
        (found for found in known if found["difference"]["estimate"] < 0),
        key=lambda found: (found["difference"]["estimate"], found["name"]),
    )
    gains = sorted(
        (found for found in known if found["difference"]["estimate"] > 0),
        key=lambda found: (-found["difference"]["estimate"], found["name"]),
    )
    parts = [f"## {_heading(name)}: {row['verdict']}", _sentence(row)]
    if row["changed"] is not None:
        seed = "" if row["seed"] is None else f" Seed {row['seed']}."
        levers = ", ".join(_cell(lever) for lever in row["changed"]) or "nothing: another run of it"
        parts.append(f"Changed against the baseline's recipe: {levers}.{seed}")
    for words, found in (("fall", falls), ("rise", gains)):
        parts.append(_moved(words, found))
    if row["sink"] is not None and row["sink"]["swallows"]:
        parts.append(_swallowed(row["sink"]))
    parts += [note for note in row["notes"] if note not in shared]
    return "\n\n".join(parts)


def _moved(words: str, found: Sequence[Card]) -> str:
    if not found:
        return f"No recall {words}s."
    rows = [
        (
            _cell(row["name"]),
            f"{row['n']:,} ({row['n_patients']:,})",
            f"{percent(row['baseline'])} to {percent(row['recall'])}",
            _points(row["difference"]["estimate"]) + _between(row["difference"], _points),
            _p(row["p_holm"]),
        )
        for row in found[:_MOVED]
    ]
    shown = f"the largest {_MOVED} of {len(found)}" if len(found) > _MOVED else str(len(found))
    head = ("class", "images (patients)", "recall, baseline to here", "points (95 %)", "p (Holm)")
    return f"Recalls that {words} ({shown}):\n\n{_table(head, rows)}"


def _swallowed(sink: Card) -> str:
    told = ", ".join(
        f"{_cell(row['class'])} ({row['n']:,} images, {percent(row['share'])} of them)"
        for row in sink["swallows"][:_SWALLOWED]
    )
    more = len(sink["swallows"]) - _SWALLOWED
    rest = f" and images of {more} more classes" if more > 0 else ""
    return (
        f"The class that swallows most images of others is {_cell(sink['class'])}: answered "
        f"{sink['n_predicted']:,} times, labelled {sink['n_true']:,} times. Its wrong answers "
        f"belong to {told}{rest}."
    )


def _recipes(card: Card) -> str:
    lines = [
        "A checkpoint is judged on these images; a recipe also on what another seed would do. "
        "Two runs of one recipe differ, too. Differences here are the mean of a recipe's runs less "
        "the mean of the baseline's own runs."
    ]
    if not card["levers_known"]:
        lines.append(
            "What each configuration changed was not declared (`--checkpoints`), so each counts as "
            "a recipe of its own with one run."
        )
    rows = [
        (
            _recipe_name(recipe),
            f"{len(recipe['runs'])}: {', '.join(_name(run) for run in recipe['runs'])}",
            recipe["word"],
            "undefined" if recipe["difference"] is None else _points(recipe["difference"]),
            "undefined" if recipe["floor"] is None else f"± {100 * recipe['floor']:.2f}",
            f"{100 * recipe['sd']:.2f} ({'measured' if recipe['sd_measured'] else 'assumed'}, "
            f"df {recipe['df']})",
        )
        for recipe in card["recipes"]
    ]
    head = ("changed", "runs", "recipe", "balanced accuracy, points", "floor, points",
            "SD between runs, points")  # fmt: skip
    lines.append(_table(head, rows))
    lines.append("\n".join(f"- {recipe['sentence']}" for recipe in card["recipes"]))
    if card["winners_curse"] is not None:
        lines.append(f"**Winner's curse.** {card['winners_curse']['sentence']}")
    return "\n\n".join(lines)


def _recipe_name(recipe: Card) -> str:
    return " + ".join(_cell(lever) for lever in recipe["changed"]) or "the baseline's recipe"


def _calibration(card: Card) -> str:
    rows = []
    for row in card["configs"]:
        ends = row["temperature_ci95"]
        told = "" if ends is None else f" ({ends[0]:.2f} to {ends[1]:.2f})"
        rows.append(
            (
                _name(row["config"]),
                percent(row["ece"]),
                percent(row["ece_debiased"]),
                "undefined" if row["temperature"] is None else f"{row['temperature']:.3f}{told}",
                number(row["nll_top_before"]),
                number(row["nll_top_after"]),
            )
        )
    head = ("configuration", "ECE", "debiased (L2)", "temperature (95 %)",
            "NLL of the top answer as served", "tempered")  # fmt: skip
    return (
        _table(head, rows)
        + "\n\nOf the largest probability as a forecast that the first answer is right; equal-mass "
        "bins. A temperature is fitted and judged on the same images, and nothing here applies "
        "it. ECE is shown, not judged: its bootstrap is biased; Brier and NLL decide.\n\n"
        f"![reliability before and after a temperature]({PICTURES[1]})"
    )


def _operating(card: Card) -> str:
    rows = []
    for row in card["configs"]:
        for side in ("deployed", "refitted"):
            found = row[side]
            if found is None:
                continue
            if "reason" in found:
                rows.append((_name(row["config"]), side, _cell(found["reason"]), "", "", ""))
                continue
            covered = found["coverage"]
            risk = found["confident_wrong"] / covered if covered else None
            rows.append(
                (
                    _name(row["config"]),
                    side,
                    f"{found['confident']:.3f} / {found['refer']:.3f}",
                    percent(covered),
                    percent(found["confident_wrong"], 2),
                    percent(risk),
                )
            )
    head = ("configuration", "thresholds", "confident / refer", "coverage",
            "confident and wrong, of all", "wrong, of the confident")  # fmt: skip
    said = (
        _table(head, rows)
        if rows
        else "No thresholds are deployed and no policy is given: no operating point."
    )
    note = (
        "\n\nDeployed thresholds were fitted to the model in service: another model's scores mean "
        "something else at the same number. Refitted: by the policy, on these images."
        if rows
        else ""
    )
    return f"{said}{note}\n\n![operating curves]({PICTURES[2]})"


def _labels(card: Card, others: Sequence[Card]) -> str:
    lines = []
    if card["given"] is None:
        lines.append(
            "The labels before cleaning were not given, so there is no second table beside this "
            "one (`--given-labels`)."
        )
    else:
        lines += _both_labels(card, others)
        lines += [_OVERWRITTEN, *_from_sample(card["sampled"])] if others else []
    if card["noise"] is not None:
        lines.append(
            "Would a verdict flip if the labels that no review decided were drawn again from the "
            f"estimated noise ({percent(card['noise']['rate'])} wrong)?"
        )
        flips = [f"- {_name(f['config'])}: {f['sentence']}" for f in card["noise"]["flips"]]
        lines += ["\n".join(flips), card["noise"]["limits"]]
    elif others:
        lines.append("Label noise is not estimated: no verdict is tried against it.")
    return "\n\n".join(lines)


def _both_labels(card: Card, others: Sequence[Card]) -> list[str]:
    given = card["given"]
    before = {row["config"]: row for row in given["configs"]}
    rows = []
    for row in card["configs"]:
        old = before[row["config"]]
        rows.append(
            (
                _name(row["config"]),
                *(
                    f"{percent(old[key])} / {percent(row[key])}"
                    for key in ("top1", "top3", "balanced_accuracy", "macro_f1")
                ),
                *(f"{number(old[key])} / {number(row[key])}" for key in ("brier", "nll")),
                f"{old['verdict'] or 'baseline'} / {row['verdict'] or 'baseline'}",
            )
        )
    head = ("configuration: given / cleaned", "top-1", "top-3", "balanced accuracy",
            "macro-F1", "Brier", "NLL", "verdict")  # fmt: skip
    changes = []
    for name, comparison in card["comparisons"].items():
        old = given["comparisons"][name]["differences"]
        changes.append(
            (
                _name(name),
                *(
                    f"{_difference(key, old[key])} / {_difference(key, new)}"
                    for key, new in comparison["differences"].items()
                    if key in ("top1", "balanced_accuracy", "brier")
                ),
            )
        )
    differs = [
        f"{_name(row['config'])} is {row['given']} on given and {row['in_force']} on cleaned labels"
        for row in given["differs"]
    ]
    return [
        f"On given labels ({given['n']:,} images) and on cleaned ones ({card['n']:,} images), side "
        "by side:",
        _table(head, rows),
        *(
            [
                "Differences from the baseline on given / on cleaned labels:",
                _table(("configuration", "top-1", "balanced accuracy", "Brier"), changes),
                f"**Verdicts that differ**: {'; '.join(differs)}."
                if differs
                else "No verdict differs between the two.",
            ]
            if others
            else []
        ),
    ]


def _from_sample(sampled: Card | None) -> list[str]:
    if sampled is None:
        return [
            "How large that is here is not estimated: it takes a sample of reviews with known "
            "probabilities, decided ones in each of its strata."
        ]
    rows = [
        (
            _name(name),
            *(_points(found[key]) for key in ("given", "overwritten")),
            _points(found["estimate"]) + _between(found, _points),
        )
        for name, found in sampled["top1"].items()
    ]
    head = ("top-1 less the baseline's, points", "given labels", "reviews put over them",
            "estimated from the sample of reviews (95 %)")  # fmt: skip
    outside = sampled["n_outside"]
    rest = f" {outside:,} images that could not be asked count as given." if outside else ""
    return [
        _table(head, rows),
        f"Of {sampled['n']:,} images; the estimate weighs the {sampled['n_decided']:,} decided "
        "reviews of one packet by what each stands for, so it favours no model. Its interval is "
        f"that of few reviews, and no verdict uses it.{rest}",
    ]


def _tta(tta: Card | None) -> str:
    if tta is None:
        return "Not compared."
    if tta.get("reason"):
        return f"Not compared: {tta['reason']}."
    rows = [
        (MEASURE_WORDS[key], _measure(key, tta["plain"][key]), _measure(key, tta["tta"][key]),
         _difference(key, tta["comparison"]["differences"][key]))
        for key in MEASURES
    ]  # fmt: skip
    head = ("the baseline's dump", "plain", "image and mirror image", "difference (95 %)")
    return _table(head, rows) + "\n\nThe same images and questionnaires in both, as served."


def _measure(key: str, value: float | None) -> str:
    return number(value) if key in LOSSES else percent(value)


def _composition(found: Card | None) -> str:
    if found is None:
        return (
            "What each configuration changed was not declared (`--checkpoints`): no combination "
            "is proposed."
        )
    lines = ["\n".join(f"- {sentence}" for sentence in found["sentences"])]
    if found["untried"]:
        rows = [
            (
                " + ".join(_cell(lever) for lever in row["changed"]),
                "unknown"
                if row["expected"] is None
                else f"{_points(row['expected'])} ± {100 * row['noise']:.1f}",
                "yes" if row["worth"] else "no",
                _cell(row["why"]),
            )
            for row in found["untried"][:_PROPOSED]
        ]
        head = ("never tried", "expected, points of balanced accuracy (± seeds)",
                "worth a training", "why")  # fmt: skip
        lines.append(_table(head, rows))
        more = found["n_untried"] - len(rows)
        if more > 0:
            lines.append(f"{more} more were not tried: `scorecard.json` lists the first of them.")
    return "\n\n".join(lines)


def _rule(card: Card) -> str:
    rule = card["rule"]
    margins = rule["margins"]
    return (
        f"A rule counts if it was there before the table; `{card['rule_sha256']}` names this one "
        "and no other:\n\n"
        f"- **REJECT** when a recall falls by more than {100 * rule['recall_drop']:g} points with "
        f"an adjusted p (Holm, over the classes) below {rule['alpha']:g}, whatever the averages "
        "say.\n"
        "- **KEEP** when balanced accuracy is up beyond noise (its lower limit is above 0) and "
        "nothing else is worse by more than its margin (points of top-1: "
        f"{100 * margins['top1']:g}, Brier: {margins['brier']:g}, NLL: {margins['nll']:g}, points "
        f"of every recall: {100 * margins['recall']:g}).\n"
        "- **NEUTRAL** otherwise; the sentence says what cannot be excluded.\n"
        f"- A **recipe** needs {rule['min_df']} degrees of freedom between runs; where their SD is "
        f"not measured, {100 * rule['single_run_sd']:g} points are assumed."
    )


def _limits(card: Card, shared: Sequence[str]) -> str:
    lines = [
        "- A verdict is on these weights, these images and these labels; on other images the "
        "numbers move by what the intervals say, and by whatever else is different there.",
        "- Intervals and tests are by patient and approximate; each interval is for its own "
        "number, not for all at once. Only the p of the classes are adjusted, "
        "among the classes of one configuration: of more configurations more are rejected or kept "
        "by chance.",
        "- A configuration that was chosen because it looks best here looks better than it is.",
    ]
    if not card["patients_known"]:
        lines.append(
            "- **Patients are not known for every image.** Several images of one patient that "
            "count as several patients make intervals too short and alarms too many."
        )
    lines += [f"- {note}" for note in shared]
    lines.append(
        "- Files: `scorecard.csv` (a row a configuration), `per_class.csv` (a row a configuration "
        "and class), `scorecard.json` (everything)."
    )
    return "\n".join(lines)


def number(value: float | None) -> str:
    """A loss or an area for a person.

    >>> number(0.41239), number(None)
    ('0.4124', 'undefined')
    """
    return "undefined" if value is None else f"{value:.4f}"


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"


def _plain(value: float) -> str:
    return f"{value:+.4f}"


def _p(value: float | None) -> str:
    if value is None:
        return "none differs"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _sentence(row: Card) -> str:
    text = str(row["sentence"])
    return text if text.endswith(".") else f"{text}."


def _name(name: str) -> str:
    return f"`{_cell(name)}`"


def _heading(name: str) -> str:
    return _cell(name)
