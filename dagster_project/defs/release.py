"""Stage 5: the release, the only asset that writes deployable files.

Belongs: ``threshold_release``, and what counts as deployed when a fit is compared.
Does not: the gate's reasons, the files' content (``lib.tiers``).
Concept: it stands behind blocking checks and evaluates the same gate itself, because a blocking
check binds only within one run.
"""

import json
import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg

from dagster_project.defs import show
from dagster_project.lib.stored_table import StoredTable
from dagster_project.settings import Settings

if TYPE_CHECKING:
    from dagster_project.lib.release.bundle import Provenance
    from dagster_project.lib.tiers.thresholds import Thresholds

LATEST = "latest"
"""The link to the newest release; which one is in service is for a person to say."""


def deployed_thresholds(settings: Settings) -> "Thresholds | None":
    """What is in service, as the settings say; a release is a candidate until they do."""
    from dagster_project.lib.tiers.thresholds import known_or_none

    return known_or_none(
        settings.deployed_confident, settings.deployed_refer, settings.deployed_possible_item
    )


def provenance_of(tier_thresholds: StoredTable) -> "Provenance":
    """What the fit's probabilities were, as the scored rows carried it."""
    from dagster_project.lib.release.bundle import Provenance
    from dagster_project.lib.tiers.scored_rows import ScoreCounts

    carried = tier_thresholds.metadata
    return Provenance(
        classes=tuple(json.loads(carried["classes"])),
        counts=ScoreCounts(**json.loads(carried["counts"])),
        model_tree_hash=carried["model_tree_hash"],
        dataset_version=carried["dataset_version"],
        n_shards=int(carried["n_shards"]),
        tta=carried["tta"] == "true",
    )


@dg.asset(group_name="release", kinds={"json"}, owners=["team:data-science"], code_version="1")
def threshold_release(
    context: dg.AssetExecutionContext,
    settings: dg.ResourceParam[Settings],
    tier_thresholds: StoredTable,
    tier_report: StoredTable,
) -> dg.MaterializeResult[StoredTable]:
    """The deployable files, named by their content, with the hash of each."""
    import polars as pl

    from dagster_project.lib import files
    from dagster_project.lib.release import bundle, conditions
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
    if blocked:
        raise dg.Failure(f"release blocked: {'; '.join(blocked)}", allow_retries=False)
    contents = bundle.release_files(report, policy, provenance_of(tier_thresholds))
    run = {
        "run_id": context.run.run_id,
        "job": context.run.job_name,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": socket.gethostname(),
    }
    folder = bundle.write_release(settings.releases_dir, contents, run=run)
    files.point(settings.releases_dir / LATEST, folder.name)
    sums = bundle.read_sums(folder)
    listed = pl.DataFrame({"file": list(sums), "sha256": list(sums.values())})
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


ASSETS = [threshold_release]
