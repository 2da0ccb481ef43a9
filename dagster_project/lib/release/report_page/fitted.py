"""The sections on thresholds and their certificate.

Belongs: which value was found, released, deployed or certified, by which rule, on which terms.
Does not: what the thresholds do (``impact``).
Concept: a plug-in value and a certified one stand side by side and are never mixed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dagster_project.lib.release.report_page.parts import (
    Heading,
    Items,
    Part,
    Section,
    Table,
    Text,
    amount,
    capped,
    count,
    name,
    per_1000,
    percent,
    said,
    span,
    threshold,
    words,
)
from dagster_project.lib.release.report_page.slider import (
    Grid,
    certificate,
    certified_at,
    numbers,
    pins,
    single,
)
from dagster_project.lib.release.wording import CLAIMS, RULES
from dagster_project.lib.tiers.thresholds import ENV_NAMES

if TYPE_CHECKING:
    import polars as pl


def rule_words(rule: str, target: float) -> str:
    """A rule and its target as half a sentence."""
    return RULES[rule].format(target=percent(target), value=threshold(target))


def thresholds_section(report: Mapping[str, Any], curve: pl.DataFrame, grid: Grid) -> Section:
    """Fitted, released, deployed and certified values, and the slider at each of them."""
    old = report["deployed"]["thresholds"] if report.get("deployed") else {}
    rows = []
    for key in ENV_NAMES:
        fit = report["selection"].get(key)
        sure = threshold(certified_at(report)) if key == "confident" else "not certified"
        rows.append(
            (
                key,
                threshold(fit["fitted"]) if fit else "set by the policy",
                _interval_of(fit) if fit else "",
                threshold(report["thresholds"][key]),
                threshold(old[key]) if old else "not known",
                sure,
                rule_words(fit["rule"], fit["target"]) if fit else "not fitted",
            )
        )
    head = ("threshold", "fitted", "95 % interval", "released", "deployed", "certified", "rule")
    parts: list[Part] = [
        Table("Thresholds", head, rows, words=frozenset({2, 6})),
        Text(
            "Released is fitted, rounded up to three decimals. Intervals are of the fitted value, "
            "by inversion over patients, and approximate."
        ),
        _pinned(report, curve, grid),
    ]
    others = [
        f"{side}: {other['rule']} at {percent(other['target'])} would have chosen "
        + ("nothing: not met" if other["released"] is None else threshold(other["released"]))
        for side in ("confident", "refer")
        for other in report["selection"][side].get("alternatives") or ()
    ]
    if others:
        parts += [Heading("What other rules would have chosen"), Items(others)]
    return Section("thresholds", "Thresholds", parts)


def _interval_of(fit: Mapping[str, Any]) -> str:
    pieces = fit.get("ci95_set") or ([fit["ci95"]] if fit.get("ci95") else [])
    text = " and ".join(span(piece, threshold) for piece in pieces)
    return (f"{text} (not connected)" if len(pieces) > 1 else text) or "undefined"


def _pinned(report: Mapping[str, Any], curve: pl.DataFrame, grid: Grid) -> Table:
    """What the slider shows at each pinned pair: the table that stands for it in print."""
    found = {(pin.kind, pin.side): pin.value for pin in pins(report)}
    rows = []
    for kind in ("released", "fitted", "deployed", "certified"):
        confident = found.get((kind, "confident"))
        # a certificate is about confident alone: it is shown beside the released refer value
        refer = found.get((kind, "refer"), report["thresholds"]["refer"])
        if confident is None:
            continue
        refer = min(refer, confident)
        shown = numbers(grid.total, single(curve, confident), single(curve, refer))
        rows.append(
            (
                kind,
                threshold(confident),
                threshold(refer),
                percent(shown["confident"]),
                per_1000(shown["wrong"]),
                percent(shown["covered_top1"]),
                percent(shown["refer"]),
                percent(shown["kept_top3"]),
            )
        )
    head = (
        *("pinned", "confident", "refer", "coverage", "confident and wrong per 1,000"),
        *("right, of the confident", "referred", "truth in best three, of the not referred"),
    )
    return Table("The slider at each pinned pair (estimand: images)", head, rows)


def certificate_section(report: Mapping[str, Any]) -> Section:
    """What was tested, with which result, on which terms; or that nothing was."""
    found = certificate(report)
    title = "Certificate"
    if found is None:
        none = "No certificate was computed: the thresholds are plug-in values, not certified."
        return Section("certificate", title, [Text(none)])
    sure = certified_at(report) is not None
    state = (
        f"Certified at {threshold(found['threshold'])}."
        if sure
        else "Not certified for the declared target."
    )
    parts: list[Part] = [Text(state, strong=True)]
    if found.get("reason"):
        why = str(found["reason"])
        parts.append(Text(f"{why[0].upper()}{why[1:]}."))
    if sure and not found.get("released_is_certified"):
        released = threshold(report["thresholds"]["confident"])
        parts.append(Text(f"The released threshold, {released}, is not a certified one."))
    parts += _tested(found)
    terms = _terms(found)
    if terms:
        parts.append(
            Table("Terms of the certificate", ("term", "value"), terms, words=frozenset({1}))
        )
    if found.get("subgroups"):
        parts += _certified_groups(found["subgroups"])
    if found.get("scope"):
        parts += [Heading("What it does and does not say"), Items([*map(str, found["scope"])])]
    return Section("certificate", title, parts)


def _tested(found: Mapping[str, Any]) -> list[Part]:
    claims = found.get("claims") or ()
    rows: list[tuple[str, ...]] = [
        (
            _claim(claim),
            percent(claim.get("observed"), 2),
            said(claim.get("holds"), "holds", "does not hold"),
            threshold(claim.get("alone")),
        )
        for claim in claims
    ]
    # both claims share one delta; either alone may reach further, at its own part of it
    head: tuple[str, ...] = (
        "claim",
        "observed at the certified value",
        "result",
        "certified alone",
    )
    if all(claim.get("alone") is None for claim in claims):
        head, rows = head[:3], [row[:3] for row in rows]
    caption = f"What was tested (estimand: {name(found.get('estimand') or 'images')})"
    return [Table(caption, head, rows)] if rows else []


def _certified_groups(groups: Sequence[Mapping[str, Any]]) -> list[Part]:
    shown, left = capped(groups, "claims")
    rows = [
        (
            f"{name(item['column'])}: {name(item['group'])}",
            _claim(item),
            count(item["n_images"]),
            count(item["n_patients"]),
            percent(item.get("observed"), 2),
            "shown to hold" if item["holds"] else "not shown to hold",
        )
        for item in shown
    ]
    head = ("subgroup", "claim", "images", "patients", "observed", "after Holm")
    caption = "Claims in subgroups at the released threshold (estimand: images)"
    return [Table(caption, head, rows, words=frozenset({1})), *left]


def claims_words(report: Mapping[str, Any]) -> str:
    """What a certificate of this report means; empty where none was computed."""
    found = certificate(report) or {}
    return " and ".join(_claim(claim) for claim in found.get("claims") or ())


def _claim(claim: Mapping[str, Any]) -> str:
    quantity, target = str(claim["quantity"]), claim.get("target")
    if quantity in CLAIMS and target is not None:
        return CLAIMS[quantity].format(target=percent(target))
    return f"{words(quantity)} {amount(target)}"


def _terms(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    coverage = None if found.get("coverage") is None else percent(found["coverage"])
    needed = found.get("rows_needed")
    given = {
        "probability of a wrong certificate, at most (delta)": found.get("delta"),
        "method": found.get("method"),
        "strictest threshold tested (start)": found.get("start"),
        "least coverage": found.get("min_coverage"),
        "images": found.get("n_images"),
        "patients": found.get("n_patients"),
        "images of one patient that count, at most": found.get("max_images_per_patient"),
        "images dropped for that": found.get("n_dropped"),
        "patients are known": found.get("patients_known"),
        "coverage at the certified threshold": coverage,
        "looks at these rows": found.get("looks"),
        "images needed for 80 % power": needed,
        "at the threshold": found.get("rows_needed_at") if needed is not None else None,
    }
    models = found.get("models")
    if models is not None and models > 1:
        given["models that share delta"] = models
    return [(key, amount(value)) for key, value in given.items() if value is not None]
