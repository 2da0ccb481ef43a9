"""Stage 1: the model artifact, verified and published by content.

Belongs: the asset ``model_artifact`` and the check that its bytes are what they were.
Does not: transfer and hashing (``lib.model_store``), loading weights (``lib.inference``).
"""

import dagster as dg

from dagster_project.defs import show
from dagster_project.lib import progress
from dagster_project.lib.errors import InputError
from dagster_project.lib.stored_table import StoredTable
from dagster_project.settings import Settings


@dg.asset(
    group_name="model",
    kinds={"s3", "torch"},
    owners=["team:data-science"],
    code_version="1",
)
def model_artifact(
    context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings]
) -> dg.MaterializeResult[StoredTable]:
    """The checkpoint with its config, feature schema and classes, synced and hashed.

    The value is the list of files with their sha256; the version is the hash of that list. Without
    a network it is what the source held when last synced, and the metadata say ``offline``.
    """
    from dagster_project.lib import model_store

    artifact = model_store.sync(
        settings.model_uri,
        settings.models_dir,
        on_progress=progress.lines("model artifact", context.log.info, "byte"),
        on_note=context.log.warning,
        public_key=settings.model_public_key,
    )
    megabytes = artifact.bytes_fetched / 1e6
    return dg.MaterializeResult(
        value=StoredTable.of(artifact.files),
        data_version=dg.DataVersion(artifact.tree_hash),
        metadata={
            "model_tree_hash": artifact.tree_hash,
            "bytes": int(artifact.files["bytes"].sum()),
            "files": show.table(artifact.files),
            "path": dg.MetadataValue.path(artifact.path),
            "fetched_mb": round(megabytes, 3),
            "seconds": round(artifact.seconds, 3),
            "mb_per_s": round(megabytes / artifact.seconds, 1) if megabytes else None,
            "reused": not megabytes,
            "offline": artifact.offline,
        },
    )


@dg.asset_check(asset=model_artifact, blocking=True)
def artifact_complete_and_hashed(
    settings: dg.ResourceParam[Settings], model_artifact: StoredTable
) -> dg.AssetCheckResult:
    """Every file of the published artifact is there and hashes to what was recorded."""
    from dagster_project.lib import model_store

    recorded = model_store.tree_hash(model_artifact.frame)
    try:
        folder = model_store.published(settings.models_dir, recorded)
        found = model_store.read_artifact(folder).tree_hash
    except InputError as error:
        return dg.AssetCheckResult(passed=False, description=str(error))
    facts = {"recorded": recorded, "found": found}
    return dg.AssetCheckResult(passed=found == recorded, metadata=facts)


ASSETS = [model_artifact]
CHECKS = [artifact_complete_and_hashed]
