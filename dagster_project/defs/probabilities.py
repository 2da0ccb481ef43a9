"""Stage 2: probabilities, shard by shard: the only GPU work, and never a function of labels.

Belongs: the two partitioned dumps, those of checkpoints beside the model in service, and the check
that a dump is whole and from one model.
Does not: which checkpoints there are (``checkpoints``), the forward pass, segments, identity
(``lib.inference``).
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from dagster_project.defs import show
from dagster_project.defs.model import artifact_of
from dagster_project.defs.parquet_io import asset_key, table_metadata, table_path
from dagster_project.lib import progress
from dagster_project.lib.errors import InputError
from dagster_project.lib.progress import OnProgress
from dagster_project.lib.scorecard.checkpoints import Checkpoint
from dagster_project.lib.stored_table import Metadata, StoredTable
from dagster_project.settings import Settings

if TYPE_CHECKING:
    from dagster_project.lib.inference.dump import Dumped, DumpPlan
    from dagster_project.lib.probability_table import ProbabilityTable

GPU_POOL = "gpu"
DUMPS = {"test": "test_probabilities", "train": "train_probabilities"}
"""Split -> asset."""


def shard_keys(settings: Settings) -> list[str]:
    """Zero-based, two digits: shard 3 of 16 is partition ``03``."""
    return [f"{i:02d}" for i in range(settings.num_shards)]


def dump_of(split: str, checkpoint: Checkpoint | None = None) -> str:
    """The asset's key as people write it: ``test_probabilities``, ``focal/test_probabilities``."""
    return DUMPS[split] if checkpoint is None else f"{checkpoint.name}/{DUMPS[split]}"


def _mend(asset: str) -> str:
    """What makes a dump again."""
    return f"run {'checkpoint_dump_job' if '/' in asset else 'dump_job'}"


def build_dump(
    split: str, settings: Settings, checkpoint: Checkpoint | None = None
) -> dg.AssetsDefinition:
    """The asset that dumps one split, with the model in service or a checkpoint beside it."""
    asset = dump_of(split, checkpoint)
    of = "" if checkpoint is None else f" by checkpoint {checkpoint.name}"

    @dg.asset(
        key=asset_key(asset),
        ins={"model_artifact": dg.AssetIn(key=asset_key(artifact_of(checkpoint)))},
        group_name="probabilities" if checkpoint is None else "checkpoints",
        kinds={"torch", "parquet"},
        owners=["team:data-science"],
        code_version="1",
        partitions_def=dg.StaticPartitionsDefinition(shard_keys(settings)),
        pool=GPU_POOL,
        description=(
            f"Four views of the sigmoid outputs for every image of the {split} split{of}: "
            "production-shaped and full questionnaire, with and without flip TTA. No labels."
        ),
    )
    def dump(
        context: dg.AssetExecutionContext,
        settings: dg.ResourceParam[Settings],
        model_artifact: StoredTable,
        dataset_index: StoredTable,
    ) -> dg.MaterializeResult[Any]:
        from dagster_project.lib.inference.dump import dump_to
        from dagster_project.lib.inference.pictures import confidence_png

        key = context.partition_key
        name, say = f"{asset} shard {key}", context.log.info
        hashing, dumping = (progress.lines(f"{what} {name}", say) for what in ("plan", "dump"))
        plan = _plan(settings, split, int(key), model_artifact, dataset_index, hashing)
        path = table_path(settings, asset, key)
        others = _same_shard(settings, split, key)
        dumped = dump_to(
            plan, path, settings.store / "segments", equals=others, on_progress=dumping
        )
        return dg.MaterializeResult(
            data_version=dg.DataVersion(plan.identity),
            metadata={
                **_facts(dumped, plan, settings),
                "dataset_version": dataset_index.version,
                **show.inline(confidence_png(path, name), "confidence"),
            },
        )

    return dump


def _same_shard(settings: Settings, split: str, key: str) -> list[Path]:
    """Where any model's dump of a shard lies, of one taken off the list, too."""
    beside = settings.tables_dir.glob(f"*/{DUMPS[split]}/{key}.parquet")
    return [table_path(settings, DUMPS[split], key), *sorted(beside)]


def _plan(
    settings: Settings,
    split: str,
    shard: int,
    artifact: StoredTable,
    index: StoredTable,
    on_progress: OnProgress,
) -> "DumpPlan":
    from dagster_project.lib import dataset, model_store
    from dagster_project.lib.inference.dump import DumpOptions, plan_dump
    from dagster_project.lib.signature import require_signature

    tree_hash = model_store.tree_hash(artifact.frame)
    model_dir = model_store.published(settings.models_dir, tree_hash)
    if settings.model_public_key is not None:
        require_signature(model_dir, settings.model_public_key)
    rows = dataset.split_rows(index.frame, split)
    return plan_dump(
        model_dir=model_dir,
        tree_hash=tree_hash,
        dataset_dir=settings.dataset_dir,
        rows=dataset.shard_rows(rows, shard, settings.num_shards),
        shard=shard,
        n_shards=settings.num_shards,
        options=DumpOptions(
            null_fields=settings.null_fields,
            tta=settings.tta,
            batch_size=settings.batch_size,
            dtype=settings.dtype,
            device=settings.device,
            embeddings=settings.embeddings,
        ),
        on_progress=on_progress,
    )


