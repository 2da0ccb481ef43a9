"""What differs between two releases: numbers, labels, model, policy, files.

Belongs: the comparison as one plain value, and its table for a terminal.
Does not: whether a folder is what was released (``signatures``), what moved row by row
(``evidence``).
Concept: values are read from ``tier_reports.json`` and ``metadata.json``, so that a blocked refit
can be compared too; unknown on one side is null, which is a difference.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dagster_project.lib import files, sums
from dagster_project.lib.tiers.thresholds import ENV_NAMES

Changes = dict[str, dict[str, Any]]
"""Key -> ``{"a": ..., "b": ...}``, for numbers also ``"change"`` = b - a."""

_APART = ("thresholds", "outcomes", "tiers", "labels")


def compare(a: Path, b: Path, *, atol: float = 0.0) -> dict[str, Any]:
    """Compare two outputs of a refit or releases.

    Parameters
    ----------
    a, b : folders with ``SHA256SUMS``.
    atol : numbers that differ by at most this count as equal; then the bytes of files do not count
        either, because any number in them may be what is tolerated.

    Returns
    -------
    ``differ``: whether anything below does; ``a``, ``b``: name and hash of the contents;
    ``thresholds``, ``outcomes_per_1000``, ``tiers`` (with every value, differing or not, as
    ``{"a", "b", "change"}``); ``identity``: label version, model, data and policy hash that differ;
    ``policy``: its keys that differ; ``report``: every other key of ``tier_reports.json`` that
    differs, as a path; ``files``: names ``only_in_a``, ``only_in_b`` and ``changed``.

    Raises
    ------
    InputError
        A folder has no ``SHA256SUMS`` or no ``tier_reports.json``, or one that is not readable.
    """
    hashes = [sums.read_sums(folder) for folder in (a, b)]
    reports = [files.read_json(folder / "tier_reports.json") for folder in (a, b)]
    metadata = [_metadata(folder) for folder in (a, b)]
    flat = [dict(_flat(report)) for report in reports]
    policies = [dict(_flat(entry.get("policy") or {})) for entry in metadata]
    identities = [_identity(*pair) for pair in zip(reports, metadata, strict=True)]
    changes = _changed(flat, atol)
    shown = {
        "thresholds": _pairs(*(report.get("thresholds") or {} for report in reports)),
        "outcomes_per_1000": _pairs(*(_per_1000(report) for report in reports)),
        "tiers": _pairs(*(dict(_flat(report.get("tiers") or {})) for report in reports)),
    }
    listed = {
        "only_in_a": sorted(hashes[0].keys() - hashes[1].keys()),
        "only_in_b": sorted(hashes[1].keys() - hashes[0].keys()),
        "changed": sorted(
            n for n in hashes[0].keys() & hashes[1].keys() if hashes[0][n] != hashes[1][n]
        ),
    }
    policy, identity = _changed(policies, atol), _changed(identities, 0.0)
    differ = bool(
        changes or policy or identity or listed["only_in_a"] or listed["only_in_b"]
    ) or (atol == 0 and bool(listed["changed"]))  # fmt: skip
    return {
        "differ": differ,
        "atol": atol,
        "a": _named(a),
        "b": _named(b),
        **shown,
        "identity": identity,
        "policy": policy,
        "report": {key: value for key, value in changes.items() if key.split(".")[0] not in _APART},
        "files": listed,
    }


def table_lines(found: Mapping[str, Any]) -> list[str]:
    """The comparison as lines for a terminal; equal releases are one sentence."""
    a, b = found["a"], found["b"]
    if not found["differ"]:
        within = f" within {found['atol']:g}" if found["atol"] else ""
        return [f"{a['folder']} and {b['folder']} are equal{within}"]
    lines = [f"{'':34}{'a':>18}{'b':>18}{'change':>12}"]
    lines.append(f"{'content':34}{a['sha256'][:16]:>18}{b['sha256'][:16]:>18}")
    for part in ("identity", "policy", "thresholds", "outcomes_per_1000", "tiers", "report"):
        if found[part]:
            lines.append(part.replace("outcomes_per_1000", "outcomes per 1,000"))
            lines += [_line(key, entry) for key, entry in found[part].items()]
    said = {"only_in_a": "only in a", "only_in_b": "only in b", "changed": "other bytes"}
    lines += [
        f"files, {words}: {', '.join(found['files'][key])}"
        for key, words in said.items()
        if found["files"][key]
    ]
    return lines


def deployed_lines(report: Mapping[str, Any]) -> list[str]:
    """What changes against what is in service, from one ``tier_reports.json``; empty if unknown.

    Thresholds, and outcomes per 1,000 of the same images at the old and the new thresholds.
    """
    old = report.get("deployed")
    if not old:
        return []
    lines = ["against what is in service: old -> new"]
    for name in ENV_NAMES:
        before, after = old["thresholds"][name], report["thresholds"][name]
        lines.append(
            f"  {'threshold ' + name:34}{before:>8.3f} -> {after:>6.3f}  {after - before:+.3f}"
        )
    was, now = _per_1000(old), _per_1000(report)
    for name, value in now.items():
        label = name.replace("_", " ") + " per 1,000"
        lines.append(f"  {label:34}{was[name]:>8.1f} -> {value:>6.1f}  {value - was[name]:+.1f}")
    return lines


def _named(folder: Path) -> dict[str, str]:
    return {"folder": folder.name, "sha256": files.sha256_file(folder / sums.SUMS)}


def _metadata(folder: Path) -> dict[str, Any]:
    path = folder / "metadata.json"
    return files.read_json(path) if path.is_file() else {}


def _identity(report: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What the numbers are of; equal values with different identities are a coincidence."""
    names = ("model_tree_hash", "dataset_version", "policy_sha256", "n_shards", "tta")
    labels = dict(_flat(report.get("labels") or {}, "labels."))
    return {**labels, **{name: metadata.get(name) for name in names}}


