"""``rollup_report.md``: what rolling up gains and costs, as a report that is read from the top.

Belongs: the wording and the order: decision, ranks, certificate, what changed, rules, limits.
Does not: any number of its own; everything is read from the report's JSON.
Concept: each number says what it is of. Shares are per cent of all judged images unless another
denominator stands beside them; intervals are 95 %, by patient, each for its own number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dagster_project.lib.markdown import cell, percent, table
from dagster_project.lib.release.wording import looked

PICTURES = ("taxonomy_tree.png", "accuracy_specificity.png")

NOT_VALIDATED = (
    "**NOT CLINICALLY VALIDATED.** No dermatologist has approved this taxonomy: do not show its "
    "names to patients and do not use them in care."
)
_UNSAID = (
    "Whether anybody validated this taxonomy clinically is not said in it (column "
    "`clinically_validated`): **NOT CLINICALLY VALIDATED**, as far as is known."
)
_IN_PART = (
    "**Labels reviewed in part favour the model whose suspicions were reviewed**: errors that "
    "label and model share count as right. Only the certificate, where there is one, is of all "
    "labels; every other figure is on the labels in force."
)
_ETA = 0.1
_AIM = {"met": "met", "missed": "**missed**", "open": "open", None: ""}

Report = Mapping[str, Any]


def rollup_note(report: Report) -> str:
    """Markdown of a report of ``make_report``."""
    evaluation = report["evaluation"]
    head = ["# Roll-up: what is said when the model is unsure", _warning(report["taxonomy"])]
    if evaluation is None:
        return _joined([*head, _placed_only(report), "## Made with\n\n" + _made_with(report)])
    return _joined(
        [
            *head,
            _decision(report),
            _basis(report),
            "## By rank\n\n" + _by_rank(report),
            "## Thresholds\n\n" + _thresholds(report),
            "## What changed\n\n" + _transitions(evaluation),
            "## Together with tiers\n\n" + _tiers(evaluation["outcome_mix"]),
            "## All rules on these images\n\n" + _rules(report),
            "## Lineage against distribution\n\n" + _lineage(evaluation["lineage_vs_distribution"]),
            "## Which confusions the taxonomy holds\n\n" + _confusion(evaluation),
            *(
                ["## Mask\n\n" + _mask(evaluation["mask"])]
                if evaluation["mask"] is not None
                else []
            ),
            "## In parts\n\n" + _parts(evaluation),
            "## Label noise\n\n" + _noise(report),
            "## Made with\n\n" + _made_with(report),
            "## Limits\n\n" + _limits(report),
        ]
    )


def summary_lines(report: Report) -> list[str]:
    """A few plain lines for a terminal."""
    lines = []
    if report["taxonomy"]["validated"] is not True:
        lines.append(f"taxonomy {report['taxonomy']['name']}: NOT CLINICALLY VALIDATED")
    if report["fit"] is not None:
        lines.append(_plain(certificate_words(report["fit"]["certificate"])))
    told = [f"{row['rank']} {row['n']:,} ({percent(row['share'])})" for row in _ranks_of(report)]
    lines.append(f"{report['n']:,} images: {', '.join(told)}, unplaced {_unplaced(report):,}")
    if report["evaluation"] is not None:
        lines.append(_plain(gained(report["evaluation"])))
    return lines


def gained(evaluation: Report) -> str:
    """What rolling up gains and costs, in one sentence."""
    before, after = evaluation["before"], evaluation["after"]
    kinds = {row["kind"]: row["share"]["n"] for row in evaluation["transitions"]["kinds"]}
    introduced = kinds["introduced"]
    return (
        f"Of {counted(before['wrong']['n'], 'wrong leaf', 'wrong leaves')} "
        f"({percent(before['wrong']['rate'])} of {counted(evaluation['n'], 'image')}) "
        f"{counted(kinds['fixed'], 'becomes', 'become')} a right coarser answer and "
        f"{counted(kinds['withheld_wrong'], 'is', 'are')} not said; "
        f"{counted(after['wrong']['n'], 'wrong answer')} ({percent(after['wrong']['rate'])}) "
        f"{'is' if after['wrong']['n'] == 1 else 'are'} left. The price: "
        f"{counted(kinds['specificity_lost'], 'right leaf is', 'right leaves are')} said at a "
        f"coarser rank only and {kinds['withheld_right']:,} not at all"
        + (
            f"; {counted(introduced, 'right one')} became wrong."
            if introduced
            else "; none became wrong."
        )
    )


def certificate_words(found: Report) -> str:
    """What a certificate of ``shift.certify_shift`` says, in a few sentences."""
    bound = f"P(placed and wrong) below {percent(found['target'])} of all images"
    if found["n_dropped"]:
        bound += f" (at most {found['max_images_per_patient']} a patient)"
    looked = _looked(found)
    if found["status"] == "certified":
        stricter = (
            ", and so does every stricter shift"
            if found["monotone"]
            else "; of other shifts only those that were tested"
        )
        return (
            f"**Certified**: {bound}, with probability {percent(1 - found['delta'], 0)} over the "
            f"draw of patients{_and_reviews(found)}; on {counted(found['n_images'], 'image')} of "
            f"{counted(found['n_patients'], 'patient')} that had no part in the shape: "
            f"{_seen(found)}, with {percent(found['placed'])} placed, at a shift of "
            f"{found['shift']:+.2f}, which holds{stricter}.{_no_looser(found)}{looked}"
        )
    needed = found["rows_needed"]
    more = (
        ""
        if needed in (None, "never")
        else f" About {counted(needed, 'image')} of patients B would be needed."
    )
    never = " No number of images would do at this rate." if needed == "never" else ""
    return (
        f"**Not certified**: {bound} is not shown ({found['reason']}). Nothing is placed: no image "
        f"is answered on an unproven bound.{more}{never}{looked}"
    )


def _and_reviews(found: Report) -> str:
    return " and of reviews" if found["reviewed_in_part"] else ""


def _seen(found: Report) -> str:
    """The rate at the shift, and whose word it is."""
    if not found["reviewed_in_part"]:
        return f"seen {percent(found['observed'], 2)}, as these labels have it"
    reviewed = f"{found['n_reviewed']:,} of them reviewed"
    if found["observed"] is None:
        return f"no estimate from these reviews ({reviewed})"
    return f"estimated from reviews {percent(found['observed'], 2)} ({reviewed})"


def _no_looser(found: Report) -> str:
    """What keeps a certified shift from being looser, where it is what was reviewed."""
    if found["review_note"] is None or found["stopped_at"] is None:
        return ""
    return f" No looser shift is: {found['review_note']}."


def _looked(found: Report) -> str:
    """What this look costs, as the tiers say it; nothing where looks are not counted."""
    if found["looks"] is None:
        return ""
    return f" {looked(found['looks'], found['delta'])}"


def _warning(taxonomy: Report) -> str:
    return {False: NOT_VALIDATED, None: _UNSAID, True: "The taxonomy says of itself that it is "
            "clinically validated."}[taxonomy["validated"]]  # fmt: skip


def _decision(report: Report) -> str:
    evaluation = report["evaluation"]
    tests = {row["measure"]: row for row in evaluation["transitions"]["tests"]}
    rows = [
        (
            words,
            percent(evaluation["before"][key]["rate"]),
            percent(evaluation["after"][key]["rate"]),
            _difference(tests[key]) if key in tests else "",
        )
        for key, words in (
            ("placed", "answered, of all images"),
            ("right", "right, of all images"),
            ("wrong", "wrong, of all images"),
            ("accuracy", "right, of the answered"),
        )
    ]
    rows.append(
        (
            "specificity (1: a class, 0: nothing)",
            f"{evaluation['before']['specificity']['mean']:.3f}",
            f"{evaluation['after']['specificity']['mean']:.3f}",
            "",
        )
    )
    parts = [f"**{gained(evaluation)}**"]
    if report["fit"] is not None:
        parts.append(certificate_words(report["fit"]["certificate"]))
    head = ("", "leaf", "rolled up", "points (95 %), p by patient (Holm)")
    parts += [
        table(head, rows) + _in_force(report),
        f"![the taxonomy, coloured by accuracy]({PICTURES[0]})",
    ]
    return "\n\n".join(parts)


def _basis(report: Report) -> str:
    evaluation = report["evaluation"]
    patients = counted(evaluation["n_patients"], "patient")
    if not evaluation["patients_known"]:
        patients += " (an image without a known patient counts as one)"
    labels = {
        "cleaned": "the labels in force, cleaned by review",
        "unstated": "labels whose origin is not known here",
    }[report["labels"]]
    return (
        f"Judged: {evaluation['n']:,} of {report['n']:,} images, {patients}, against {labels}. "
        "Labels that were changed, dropped or chosen because this model agreed or disagreed with "
        f"them make every figure look better than it is. {_reviewed(report)}"
    )


def _reviewed(report: Report) -> str:
    """How many labels were reviewed, and what that does to the figures."""
    found = report["reviewed"]
    if found is None:
        return (
            "How many of these labels were reviewed is not known here; reviews of some that looked "
            "first where label and model disagree make every figure look better, too."
        )
    told = f"Reviewed: {found['n_reviewed']:,} of {found['n']:,} judged images."
    return told + (f" {_IN_PART}" if found["in_part"] else "")


def _in_force(report: Report) -> str:
    """Beside figures that take labels in force at their word, where reviews were partial."""
    found = report["reviewed"]
    if found is None or not found["in_part"]:
        return ""
    return (
        f"\n\n**On labels in force**, of which {found['n_reviewed']:,} of {found['n']:,} are "
        "reviewed: errors that label and model share count as right here."
    )


def _by_rank(report: Report) -> str:
    evaluation = report["evaluation"]
    rows = [
        (
            cell(row["rank"]),
            number(row["threshold"]),
            f"{row['n']:,}",
            _rate(row["share"]),
            _rate(row["accuracy"]),
            number(row["mean_score"]),
            percent(row["aim"]) if row["aim"] is not None else "none",
            _AIM[row["aim_met"]],
        )
        for row in evaluation["by_rank"]
    ]
    unplaced = evaluation["n"] - evaluation["after"]["placed"]["n"]
    share = percent(unplaced / evaluation["n"])
    rows.append(("unplaced", "", f"{unplaced:,}", share, "", "", "", ""))
    head = ("rank", "from", "images", "share (95 %)", "right (95 %)", "mean score", "aim", "aim is")
    sides = evaluation["by_side"]
    side = "" if sides is None else "\n\n" + _groups("side of the fit", sides)
    return (
        table(head, rows)
        + "\n\nAn aim is met if the whole interval is at or above it, missed if below. A mean "
        "score above the share that is right: the sums promise too much; calibrate first."
        + _in_force(report)
        + side
    )


def _thresholds(report: Report) -> str:
    fit = report["fit"]
    if fit is None:
        if report["config"]["parameter"] is not None or report["config"]["rule"] == "speciesnet":
            return "The rule has a single number in place of thresholds; nothing was fitted."
        return "Given in the configuration; nothing was fitted and nothing is certified."
    rows = [
        (
            cell(row["rank"]),
            number(fit["shape"][row["rank"]]),
            number(fit["thresholds"][row["rank"]]),
            f"{row['n']:,} ({row['n_patients']:,})",
            percent(row["accuracy"])
            + ("" if row["low"] is None else f" ({_ends(row['low'], row['high'])})"),
            _AIM[row["aim_met"]],
        )
        for row in fit["accuracies"]
    ]
    level = f"jointly {percent(1 - fit['certificate']['delta'], 0)}"
    head = ("rank", "shape", "threshold", "images of B (patients)", f"right on B ({level})",
            "aim is")  # fmt: skip
    lines = [table(head, rows) + _in_force(report)]
    lines += [f"- {cell(rank)} is never said: {cell(why)}" for rank, why in fit["disabled"].items()]
    scope = " ".join(fit["certificate"]["scope"])
    a, b = fit["n_a"], fit["n_b"]
    lines.append(
        f"Patients A ({a['patients']:,}, {a['images']:,} images) gave the shape, patients B "
        f"({b['patients']:,}, {b['images']:,} images) the shift. {scope}"
    )
    return "\n\n".join(lines)


def _transitions(evaluation: Report) -> str:
    found = evaluation["transitions"]
    ranks = [*evaluation["ranks"], "unplaced"]
    rows = [
        (
            row["kind"].replace("_", " "),
            row["meaning"],
            f"{row['share']['n']:,}",
            _rate(row["share"]),
            *(f"{row['by_rank'][rank]:,}" for rank in ranks),
        )
        for row in found["kinds"]
        if row["share"]["n"]
    ]
    none = [row["kind"].replace("_", " ") for row in found["kinds"] if not row["share"]["n"]]
    head = ("image by image", "before, and after", "images", "share (95 %)", *map(cell, ranks))
    tests = "\n".join(
        f"- {row['measure'].replace('_', ' ')}: {percent(row['before'])} to "
        f"{percent(row['after'])}, {_difference(row)}."
        for row in found["tests"]
    )
    return f"{table(head, rows)}\n\nNo image: {', '.join(none)}.\n\n{tests}"


def _tiers(mix: Report | None) -> str:
    if mix is None:
        return "No thresholds of the tiers are known here: nothing is said of possible and refer."
    ranks = list(mix["tiers"][0]["right"])
    rows = [
        (
            row["tier"],
            f"{row['n']:,}",
            _rate(row["leaf_right"]),
            *(_rate(row["right"][rank]) for rank in ranks),
            _rate(row["wrong"]),
            _rate(row["unplaced"]),
        )
        for row in mix["tiers"]
    ]
    head = ("tier", "images", "leaf right", *(f"right {cell(rank)}" for rank in ranks), "wrong",
            "unplaced")  # fmt: skip
    both = [
        (row["outcome"].replace("_", " "), _rate(row["without"]), _rate(row["with"]))
        for row in mix["mix"]
    ]
    return (
        f"{table(head, rows)}\n\nThe mix of outcomes, of all images, and with the policy line "
        f"**{mix['line']}** (a referred image that clears a rank is told that node):\n\n"
        + table(("outcome", "tiers alone", "with the line"), both)
        + "\n\nThe two together have no certificate of their own."
    )


def _rules(report: Report) -> str:
    masked = ", after the mask" if report["evaluation"]["mask"] is not None else ""
    rows = [
        (
            f"**{row['rule']}**" if row["own"] else row["rule"],
            _at(row) + (masked if row["rule"] == "leaf" else ""),
            *(_rate(row[key]) for key in ("placed", "right", "wrong", "accuracy")),
            "undefined"
            if row["specificity"]["mean"] is None
            else f"{row['specificity']['mean']:.3f}",
        )
        for row in report["rules"]
    ]
    head = ("rule", "at", "answered", "right", "wrong", "right, of the answered", "specificity")
    return (
        table(head, rows)
        + "\n\nRules by rank stand at this roll-up's thresholds. *Matched*: the parameter of a "
        "grid that makes the most mistakes without making more than this roll-up, chosen on these "
        "very images: to compare rules by what they say at equal risk, not to deploy. Rules are "
        f"told in docs/rollup.md.\n\n![accuracy against specificity]({PICTURES[1]})"
    )


def _at(row: Report) -> str:
    if row["parameter"] is None:
        return {"always": "always", "thresholds": "these thresholds"}[row["at"]]
    return f"{row['parameter']:g} ({row['at']})"


def _lineage(found: Report) -> str:
    free = found["free"]
    same = found["differ"]["n"] == 0
    lines = [
        f"{free} leaves the leaf's own ancestors in {_of(found['off_lineage'])} of its answers."
    ]
    if found["off_lineage"]["n"]:
        lines.append(
            f"There it is right in {_of(found['there']['free'])}, the leaf's own ancestor at the "
            f"same rank in {_of(found['there']['own_ancestor'])}."
        )
    if same:
        lines.append("No image ends differently.")
    else:
        p = "" if found["p"] is None else f" (p {_p(found['p'])}, by patient)"
        right, wrong = found["right"], found["wrong"]
        lines.append(
            f"{_of(found['differ'])} of all images end differently: there lineage is right in "
            f"{right['lineage']['n']:,} and wrong in {wrong['lineage']['n']:,}, {free} right in "
            f"{right['free']['n']:,} and wrong in {wrong['free']['n']:,}{p}."
        )
    return " ".join(lines)


def _confusion(evaluation: Report) -> str:
    rows = [
        (
            cell(row["taxonomy"]),
            cell(row["rank"]),
            str(row["n_nodes"]),
            _rate(row["captured"]),
            percent(row["by_chance"]),
        )
        for row in evaluation["confusion"]
    ]
    head = ("taxonomy", "rank", "nodes", "of the leaf's errors, truth and answer share a node",
            "by chance")  # fmt: skip
    return (
        table(head, rows)
        + "\n\nOnly what a rank captures beyond chance is mended by knowing more than nothing."
    )


def _mask(mask: Report) -> str:
    rows = [
        ("truth is excluded", _rate(mask["truth_excluded"])),
        ("leaf corrected", _rate(mask["corrected"])),
        ("leaf regressed", _rate(mask["regressed"])),
        ("not decided: too little kept mass", _rate(mask["not_decided"])),
    ]
    kept = mask["kept_mass"]["mean"]
    return (
        f"{mask['n_allowed']} of {mask['n_classes']} classes may be said; mean kept mass "
        f"{'undefined' if kept is None else f'{kept:.3f}'}.\n\n"
        + table(("of all images", "share (95 %)"), rows)
    )


def _parts(evaluation: Report) -> str:
    parts = [
        _groups("true class", evaluation["by_class"]),
        _groups("score of the leaf", evaluation["by_confidence"]),
    ]
    if evaluation["by_tier"] is not None:
        parts.insert(0, _groups("tier", evaluation["by_tier"]))
    return "\n\n".join(parts) + (
        "\n\nRates of fewer than 5 patients are left out, of fewer than 30 marked (few). Of many "
        "groups some look bad by chance."
    )


def _groups(name: str, groups: Sequence[Report]) -> str:
    ranks = list(groups[0]["ranks"]) if groups else []
    rows = []
    for row in groups:
        keys = ("right_before", "placed", "right", "wrong", "accuracy")
        few = " (few)" if row["too_few"] and row["right"] is not None else ""
        rows.append(
            (
                cell(row["group"]) + few,
                f"{row['n']:,} ({row['n_patients']:,})",
                *("" if row[key] is None else percent(row[key]["rate"]) for key in keys),
                *(f"{row['ranks'][rank]:,}" for rank in ranks),
            )
        )
    head = (name, "images (patients)", "leaf right", "answered", "right", "wrong",
            "right, of the answered", *(f"n {cell(rank)}" for rank in ranks))  # fmt: skip
    return table(head, rows)


def _noise(report: Report) -> str:
    found = report["evaluation"]["label_noise"]
    rows = [
        (
            cell(row["statistic"].replace("_", " ")),
            percent(row["observed"]),
            f"{percent(row['low'])} to {percent(row['high'])}",
        )
        for row in found["bounds"]
        if row["eta"] == _ETA
    ]
    borne = found["labels_to_target"]
    told = (
        ""
        if borne is None
        else f"\n\nAt most {borne:,} wrong labels among {report['evaluation']['n']:,} can be borne "
        "before placed-and-wrong could exceed the target on these images."
    )
    head = ("", "as seen", f"if {percent(_ETA, 0)} of the labels were wrong, wherever it hurts")
    return (
        table(head, rows) + f"{told}\n\nOther shares are in `rollup_report.json`. No assumption on "
        "which labels are wrong, hence wide; a label that is wrong within a family leaves that "
        "family's figures alone."
    )


def _placed_only(report: Report) -> str:
    rows = [
        (cell(row["rank"]), number(report["thresholds"][row["rank"]]), f"{row['n']:,}",
         percent(row["share"]))
        for row in _ranks_of(report)
    ]  # fmt: skip
    reasons = report["placed"]["reasons"]
    rows += [
        (name.replace("_", " "), "", f"{n:,}", percent(n / report["n"]))
        for name, n in reasons.items()
        if name != "placed"
    ]
    return (
        f"{counted(report['n'], 'image is', 'images are')} placed; **nothing is judged, because "
        "there are no labels**. How often these answers are right is not known here.\n\n"
        + table(("rank", "from", "images", "share"), rows)
    )


def _made_with(report: Report) -> str:
    config, taxonomy = report["config"], report["taxonomy"]
    rows = [
        ("configuration and thresholds", f"`{report['config_hash']}`"),
        ("rule", config["rule"]),
        ("parameter", "none" if config["parameter"] is None else f"{config['parameter']:g}"),
        ("normalisation", config["normalisation"]),
        ("mask", "none" if config["mask"] is None else _mask_words(config["mask"])),
        ("trivial nodes passed over", "yes" if config["skip_trivial_nodes"] else "no"),
        ("taxonomy", f"{cell(taxonomy['name'])}, `{taxonomy['sha256']}`, ranks "
                     f"{', '.join(map(cell, taxonomy['ranks']))}"),
        ("model", "not known" if report["model_tree_hash"] is None
                  else f"`{report['model_tree_hash']}`"),
    ]  # fmt: skip
    return table(("", ""), rows) + (
        "\n\nEvery state of every image is in the record, one file for each configuration in "
        "`predictions/`; everything above is in `rollup_report.json`."
    )


def _mask_words(mask: Report) -> str:
    key = "include" if mask["include"] is not None else "exclude"
    names = mask[key]
    listed = "all classes" if names is None else f"{key} {', '.join(map(cell, names))}"
    return (
        f"{listed}; {'' if mask['reweight'] else 'not '}reweighted; decided from kept mass "
        f"{mask['min_kept_mass']:g}"
    )


def _limits(report: Report) -> str:
    lines = [
        "A coarser answer is likelier right because it says less. Accuracy by rank alone is no "
        "progress; read it with specificity and with what was lost.",
        "The taxonomy decides what can be mended, and it is a choice of people.",
        "Intervals are by patient and approximate, each for its own number; nothing here but the "
        "certificate is a guarantee.",
    ]
    if report["fit"] is not None:
        lines.append(
            "Images of patients A gave the thresholds their shape and flatter it: read the sides "
            "apart. B is judged at thresholds that were certified on it."
        )
    if not report["evaluation"]["patients_known"]:
        lines.append(
            "**Patients are not known for every image**: several images of one patient that count "
            "as several patients make intervals too short."
        )
    return "\n".join(f"- {line}" for line in lines)


def _ranks_of(report: Report) -> Sequence[Report]:
    ranks: Sequence[Report] = report["placed"]["by_rank"]
    return ranks


def _unplaced(report: Report) -> int:
    return int(report["placed"]["unplaced"])


def counted(n: int, one: str, many: str | None = None) -> str:
    """A number with its noun or verb.

    >>> counted(1, "image"), counted(2000, "image"), counted(0, "is", "are")
    ('1 image', '2,000 images', '0 are')
    """
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def number(value: float | None) -> str:
    """A threshold or a score for a person; one that is not there is never reached.

    >>> number(0.51963), number(None)
    ('0.5196', 'none')
    """
    return "none" if value is None else f"{value:.4f}"


def _rate(found: Report) -> str:
    if found["rate"] is None:
        return "undefined"
    ends = found["ci95"]
    return percent(found["rate"]) + ("" if ends is None else f" ({_ends(*ends)})")


def _of(found: Report) -> str:
    """A rate with its counts: ``3 of 40 (7.5 %)``."""
    if found["rate"] is None:
        return "none of none"
    return f"{found['n']:,} of {found['of']:,} ({percent(found['rate'])})"


def _ends(low: float, high: float) -> str:
    return f"{100 * low:.1f} to {100 * high:.1f}"


def _difference(test: Report) -> str:
    change = test["difference"]
    if change["mean"] is None:
        return "undefined"
    ends = change["ci95"]
    told = "" if ends is None else f" ({100 * ends[0]:+.1f} to {100 * ends[1]:+.1f})"
    p = "nobody differs" if test["p_holm"] is None else f"p {_p(test['p_holm'])}"
    return f"{100 * change['mean']:+.1f}{told}, {p}"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _plain(text: str) -> str:
    return text.replace("**", "")


def _joined(parts: Sequence[str]) -> str:
    return "\n\n".join(parts) + "\n"
