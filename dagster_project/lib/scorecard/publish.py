"""The files of a scorecard: two tables, a report, the card itself, three pictures.

Belongs: the columns and their order, the folder that appears whole.
Does not: counting, wording (``words``), drawing (``pictures``).
Concept: same card and answers, same bytes; an undefined number is an empty cell.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from dagster_project.lib import files
from dagster_project.lib.progress import OnProgress, silent
from dagster_project.lib.scorecard import pictures, words
from dagster_project.lib.scorecard.comparison import MEASURES

if TYPE_CHECKING:
    from dagster_project.lib.scorecard.answers import Answers

FILES = ("scorecard.csv", "per_class.csv", "scorecard.md", "scorecard.json", *words.PICTURES)

_FIRST = ("config", "n", "top1", "top3", "balanced_accuracy", "ece", "temperature", "verdict")
_MORE = (
    *("n_patients", "macro_f1", "brier", "nll", "ece_debiased"),
    *("nll_top_before", "nll_top_after", "aurc", "e_aurc", "augrc"),
)
_POINT = ("confident", "refer", "coverage", "confident_wrong")
_CLASS = ("n", "recall", "precision", "f1", "overprediction")
_TEXT = frozenset(
    {
        *("config", "class", "verdict", "given_verdict", "recipe", "sink", "method"),
        *("sentence", "unclear", "fallen"),
    }
)
_COUNTS = frozenset({"n", "n_patients", "n_predicted", "n_given"})


def scorecard_table(card: Mapping[str, Any]) -> pl.DataFrame:
    """``scorecard.csv``: a row a configuration, in order.

    Returns
    -------
    (M,) ``config, n, top1, top3, balanced_accuracy, ece, temperature, verdict`` (null for the
    baseline); other measures; ``temperature_low``, ``temperature_high``; ``deployed_`` and
    ``refitted_`` ``confident, refer, coverage, confident_wrong``; ``sink``,
    ``sink_overprediction``; ``recipe``; ``sentence``, ``fallen``, ``unclear`` (classes, joined by
    ``; ``); ``given_`` MEASURES and ``given_verdict``, on the labels before cleaning; and for each
    of MEASURES ``_difference``, ``_low``, ``_high``.
    """
    rows = [_config_row(card, row) for row in card["configs"]]
    return _frame(rows)


def per_class_table(card: Mapping[str, Any]) -> pl.DataFrame:
    """``per_class.csv``: a row a configuration and class, in order.

    Returns
    -------
    (M * K,) ``config, class, n, recall, precision, f1, overprediction``; ``n_patients``,
    ``n_predicted``; ``recall_baseline``, ``recall_difference``, ``recall_low``, ``recall_high``,
    ``recall_by_chance``, ``z``, ``p``, ``method``, ``p_holm`` (null for the baseline);
    ``n_given``, ``recall_given`` (null without labels before cleaning).
    """
    rows = []
    for config in card["configs"]:
        compared = card["comparisons"].get(config["config"])
        changes = compared["per_class"] if compared else [None] * len(config["per_class"])
        before = _before(card, config["config"])
        given = before.get("per_class", [{}] * len(config["per_class"]))
        for row, old, change in zip(config["per_class"], given, changes, strict=True):
            rows.append(
                _class_row(config["config"], row, change)
                | {"n_given": old.get("n"), "recall_given": old.get("recall")}
            )
    return _frame(rows)


def scorecard_files(
    card: Mapping[str, Any], answers: Answers, *, on_progress: OnProgress = silent
) -> dict[str, bytes]:
    """Every file by name, in memory."""
    make: dict[str, Callable[[], bytes]] = {
        "scorecard.csv": lambda: scorecard_table(card).write_csv().encode(),
        "per_class.csv": lambda: per_class_table(card).write_csv().encode(),
        "scorecard.md": lambda: words.scorecard_note(card).encode(),
        "scorecard.json": lambda: scorecard_json(card).encode(),
        "recall_change.png": lambda: pictures.recall_change_png(card),
        "reliability.png": lambda: pictures.reliability_png(card, answers),
        "operating_curves.png": lambda: pictures.operating_curves_png(card, answers),
    }
    made = {}
    for done, (name, content) in enumerate(make.items(), start=1):
        made[name] = content()
        on_progress(done, len(make), name)
    return made


def scorecard_json(card: Mapping[str, Any]) -> str:
    """The card as text, here and on the command line: same card, same bytes."""
    return json.dumps(card, indent=2, sort_keys=True, allow_nan=False) + "\n"


def prepare_out(out: Path) -> Path:
    """The folder to be written, links followed; to be called before any work.

    Raises
    ------
    InputError
        It holds what a scorecard did not write, or cannot be replaced (``files.replaceable``).
    """
    return files.replaceable(out, lambda _: FILES, "a scorecard")


def write_scorecard(
    card: Mapping[str, Any], answers: Answers, out: Path, *, on_progress: OnProgress = silent
) -> Path:
    """Write the folder; an earlier scorecard in its place is replaced whole.

    Returns
    -------
    The folder, as :func:`prepare_out` gives it; errors likewise.
    """
    out = prepare_out(out)
    contents = scorecard_files(card, answers, on_progress=on_progress)
    with files.replace_folder(out) as folder:
        for name, data in contents.items():
            (folder / name).write_bytes(data)
    return out


def _config_row(card: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    made = {name: row[name] for name in (*_FIRST, *_MORE)}
    ends = row["temperature_ci95"] or (None, None)
    made |= {"temperature_low": ends[0], "temperature_high": ends[1]}
    for side in ("deployed", "refitted"):
        point = row[side] or {}
        made |= {f"{side}_{name}": point.get(name) for name in _POINT}
    sink = row["sink"] or {}
    made |= {"sink": sink.get("class"), "sink_overprediction": sink.get("overprediction")}
    made |= {"recipe": row["recipe"], "sentence": row["sentence"]}
    made |= {
        name: None if row[name] is None else "; ".join(row[name]) for name in ("fallen", "unclear")
    }
    before = _before(card, row["config"])
    made |= {f"given_{name}": before.get(name) for name in (*MEASURES, "verdict")}
    compared = card["comparisons"].get(row["config"])
    for name in MEASURES:
        found = compared["differences"][name] if compared else {}
        for column, key in (("difference", "estimate"), ("low", "low"), ("high", "high")):
            made[f"{name}_{column}"] = found.get(key)
    return made


def _before(card: Mapping[str, Any], config: str) -> Mapping[str, Any]:
    """The configuration's row on the labels before cleaning; empty without them."""
    rows = card["given"]["configs"] if card["given"] else []
    return next((row for row in rows if row["config"] == config), {})


def _class_row(
    config: str, row: Mapping[str, Any], change: Mapping[str, Any] | None
) -> dict[str, Any]:
    found = change or {}
    difference = found.get("difference") or {}
    return {
        "config": config,
        "class": row["class"],
        **{name: row[name] for name in _CLASS},
        "n_patients": row["n_patients"],
        "n_predicted": row["n_predicted"],
        "recall_baseline": found.get("baseline"),
        "recall_difference": difference.get("estimate"),
        "recall_low": difference.get("low"),
        "recall_high": difference.get("high"),
        "recall_by_chance": found.get("chance"),
        "z": difference.get("z"),
        "p": difference.get("p"),
        "method": found.get("method"),
        "p_holm": found.get("p_holm"),
    }


def _frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """One type a column, whatever is null in it."""
    schema = {
        name: pl.String if name in _TEXT else pl.Int64 if name in _COUNTS else pl.Float64
        for name in rows[0]
    }
    return pl.DataFrame(rows, schema=schema, strict=True)