def _per_1000(report: Mapping[str, Any]) -> dict[str, float]:
    return {name: 1000 * (share or 0.0) for name, share in (report.get("outcomes") or {}).items()}


def _flat(value: object, path: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of a JSON value with their paths: ``tiers.refer.share``, ``curve.3``."""
    if isinstance(value, Mapping) and value:
        for key, entry in value.items():
            yield from _flat(entry, f"{path}{key}.")
    elif isinstance(value, list) and value:
        for number, entry in enumerate(value):
            yield from _flat(entry, f"{path}{number}.")
    else:
        yield path.rstrip("."), value


def _pairs(a: Mapping[str, Any], b: Mapping[str, Any]) -> Changes:
    return {key: _entry(a.get(key), b.get(key)) for key in {**a, **b}}


def _changed(sides: Sequence[Mapping[str, Any]], atol: float) -> Changes:
    a, b = sides
    both = {key: (a.get(key), b.get(key)) for key in {**a, **b}}
    return {
        key: _entry(old, new)
        for key, (old, new) in both.items()
        if (key in a) != (key in b) or not _equal(old, new, atol)
    }


def _equal(old: object, new: object, atol: float) -> bool:
    if _is_number(old) and _is_number(new):
        # the least bit of a difference of decimals must not exceed a tolerance of exactly that
        return math.isclose(float(old), float(new), rel_tol=0, abs_tol=atol * (1 + 1e-9))  # type: ignore[arg-type]
    return type(old) is type(new) and old == new


def _entry(old: object, new: object) -> dict[str, Any]:
    numbers = _is_number(old) and _is_number(new)
    return {"a": old, "b": new, **({"change": new - old} if numbers else {})}  # type: ignore[operator]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _line(key: str, entry: Mapping[str, Any]) -> str:
    change = f"{entry['change']:+12.4g}" if "change" in entry else ""
    return f"  {key:32}{_cell(entry['a']):>18}{_cell(entry['b']):>18}{change}"


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4f}"
    return str(value)[:16]
