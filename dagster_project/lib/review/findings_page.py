"""What the reviews taught, for people: sentences, one table, one picture, and their files.

Belongs: wording, drawing and publishing the value of ``findings.review_findings``.
Does not: any statistic.
Concept: aggregates only. What is not known is said in words and is no dot; every interval is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from dagster_project.lib import files, pictures, tables

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "review_findings"
"""Of the three files."""
SCHEMA = {
    "split": pl.String,
    "statistic": pl.String,
    "group": pl.String,
    "n": pl.Int64,
    "n_decided": pl.Int64,
    "n_hits": pl.Int64,
    "estimate": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "expected": pl.Float64,
    "note": pl.String,
}
MARKS = {"test": ("o", pictures.CONFIDENT), "train": ("s", pictures.POSSIBLE)}
"""Shape and colour of a split."""
AGREE_CONFIDENT = "label and model agree, confident"
MAX_SAID = 3
"""Classes, and named confusions, that get a sentence; all are in the table."""
_DRAWN = ("noise rate", "precision", "share found", "recall")


def write_findings(findings: Mapping[str, Any], folder: Path) -> None:
    """Publish ``review_findings.json`` (with ``sentences``), ``.csv``, ``.png`` in ``folder``."""
    path = folder / f"{NAME}.json"
    files.write_json(path, {**findings, "sentences": sentences(findings)})
    tables.write_csv(path.with_suffix(".csv"), findings_table(findings))
    files.publish_bytes(path.with_suffix(".png"), findings_picture(findings))


def findings_table(findings: Mapping[str, Any]) -> pl.DataFrame:
    """Every figure of :func:`findings.review_findings` on a row of its own.

    Returns
    -------
    ``split, statistic, group, n`` (rows of the frame, or pairs), ``n_decided, n_hits, estimate,
    low, high, expected, note`` (why there is no estimate); in reading order.
    """
    rows = list(_rows(findings))
    return pl.DataFrame(rows, schema=SCHEMA)


def _rows(findings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for split, found in findings["splits"].items():
        if found.get("reason") is not None:
            yield _row(split, "noise rate", "all", {"note": found["reason"]})
            continue
        yield _row(split, "noise rate", "all", found["noise"])
        for item in found["precision"]:
            name = "precision" if item["what"] == "label wrong" else "share found"
            group = item["kind"] if name == "precision" else f"{item['kind']}: not usable"
            yield _row(split, name, group, item)
        yield _row(split, "recall", "flagged", found["recall"])
        for item in found["per_class"]:
            yield _row(split, "wrong, given the class", item["class"], item)
        for item in found["confusions"]:
            pair = f"{item['given']} \N{RIGHTWARDS ARROW} {item['judged']}"
            yield _row(split, "named confusion", pair, item)
    own = findings["self_agreement"]
    for group, item in [("all", own), *((r["reviewer"], r) for r in own["reviewers"])]:
        counts = {"n_decided": item["n"], "n_hits": item["n_same"], "estimate": item["agreement"]}
        yield _row("all", "self-agreement", group, {**item, **counts})


def _row(split: str, statistic: str, group: str, item: Mapping[str, Any]) -> dict[str, Any]:
    low, high = item.get("ci95") or (None, None)
    expected = item.get("expected")
    note = item.get("note")
    if note is None and item.get("too_few"):
        note = "too few"
    elif note is None and item.get("estimate") is None:
        note = "nothing decided"
    return {
        "split": split,
        "statistic": statistic,
        "group": group,
        **{name: item.get(name) for name in ("n", "n_decided", "n_hits", "estimate")},
        "low": low,
        "high": high,
        "expected": expected.get("expected") if isinstance(expected, Mapping) else None,
        "note": note,
    }


def sentences(findings: Mapping[str, Any]) -> list[str]:
    """What the reviews taught, in plain words, most important first."""
    found = []
    for split, item in findings["splits"].items():
        found += _of_split(split, item)
    return [*found, _of_reviewers(findings["self_agreement"]), *_of_thresholds(findings)]


def _of_split(split: str, found: Mapping[str, Any]) -> list[str]:
    name = split.capitalize()
    if found["packet"] is None:
        return [f"{name}: {found['reason']}."]
    said = [
        f"{name}: {found['n_returned']:,} of {found['n_asked']:,} images asked about are back; "
        f"{found['n_decided']:,} are decided, {found['n_undecided']:,} are not, "
        f"{found['n_not_usable']:,} are not usable."
    ]
    if found["reason"] is not None:
        return [*said, f"{name}: {found['reason']}."]
    noise, hidden = found["noise"], _kind(found, AGREE_CONFIDENT)
    if noise["estimate"] is not None:
        said.append(f"{name}: {_share(noise)} of the given labels are wrong{_expected(noise)}.")
    said += _of_flags(name, found)
    if hidden["estimate"] is not None:
        said.append(
            f"{name}: where label and model agree with confidence, {_share(hidden)} of the labels "
            "are wrong. No flag can show these."
        )
    return [*said, *_of_classes(name, found)]


def _of_flags(name: str, found: Mapping[str, Any]) -> list[str]:
    precision, recall = _kind(found, "flagged"), found["recall"]
    if precision["estimate"] is None:
        return [f"{name}: no flagged label is decided; what a flag is worth is not known."]
    said = f"{name}: of the flagged labels {_share(precision)} are wrong{_expected(precision)}"
    if recall["estimate"] is None:
        return [f"{said}; how many wrong labels were flagged is not known."]
    return [f"{said}; of all wrong labels {_share(recall)} were flagged{_expected(recall)}."]


def _of_classes(name: str, found: Mapping[str, Any]) -> list[str]:
    classes, pairs = found["per_class"], found["confusions"]
    known = [row for row in classes if row["estimate"] is not None]
    others = "" if len(known) == len(classes) else "; for the others there are too few"
    said = [
        f"{name}: {len(known)} of {len(classes)} classes have enough decided images for a rate of "
        f"their own{others}."
    ]
    worst = sorted(known, key=lambda row: (-row["estimate"], row["class"]))[:MAX_SAID]
    if worst:
        listed = "; ".join(f"{row['class']} {_share(row)}" for row in worst)
        said.append(f"{name}: highest share of wrong labels by class: {listed}.")
    for row in [row for row in pairs if row["estimate"] is not None][:MAX_SAID]:
        said.append(
            f'{name}: of images given "{row["given"]}" {_share(row)} are judged "{row["judged"]}".'
        )
    if pairs:
        said.append(
            f"{name}: these confusions were named by the packet before anybody looked; a whole "
            "table of confusions cannot be estimated from a sample of this size."
        )
    return said


def _of_reviewers(own: Mapping[str, Any]) -> str:
    if not own["n"]:
        return "No reviewer has judged an image twice, so self-agreement is not known."
    beyond = own["chance_corrected"]
    corrected = "" if beyond is None else f", {beyond:.2f} beyond chance"
    return (
        f"Shown an image again, reviewers gave the same answer {own['n_same']:,} of {own['n']:,} "
        f"times ({_interval(own['ci95'])}){corrected}."
    )


def _of_thresholds(findings: Mapping[str, Any]) -> list[str]:
    effect = findings["thresholds"]
    if effect is None:
        return []
    before, after = effect["before"], effect["after"]
    if before is None:
        return [f"Effect on the thresholds not known: {effect['reason']}."]
    said = [
        f"The confident threshold is {before['confident']:.3f} on given labels of these images and "
        f"{after['confident']:.3f} with the reviews; refer {before['refer']:.3f} and "
        f"{after['refer']:.3f}."
    ]
    if before["estimate"] is not None:
        expected = effect["expected"]
        was = "" if expected is None else f"; {_percent(expected['expected'])} was expected"
        said.append(
            f"At {before['confident']:.3f} given labels show {_percent(before['given'])} confident "
            f"and wrong of all images; the reviews say {_share(before)}{was}. At "
            f"{after['confident']:.3f} they say {_share(after)}."
        )
    return said


def _kind(found: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    return next(row for row in found["precision"] if row["kind"] == kind)


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _interval(ci95: Sequence[float] | None) -> str:
    return "no interval" if ci95 is None else f"95 %: {_percent(ci95[0])} to {_percent(ci95[1])}"


def _share(item: Mapping[str, Any]) -> str:
    return f"{_percent(item['estimate'])} ({_interval(item['ci95'])})"


def _expected(item: Mapping[str, Any]) -> str:
    expected = item.get("expected")
    return "" if not expected else f"; {_percent(expected['expected'])} was expected"


def findings_picture(findings: Mapping[str, Any]) -> bytes:
    """PNG: noise rate, precision of each kind and recall as dots with 95 % intervals, by split."""
    table = findings_table(findings).filter(
        pl.col("statistic").is_in(_DRAWN) & pl.col("estimate").is_not_null()
    )
    names = table.select("statistic", "group").unique(maintain_order=True).rows()
    shown = table["split"].unique().to_list()
    figure = pictures.new_figure(7.5, 1.4 + (0.24 + 0.16 * len(shown)) * max(len(names), 1))
    axes = figure.add_subplot()
    if not names:
        axes.text(0.5, 0.5, "no packet has come back", ha="center", va="center")
        axes.set_axis_off()
        return pictures.png(figure)
    for row in table.iter_rows(named=True):
        place = names.index((row["statistic"], row["group"]))
        shift = 0.0 if len(shown) == 1 else (-0.2 if row["split"] == "test" else 0.2)
        _dot(axes, row, place + shift)
    axes.set_yticks(range(len(names)), [_label(*name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.set_xlabel("share, 95 % interval; right: wrong of decided images, as counted")
    _legend(figure, axes, sorted(shown), table["expected"].null_count() < table.height)
    figure.suptitle("What the reviews taught", x=0.01, ha="left", fontsize=10)
    return pictures.png(figure)


def _dot(axes: Any, row: Mapping[str, Any], y: float) -> None:
    marker, colour = MARKS[row["split"]]
    if row["low"] is not None:
        axes.hlines(y, row["low"], row["high"], color=colour, lw=2)
    axes.plot(row["estimate"], y, marker, color=colour, ms=5.5)
    if row["expected"] is not None:
        axes.plot(row["expected"], y, "D", mfc="none", mec=pictures.INK, ms=5.5)
    if row["n_hits"] is not None:
        text = f"{row['n_hits']} of {row['n_decided']}"
        axes.annotate(
            text, (1.02, y), xycoords=("axes fraction", "data"), va="center", fontsize=7.5
        )


def _label(statistic: str, group: str) -> str:
    if statistic == "noise rate":
        return "all given labels: wrong"
    if statistic == "recall":
        return "wrong labels: flagged (recall)"
    return f"{group}: wrong" if statistic == "precision" else group


def _legend(figure: Figure, axes: Any, splits: Sequence[str], with_expected: bool) -> None:
    for split in splits:
        marker, colour = MARKS[split]
        axes.plot([], [], marker, color=colour, label=f"{split} split")
    if with_expected:
        axes.plot([], [], "D", mfc="none", mec=pictures.INK, label="expected before")
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
