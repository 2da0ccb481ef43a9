"""What a person approved, as an asset: ``approved_release`` and the sensor that records it.

Belongs: seeing that the pointer of the releases moved, and recording who moved it to what.
Does not: approving (``tier-refit approve``), what counts as in service (``lib.release``).
Concept: level-triggered. Each tick compares the release in service, and the ledger's line that put
it there, with what the newest materialization recorded; no move is lost to a tick, a restart or a
reload, and a rollback to an earlier release is one more materialization.
"""

from typing import TYPE_CHECKING, Any

import dagster as dg

from dagster_project.lib.errors import InputError
from dagster_project.settings import Settings

if TYPE_CHECKING:
    from dagster_project.lib.release.in_service import InService

APPROVED = "approved_release"

approved_release = dg.AssetSpec(
    APPROVED,
    deps=["threshold_release"],
    group_name="release",
    kinds={"json"},
    owners=["team:data-science"],
    code_version="1",
    description=(
        "The release in service, as `tier-refit approve` put it there: who, when, which values, of "
        "which labels. Recorded by approval_sensor; no job makes it."
    ),
)


@dg.sensor(
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Records approved_release when an approval or a rollback moved what is in service.",
)
def approval_sensor(
    context: dg.SensorEvaluationContext, settings: dg.ResourceParam[Settings]
) -> dg.SkipReason | dg.SensorResult:
    """Compare what is in service with what is recorded; never raise on what the world does."""
    from dagster_project.lib.release.in_service import release_in_service

    try:
        found = release_in_service(settings.releases_dir)
    except (InputError, OSError) as error:
        return dg.SkipReason(str(error))
    if found is None:
        return dg.SkipReason("no release has been approved yet: tier-refit approve DIR")
    if recorded(context.instance) == (found.name, found.line):
        return dg.SkipReason(
            f"release {found.name}, approved by {found.entry.name}, is recorded already"
        )
    return dg.SensorResult(asset_events=[materialization(found)])


def recorded(instance: dg.DagsterInstance) -> tuple[str, int] | None:
    """The release of the newest materialization, and its line of the ledger."""
    event = instance.get_latest_materialization_event(dg.AssetKey(APPROVED))
    if event is None or event.asset_materialization is None:
        return None
    values = {k: entry.value for k, entry in event.asset_materialization.metadata.items()}
    return str(values.get("release")), int(str(values.get("ledger_line", 0)))


def materialization(found: "InService") -> dg.AssetMaterialization:
    """What is recorded of a release in service; names that plot over time are those of the fit."""
    at, signature = found.thresholds, found.signature
    metadata: dict[str, Any] = {
        "release": found.name,
        "action": found.entry.action,
        "previous": found.entry.previous or "none",
        "approved_by": found.entry.name,
        "approved_by_user": found.entry.user,
        "meaning": signature.meaning,
        "author": signature.author,
        "time": found.entry.time,
        "confident_threshold": at.confident,
        "refer_threshold": at.refer,
        "possible_item_threshold": at.possible_item,
        "label_version": found.label_version or "unknown",
        "sha256": found.entry.sha256,
        "ledger_line": found.line,
        "folder": dg.MetadataValue.path(found.folder),
    }
    return dg.AssetMaterialization(
        APPROVED, metadata=metadata, tags={"dagster/data_version": found.name}
    )


ASSETS = [approved_release]
