"""Stage 5: the release, the only asset that writes deployable files.

Belongs: ``threshold_release``, and what counts as deployed when a fit is compared.
Does not: the gate's reasons, the files' content (``lib.release``), approval (``approval``).
Concept: it stands behind blocking checks and evaluates the same gate itself, because a blocking
check binds only within one run. It ends with a candidate: approving it is for a person.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import dagster as dg

from dagster_project.defs import show
from dagster_project.lib.stored_table import StoredTable
from dagster_project.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

    from dagster_project.lib.release.bundle import Provenance
    from dagster_project.lib.tiers.thresholds import Thresholds

LATEST = "latest"
"""The link to the newest release; which one is in service is for a person to say."""

STARTED_BY_ITSELF = frozenset({"dagster/sensor_name", "dagster/schedule_name"})
"""Run tags of which any one says that no person started the run."""


def deployed_thresholds(settings: Settings) -> "Thresholds | None":
    """What is in service: the three settings if they are set, else the approved release.

    Raises
    ------
    InputError
        The release in service is damaged or not approved: a comparison with nothing would let any
        change through.
    """
    from dagster_project.lib.release.in_service import release_in_service
    from dagster_project.lib.tiers.thresholds import known_or_none

    stated = known_or_none(
        settings.deployed_confident, settings.deployed_refer, settings.deployed_possible_item
    )
    if stated is not None:
        return stated
    found = release_in_service(settings.releases_dir)
    return None if found is None else found.thresholds


def baseline_file(settings: Settings) -> "Path | None":
    """The scored rows of the approved release, to compare with; None where there are none."""
    from dagster_project.lib.release.in_service import release_in_service, rows_in_service

    found = release_in_service(settings.releases_dir)
    return None if found is None else rows_in_service(found)


def baseline_rows(settings: Settings) -> "pl.DataFrame | None":
    """The rows of :func:`baseline_file`."""
    from dagster_project.lib import tables

    path = baseline_file(settings)
    return None if path is None else tables.read_table(path, ["image_uuid", "score"])


def author_of(tags: Mapping[str, str]) -> str:
    """Who a run's release is by: ``automation``, or the user that the run's process runs as."""
    from dagster_project.lib.release.people import AUTOMATION, os_user

    return AUTOMATION if STARTED_BY_ITSELF & tags.keys() else os_user()


def provenance_of(tier_thresholds: StoredTable) -> "Provenance":
    """What the fit's probabilities were, as the scored rows carried it."""
    from dagster_project.lib.release.bundle import Provenance

    return Provenance.of_json(json.loads(tier_thresholds.metadata["provenance"]))


@dg.asset(group_name="release", kinds={"json"}, owners=["team:data-science"], code_version="2")
def threshold_release(
    context: dg.AssetExecutionContext,
    settings: dg.ResourceParam[Settings],
    scored_test_rows: StoredTable,
    tier_thresholds: StoredTable,
    tier_report: StoredTable,
) -> dg.MaterializeResult[StoredTable]:
    """The deployable files, named by their content, with the hash of each: a candidate."""
    import polars as pl

    from dagster_project.lib import files, sums
    from dagster_project.lib.release import bundle, conditions, inputs
    from dagster_project.lib.tiers.curve import coverage_curve
    from dagster_project.lib.tiers.policy import TierPolicy
    from dagster_project.lib.tiers.selection import ThresholdFit

    policy = TierPolicy.model_validate_json(tier_thresholds.metadata["policy"])
    report = json.loads(tier_report.metadata["report"])
    # not the report's own thresholds: either may have been materialized alone since
    fit = ThresholdFit.model_validate_json(tier_thresholds.metadata["fit"])
    blocked = conditions.blocking_reasons(
        report,
        fit.thresholds,
        deployed_thresholds(settings),
        max_change=settings.max_threshold_change,
        policy=policy,
    )
    if report["labels"]["version"] != tier_thresholds.metadata["label_version"]:
        blocked.append("the report was made on other labels; make it again")
    if scored_test_rows.version != tier_thresholds.metadata["rows_version"]:
        blocked.append("the scored rows are not those of the fit; make the fit again")
    if blocked:
        raise dg.Failure(f"release blocked: {'; '.join(blocked)}", allow_retries=False)
    provenance = replace(
        provenance_of(tier_thresholds),
        inputs=inputs.contents_of(
            scored_test_rows.frame, baseline_rows(settings) if report["baseline"] else None
        ),
    )
    curve = coverage_curve(scored_test_rows.frame)
    contents = bundle.release_files(report, policy, provenance, curve)
    run = _run_facts(context, settings, scored_test_rows, tier_thresholds, report)
    folder = sums.write_folder(settings.releases_dir, contents, run=run)
    files.point(settings.releases_dir / LATEST, folder.name)
    hashes = sums.read_sums(folder)
    listed = pl.DataFrame({"file": list(hashes), "sha256": list(hashes.values())})
    return dg.MaterializeResult(
        value=StoredTable.of(listed),
        data_version=dg.DataVersion(folder.name),
        metadata={
            **report["thresholds"],
            "release": folder.name,
            "folder": dg.MetadataValue.path(folder),
            "report": dg.MetadataValue.md(contents["report.md"].decode()),
            "files": show.table(listed),
        },
    )


def _run_facts(
    context: dg.AssetExecutionContext,
    settings: Settings,
    scored_test_rows: StoredTable,
    tier_thresholds: StoredTable,
    report: dict[str, Any],
) -> dict[str, Any]:
    """``run.json``: which run, when, where, by whom, and all that it takes to make it again."""
    from dagster_project.lib.release import inputs
    from dagster_project.lib.release.people import run_facts

    rows = {inputs.SCORED: inputs.keep_rows(settings.release_inputs_dir, scored_test_rows.arrow)}
    baseline = baseline_file(settings)
    if baseline is not None and report["baseline"] is not None:
        rows[inputs.BASELINE] = baseline
    certificate = report["selection"]["confident"]["certificate"]
    options = {
        "policy": json.loads(tier_thresholds.metadata["policy"]),
        "labels": report["labels"],
        "reviews": report["reviews"],
        "deployed": report["deployed"] and report["deployed"]["thresholds"],
        "provenance": json.loads(tier_thresholds.metadata["provenance"]),
        "max_change": settings.max_threshold_change,
        "subgroups": settings.subgroups and list(settings.subgroups),
        "looks": certificate and certificate["looks"],
    }
    return {
        "run_id": context.run.run_id,
        "job": context.run.job_name,
        **run_facts(author_of(context.run.tags)),
        inputs.RECORD: inputs.record(rows, options),
    }


ASSETS = [threshold_release]
