"""The refit: everything from scored rows to a folder, for the command line.

Belongs: calling the other modules in order, and writing the folder whole.
Does not: any statistic of its own; the assets call the single functions instead.
Concept: build beside, then swap: a reader never sees a mixture of old and new output, and nothing
at all only for the moment between two renames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from dagster_project.lib import files, sums
from dagster_project.lib.calibration.pictures import reliability_png
from dagster_project.lib.release import bundle
from dagster_project.lib.release.conditions import blocking_reasons
from dagster_project.lib.tiers import failure_pictures, movement, pictures, reports
from dagster_project.lib.tiers.curve import coverage_curve
from dagster_project.lib.tiers.evaluation import Context, full_report
from dagster_project.lib.tiers.selection import ThresholdFit, fit_thresholds

if TYPE_CHECKING:
    from dagster_project.lib.tiers.policy import TierPolicy
    from dagster_project.lib.tiers.thresholds import Thresholds


@dataclass(frozen=True)
class RefitResult:
    """All numbers of one refit. ``blocked``: why nothing deployable is written; usually empty."""

    fit: ThresholdFit
    report: dict[str, Any]
    blocked: list[str]
    contents: dict[str, bytes]


def refit(
    scored: pl.DataFrame,
    policy: TierPolicy,
    context: Context,
    provenance: bundle.Provenance,
    *,
    max_change: float | None = None,
) -> RefitResult:
    """Fit, report and render every output file in memory.

    Parameters
    ----------
    scored : rows of ``score_rows``.
    max_change : a threshold further than this from the deployed one blocks the release.

    Raises
    ------
    RefusedError
        No threshold meets a target of the policy, or an enforced certificate cannot be given.
    """
    fit = fit_thresholds(scored, policy, groups=context.groups, looks=context.looks)
    at, deployed = fit.thresholds, context.deployed
    report = full_report(scored, fit, policy, context)
    curve = coverage_curve(scored)
    candidates = reports.refer_candidates(scored, reports.refer_share_of(policy))
    sweep = reports.possible_item_sweep(scored, at, policy.possible_item)
    blocked = blocking_reasons(report, at, deployed, max_change=max_change, policy=policy)
    made = bundle.release_files(report, policy, provenance, curve)
    if blocked:  # the evidence is written, nothing deployable is
        made = {"tier_reports.json": made["tier_reports.json"]}
    contents = {
        # the picture first: counting its band and the text of millions of rows take much memory
        "coverage_curve.png": pictures.curve_png(curve, fit, deployed=deployed, scored=scored),
        "coverage_curve.csv": curve.write_csv().encode(),
        "refer_candidates.csv": candidates.write_csv().encode(),
        "possible_item_sweep.csv": sweep.write_csv().encode(),
        "confidence_histogram.png": pictures.histogram_png(scored, at),
        "possible_item_sweep.png": pictures.sweep_png(sweep, at.possible_item),
        **failure_files(scored, report),
        **crossed_files(scored, fit.thresholds, context),
        **made,
    }
    return RefitResult(fit, report, blocked, sums.with_sums(contents))


def failure_files(scored: pl.DataFrame, report: dict[str, Any]) -> dict[str, bytes]:
    """Where it fails, as tables and pictures by file name: calibration, classes, subgroups."""
    temperature = report["calibration"]["temperature"]
    made = {"reliability.png": reliability_png(scored, temperature)}
    for name, rows, draw in (
        ("per_class", report["per_class"], failure_pictures.per_class_png),
        ("subgroups", report["subgroups"], failure_pictures.subgroups_png),
    ):
        if rows:
            table = pl.DataFrame(rows, infer_schema_length=None)
            made[f"{name}.csv"] = table.write_csv().encode()
            made[f"{name}.png"] = draw(table)
    return made


def crossed_files(scored: pl.DataFrame, new: Thresholds, context: Context) -> dict[str, bytes]:
    """``crossed_images.csv``, where there is something to compare with."""
    if context.deployed is None and context.baseline is None:
        return {}
    before = scored if context.baseline is None else context.baseline
    pairs = movement.paired(scored, before, context.deployed or new, new)
    return {"crossed_images.csv": movement.crossed_images(pairs).write_csv().encode()}


def write_refit(result: RefitResult, out: Path, *, run: Mapping[str, Any] | None = None) -> Path:
    """Write the output folder; an earlier refit output in its place is replaced whole.

    Returns
    -------
    The folder, as :func:`prepare_out` gives it; errors likewise.
    """
    out = prepare_out(out)
    with files.replace_folder(out) as folder:
        sums.fill(folder, result.contents, run)
    return out


def prepare_out(out: Path) -> Path:
    """The folder to be written, as :func:`files.replaceable` gives it; errors likewise."""
    return files.replaceable(out, _ours, "a refit")


def _ours(out: Path) -> set[str]:
    if not (out / sums.SUMS).exists():
        return set()
    return {*sums.NOT_HASHED, *sums.read_sums(out)}
