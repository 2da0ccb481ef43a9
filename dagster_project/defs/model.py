"""Stage 1: the model artifact, verified and published by content.

Belongs: ``model_artifact``, of the model in service and of each checkpoint beside it, and the check
that its bytes are what they were.
Does not: which checkpoints there are (``checkpoints``), transfer and hashing (``lib.model_store``),
loading weights (``lib.inference``).
"""

from typing import Any

import dagster as dg

from dagster_project.defs import show
from dagster_project.defs.parquet_io import asset_key
from dagster_project.lib import progress
from dagster_project.lib.errors import InputError
from dagster_project.lib.scorecard.checkpoints import Checkpoint
from dagster_project.lib.stored_table import StoredTable
from dagster_project.settings import Settings

MODEL_ARTIFACT = "model_artifact"


def build_artifact(checkpoint: Checkpoint | None = None) -> dg.AssetsDefinition:
    """The asset of the model in service, or of a checkpoint beside it."""
    what = "The checkpoint" if checkpoint is None else f"Checkpoint {checkpoint.name}"

    @dg.asset(
        key=asset_key(artifact_of(checkpoint)),
        group_name="model" if checkpoint is None else "checkpoints",
        kinds={"s3", "torch"},
        owners=["team:data-science"],
        code_version="1",
        metadata=None if checkpoint is None else _recipe(checkpoint),
        description=(
            f"{what} with its config, feature schema and classes, synced and hashed.\n\nThe value "
            "is the list of files with their sha256; the version is the hash of that list. Without "
            "a network it is what the source held when last synced, and the metadata say `offline`."
        ),
    )
    def artifact(
        context: dg.AssetExecutionContext, settings: dg.ResourceParam[Settings]
    ) -> dg.MaterializeResult[StoredTable]:
        return _synced(context, settings, checkpoint)

    return artifact


def artifact_of(checkpoint: Checkpoint | None) -> str:
    """The asset's key as people write it."""
    return MODEL_ARTIFACT if checkpoint is None else f"{checkpoint.name}/{MODEL_ARTIFACT}"


def _recipe(checkpoint: Checkpoint) -> dict[str, Any]:
    """What the file says of a checkpoint, on its asset's page."""
    return {
        "model": checkpoint.model,
        "changed": ", ".join(checkpoint.changed) or "nothing",
        "baseline": checkpoint.baseline,
        **({} if checkpoint.seed is None else {"seed": checkpoint.seed}),
    }


def _synced(
    context: dg.AssetExecutionContext, settings: Settings, checkpoint: Checkpoint | None
) -> dg.MaterializeResult[StoredTable]:
    from dagster_project.lib import model_store

    artifact = model_store.sync(
        settings.model_uri if checkpoint is None else checkpoint.model,
        settings.models_dir,
        on_progress=progress.lines(artifact_of(checkpoint), context.log.info, "byte"),
        on_note=context.log.warning,
        public_key=settings.model_public_key,
        point=checkpoint is None,
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


def build_artifact_check(artifact: dg.AssetsDefinition) -> dg.AssetChecksDefinition:
    """The check that every published byte is what it was when it was synced."""

    @dg.asset_check(
        asset=artifact,
        blocking=True,
        description="Every file of the published artifact is there and hashes to its record.",
    )
    def artifact_complete_and_hashed(
        settings: dg.ResourceParam[Settings], model_artifact: StoredTable
    ) -> dg.AssetCheckResult:
        from dagster_project.lib import model_store

        recorded = model_store.tree_hash(model_artifact.frame)
        try:
            folder = model_store.published(settings.models_dir, recorded)
            found = model_store.read_artifact(folder).tree_hash
        except InputError as error:
            return dg.AssetCheckResult(passed=False, description=str(error))
        facts = {"recorded": recorded, "found": found}
        return dg.AssetCheckResult(passed=found == recorded, metadata=facts)

    return artifact_complete_and_hashed


model_artifact = build_artifact()
ASSETS = [model_artifact]
CHECKS = [build_artifact_check(model_artifact)]
