"""The history of label versions: when, from how many reviews, what changed, which thresholds then.

Belongs: one line a version, adding it once, the table of them.
Does not: making a version (``consensus``), fitting (``tiers``); no image and no person is named.
Concept: lines are only added. The same version with the same thresholds again, a retry say, adds
none; going back to an older version adds one. What changed is counted against the labels of the
line before, kept beside the file; the line says which version these were.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from dagster_project.lib import files, tables
from dagster_project.lib.errors import InputError

THRESHOLDS = ("confident", "refer", "possible_item")

_PAIRS_SHOWN = 5
_SAME = ("label_version", "model_tree_hash", "thresholds_after")
"""What makes a line equal to the one before it."""
_KEYS = (*_SAME, "time", "thresholds_before", "changed", "n_changed")


@dataclass(frozen=True)
class LabelVersion:
    """One version of the labels, as the fit that stands on it read it.

    Attributes
    ----------
    n_files, n_files_refused : review files whose content counts; files that were refused whole.
    """

    label_version: str
    reviews_version: str
    model_tree_hash: str
    n_files: int
    n_files_refused: int
    n_reviews: int
    n_reviewers: int


def record_version(
    path: Path,
    version: LabelVersion,
    labels: pl.DataFrame,
    thresholds: Mapping[str, float],
    now: datetime,
) -> list[dict[str, Any]]:
    """Add the line of a version unless the last line says the same, and return every line.

    Parameters
    ----------
    path : the history, JSON lines; made if it is not there. ``<stem>_rows.parquet`` beside it holds
        the labels of its last line. A second process waits.
    labels : (N,) ``image_uuid, label`` in force, an image once.
    thresholds : :data:`THRESHOLDS` fitted on them.
    now : written as UTC; not part of what makes a line new.

    Returns
    -------
    The lines, oldest first: ``time``, the fields of :class:`LabelVersion`, ``compared_with`` (the
    label version that changes are counted against), ``n_changed`` and ``changed`` (``from, to, n``
    by class, most frequent first, over the images that are in both; a label that is not there is
    null), ``thresholds_before`` (of the line before) and ``thresholds_after``. Null where nothing
    was before.

    Raises
    ------
    InputError
        The history is not readable as one.
    """
    files.make_folder(path.parent)
    rows = path.with_name(f"{path.stem}_rows.parquet")
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lines = read_history(path)
        before = lines[-1] if lines else None
        after = {name: float(thresholds[name]) for name in THRESHOLDS}
        line = {"time": _utc(now), **asdict(version), "thresholds_after": after}
        if before is None or any(line[key] != before[key] for key in _SAME):
            line["thresholds_before"] = before and before["thresholds_after"]
            lines.append(line | _changes(rows, labels))
            text = "".join(json.dumps(entry, sort_keys=True) + "\n" for entry in lines)
            files.write_text(path, text)
        # after the line: a process killed between the two leaves older labels, and their version
        if _version_of(rows) != version.label_version:
            kept = labels.select("image_uuid", "label").to_arrow()
            about = {"label_version": version.label_version}
            tables.write_arrow(rows, tables.with_metadata(kept, about))
    return lines


def _utc(now: datetime) -> str:
    return now.astimezone(UTC).isoformat(timespec="seconds")


def _version_of(rows: Path) -> str | None:
    return tables.read_metadata(rows).get("label_version") if rows.is_file() else None


def _changes(rows: Path, labels: pl.DataFrame) -> dict[str, Any]:
    """Which labels are not those in ``rows``, counted by class."""
    version = _version_of(rows)
    if version is None:
        return {"compared_with": None, "n_changed": None, "changed": None}
    old = tables.read_table(rows, ["image_uuid", "label"]).rename({"label": "from"})
    both = labels.select("image_uuid", to="label").join(old, on="image_uuid", validate="1:1")
    moved = both.filter(pl.col("from").ne_missing(pl.col("to")))
    pairs = moved.select("from", "to").group_by("from", "to").len("n")
    ordered = pairs.sort("n", "from", "to", descending=[True, False, False])
    return {"compared_with": version, "n_changed": moved.height, "changed": ordered.to_dicts()}


def read_history(path: Path) -> list[dict[str, Any]]:
    """Every line, oldest first; none where there is no file. Errors as :func:`record_version`."""
    if not path.exists():
        return []
    found = []
    text = path.read_text(encoding="utf-8", errors="replace")
    for row, line in enumerate(text.splitlines(), start=1):
        try:
            value = json.loads(line)
            sound = isinstance(value, dict) and set(_KEYS) <= set(value)
        except (ValueError, RecursionError):
            sound = False
        if not sound:
            raise InputError(
                f"{path.name} row {row}: not a label version; restore the history from a copy, or "
                "move the file away to begin another"
            )
        found.append(value)
    return found


def history_table(lines: Sequence[Mapping[str, Any]], releases: Path) -> pl.DataFrame:
    """The history as people read it, oldest first, with the releases that came of each version.

    Parameters
    ----------
    lines : of :func:`record_version`.
    releases : folder of releases; one belongs to the version whose labels, model and thresholds it
        has. None where a fit was blocked, or is not released yet.

    Returns
    -------
    (L,) ``time, label_version, n_reviews, n_reviewers, n_files, n_files_refused, n_changed,
    changed`` (text, most frequent first), ``<threshold>_before`` and ``_after`` of each, ``model``
    and ``release``.
    """
    released = _released(releases)
    numbers = ("n_reviews", "n_reviewers", "n_files", "n_files_refused", "n_changed")
    at = {f"{name}_{side}": (name, side) for name in THRESHOLDS for side in ("before", "after")}
    schema: dict[str, Any] = {
        **dict.fromkeys(("time", "label_version"), pl.String),
        **dict.fromkeys(numbers, pl.Int64),
        "changed": pl.String,
        **dict.fromkeys(at, pl.Float64),
        **dict.fromkeys(("model", "release"), pl.String),
    }
    rows = []
    for line in lines:
        sides = {side: line[f"thresholds_{side}"] or {} for side in ("before", "after")}
        version, model = line["label_version"], line["model_tree_hash"]
        row = {name: line[name] for name in ("time", "label_version", *numbers)}
        row |= {key: sides[side].get(name) for key, (name, side) in at.items()}
        row |= {"changed": _in_words(line["changed"]), "model": model[:12]}
        rows.append({**row, "release": released.get(_key(version, model, sides["after"]))})
    return pl.DataFrame(rows, schema=schema)


def _in_words(changed: Sequence[Mapping[str, Any]] | None) -> str | None:
    """``acne -> tinea 3``, a pair each.

    >>> _in_words([{"from": "acne", "to": None, "n": 2}])
    'acne → no label 2'
    """
    if changed is None:
        return None
    names = [
        f"{pair['from'] or 'no label'} \N{RIGHTWARDS ARROW} {pair['to'] or 'no label'} {pair['n']}"
        for pair in changed
    ]
    left = len(names) - _PAIRS_SHOWN
    more = [f"and {left} more pairs"] if left > 0 else []
    return "; ".join([*names[:_PAIRS_SHOWN], *more])


def _released(root: Path) -> dict[str, str]:
    """Release by what it stands on; equal ones (another policy, another code) are all named."""
    found: dict[str, str] = {}
    for path in sorted(root.glob("*/thresholds.json")):
        if path.parent.is_symlink() or path.parent.name.startswith("."):
            continue
        try:
            values = files.read_json(path)
        except InputError:  # a damaged release is for ``verify`` to name
            continue
        key = _key(values.get("label_version"), values.get("model_tree_hash"), values)
        name = path.parent.name
        found[key] = f"{found[key]}, {name}" if key in found else name
    return found


def _key(label_version: object, model: object, thresholds: Mapping[str, Any]) -> str:
    return files.digest([label_version, model, [thresholds.get(name) for name in THRESHOLDS]])