def _facts(dumped: "Dumped", plan: "DumpPlan", settings: Settings) -> dict[str, Any]:
    """What a shard is and how it went, in numbers; the label sensor reads the first two."""
    from dagster_project.lib import tables

    schema = tables.read_schema(dumped.path)
    return {
        "model_tree_hash": plan.tree_hash,
        "n_shards": settings.num_shards,
        **table_metadata(schema, dumped.rows, dumped.path),
        "dagster/partition_row_count": dumped.rows,
        "rows_without_probabilities": dumped.failed,
        **show.scalars({"rows_without_embedding": dumped.without_embedding}),
        "reused_equal_dump": dumped.reused,
        **(
            {"copied_from": dg.MetadataValue.path(dumped.copied_from)} if dumped.copied_from else {}
        ),
        **(dumped.stats.facts() if dumped.stats else {}),
        "identity": dg.MetadataValue.json(dict(plan.identity_parts)),
        "path": dg.MetadataValue.path(dumped.path),
    }


def whole_dump(
    shards: dict[str, StoredTable],
    index: StoredTable,
    split: str,
    settings: Settings,
    checkpoint: Checkpoint | None = None,
) -> "ProbabilityTable":
    """One table of all shards of a split, by the model in service or a checkpoint beside it.

    The check says first what is wrong; this holds when an asset is materialized without it.

    Raises
    ------
    InputError
        They are not one whole dump of the split by one model.
    """
    from dagster_project.lib import dataset
    from dagster_project.lib.probability_table import completeness_problems, from_arrow

    asset = dump_of(split, checkpoint)
    tables = {key: shard.arrow for key, shard in shards.items()}
    ids = dataset.split_rows(index.frame, split)["image_uuid"]
    problems = completeness_problems(tables, ids, settings.num_shards, settings.max_error_share)
    if problems:
        raise InputError(f"{asset}: {'; '.join(problems)}")
    table = from_arrow(tables)
    return replace(table, metadata=Metadata(table.metadata, asset, _mend(asset)))


def dumped_classes(settings: Settings, asset: str = DUMPS["test"]) -> tuple[str, ...]:
    """The classes of the model that a dump's shards are of, not of one synced since.

    Raises
    ------
    InputError
        No shard has been dumped.
    """
    return tuple(json.loads(_dumped(settings, asset)["classes"]))


def dumped_model(settings: Settings) -> str:
    """Tree hash of the model that the test shards are of; errors as :func:`dumped_classes`."""
    return _dumped(settings, DUMPS["test"])["model_tree_hash"]


def _dumped(settings: Settings, asset: str) -> Metadata:
    """The metadata of the first shard that is there."""
    from dagster_project.lib import tables

    for key in shard_keys(settings):
        path = table_path(settings, asset, key)
        if path.is_file():
            return Metadata(tables.read_metadata(path), asset, _mend(asset))
    raise InputError(f"no shard of {asset} has been dumped; {_mend(asset)}")


def build_dump_check(
    split: str, dump: dg.AssetsDefinition, checkpoint: Checkpoint | None = None
) -> dg.AssetChecksDefinition:
    """The check that every image of the split has one row, from one model, for this many shards.

    It runs in two places: after a shard's own run, where it looks at that shard; and in the refit,
    where it stands before ``scored_test_rows`` and looks at all of them.
    """

    @dg.asset_check(
        asset=dump,
        name=f"{split}_dump_complete",
        blocking=True,
        additional_ins={"dataset_index": dg.AssetIn("dataset_index")},
        description="Every image once, no image twice, values in [0, 1], one model in all shards.",
    )
    def check(
        context: dg.AssetCheckExecutionContext,
        settings: dg.ResourceParam[Settings],
        dataset_index: StoredTable,
    ) -> dg.AssetCheckResult:
        from dagster_project.lib import dataset, tables
        from dagster_project.lib.probability_table import completeness_problems

        rows = dataset.split_rows(dataset_index.frame, split)
        keys = shard_keys(settings)
        run = context.op_execution_context
        if run.has_partition_key:
            keys = [run.partition_key]
            rows = dataset.shard_rows(rows, int(run.partition_key), settings.num_shards)
        paths = {key: table_path(settings, dump_of(split, checkpoint), key) for key in keys}
        try:
            shards = {k: tables.read_arrow(path) for k, path in paths.items() if path.is_file()}
            problems = completeness_problems(
                shards, rows["image_uuid"], settings.num_shards, settings.max_error_share
            )
        except InputError as error:
            problems = [f"{error}; dump that shard again"]
        return dg.AssetCheckResult(
            passed=not problems,
            description="; ".join(problems) or None,
            metadata={"shards_checked": len(keys), "problems": show.reasons(problems)},
        )

    return check
