"""Back to training: the manifest that the next training should read, and the history of labels.

Belongs: ``cleaned_manifest``, ``label_history``.
Does not: what becomes of a row, what a version is (``lib.labels``); proposing what to drop.
Concept: both follow labels and nothing else, and cost little, so they are part of every refit.
Neither stands behind the release's checks: a blocked fit is a line of the history, too.
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from dagster_project.defs import jobs, show
from dagster_project.defs.parquet_io import read_stored, table_path
from dagster_project.defs.probabilities import dumped_model
from dagster_project.defs.thresholds import fit_of
from dagster_project.lib.files import digest
from dagster_project.lib.stored_table import StoredTable
from dagster_project.settings import Settings

if TYPE_CHECKING:
    import polars as pl

    from dagster_project.lib.labels.history import LabelVersion
    from dagster_project.lib.labels.manifest import PublishedManifest

PRUNE_LIST = "prune_list"


@dg.asset(
    group_name="labels",
    kinds={"parquet"},
    owners=["team:data-science"],
    code_version="1",
    op_tags=jobs.READS_THOSE,  # the prune list: no dependency, for a refit may fail to renew it
)
def cleaned_manifest(
    settings: dg.ResourceParam[Settings], dataset_index: StoredTable, cleaned_labels: StoredTable
) -> dg.MaterializeResult[StoredTable]:
    """Every row of the dataset with its label in force for training: kept, relabelled or dropped.

    Published beside the original as a version, never over it.
    """
    from dagster_project.lib.labels import manifest

    index, prune = dataset_index.frame, _prune_list(settings)
    rows = manifest.decide_rows(index, cleaned_labels.frame, None if prune is None else prune.frame)
    made_from = {
        "label_version": cleaned_labels.metadata["label_version"],
        "dataset_version": dataset_index.version,
        "prune_version": None if prune is None else prune.version,
        "base_model_tree_hash": dumped_model(settings),
    }
    published = manifest.publish_manifest(settings.manifests_dir, index, rows, made_from)
    return dg.MaterializeResult(
        value=StoredTable.of(manifest.full_manifest(index, rows), {"manifest": published.version}),
        data_version=dg.DataVersion(published.version),
        metadata={**show.scalars(made_from), **_shown(published, rows, settings)},
    )


def _prune_list(settings: Settings) -> StoredTable | None:
    """The proposals to drop, if they have ever been made: they need what a refit may not have."""
    there = table_path(settings, PRUNE_LIST).is_file()
    return read_stored(settings, PRUNE_LIST) if there else None


def _shown(
    published: "PublishedManifest", rows: "pl.DataFrame", settings: Settings
) -> dict[str, Any]:
    from dagster_project.lib import tables
    from dagster_project.lib.labels import manifest
    from dagster_project.lib.labels.training_pictures import class_counts_png

    counts = manifest.class_counts(rows)
    path = settings.report_dir / "training_counts.csv"
    tables.write_csv(path, counts)
    return {
        "manifest": published.version,
        "newly_published": published.built,
        "folder": dg.MetadataValue.path(published.folder),
        **manifest.manifest_summary(rows),
        "by_class": show.table(counts),
        "dropped_by_reason": show.table(manifest.dropped_by_reason(rows)),
        **show.link(path, settings),
        **show.picture(class_counts_png(counts), "training_counts", settings),
    }


@dg.asset(
    group_name="labels",
    kinds={"json"},
    owners=["team:data-science"],
    code_version="1",
    op_tags=jobs.AFTER_RELEASE,  # which a blocked fit does not have
)
def label_history(
    settings: dg.ResourceParam[Settings],
    expert_reviews: StoredTable,
    cleaned_labels: StoredTable,
    tier_thresholds: StoredTable,
) -> dg.MaterializeResult[StoredTable]:
    """Versions of the labels: when, from which reviews, rows changed by class, thresholds then."""
    from dagster_project.lib import tables
    from dagster_project.lib.labels import history
    from dagster_project.lib.labels.training_pictures import history_png

    lines = history.record_version(
        settings.label_history,
        _label_version(expert_reviews, tier_thresholds),
        cleaned_labels.frame,
        fit_of(tier_thresholds).thresholds.as_dict(),
        datetime.now(UTC),
    )
    table = history.history_table(lines, settings.releases_dir)
    path = settings.report_dir / "label_history.csv"
    tables.write_csv(path, table)
    last = lines[-1]
    return dg.MaterializeResult(
        value=StoredTable.of(table),
        # not of the clock: the same labels and thresholds again are the same version
        data_version=dg.DataVersion(digest([{**line, "time": None} for line in lines])),
        metadata={
            "label_version": last["label_version"],
            **show.scalars({"versions": len(lines), "rows_changed": last["n_changed"]}),
            "history": show.table(table.reverse(), limit=20),
            **show.link(path, settings),
            **show.picture(history_png(table), "label_history", settings),
        },
    )


def _label_version(expert_reviews: StoredTable, tier_thresholds: StoredTable) -> "LabelVersion":
    from dagster_project.lib.labels.history import LabelVersion

    reviews, fit = expert_reviews.frame, tier_thresholds.metadata
    return LabelVersion(
        label_version=fit["label_version"],
        reviews_version=fit["reviews_version"],
        model_tree_hash=fit["model_tree_hash"],
        n_files=reviews["file"].n_unique(),
        n_files_refused=int(expert_reviews.metadata["files_refused"]),
        n_reviews=reviews.height,
        n_reviewers=reviews["reviewer"].n_unique(),
    )


ASSETS = [cleaned_manifest, label_history]
