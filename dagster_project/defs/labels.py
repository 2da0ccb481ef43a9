"""Labels: the reviews as they were read, and the one label each image ends up with.

Belongs: ``expert_reviews`` (a snapshot of the drop), ``cleaned_labels``, their checks.
Does not: reading a review file, consensus (``lib.labels``); starting a refit (``label_sensor``).
Concept: nothing downstream reads the live drop; a snapshot cannot change under a running fit.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from dagster_project.defs import show
from dagster_project.defs.parquet_io import read_stored, table_path
from dagster_project.defs.probabilities import dumped_classes
from dagster_project.lib.errors import InputError
from dagster_project.lib.stored_table import StoredTable
from dagster_project.settings import Settings

if TYPE_CHECKING:
    from dagster_project.lib.labels.drop import Drop

INDEX = {"dataset_index": dg.AssetIn("dataset_index")}


def read_drop(settings: Settings, index: StoredTable) -> "Drop":
    """What the drop says now: the same call for the sensor and for the snapshot."""
    from dagster_project.lib.labels import drop
    from dagster_project.lib.tables import require_columns

    snapshot = table_path(settings, "expert_reviews")
    in_force = None
    if snapshot.is_file():
        try:
            in_force = read_stored(settings, "expert_reviews").frame
            require_columns(snapshot.name, in_force.columns, drop.COLUMNS)
        except InputError as error:
            raise InputError(f"{error} Delete {snapshot} to start again from the drop.") from None
    return drop.read_drop(
        settings.labels_uri,
        classes=dumped_classes(settings),
        image_uuids=index.frame["image_uuid"],
        in_force=in_force,
    )


def publish_refusals(settings: Settings, drop: "Drop") -> Path:
    """The faults of the drop as it is now, in the report folder, for those who mend the files.

    The sensor calls it too: a refused file alone starts no refit.
    """
    from dagster_project.lib.labels.drop import write_refusals

    path = settings.report_dir / "label_drop_refusals.csv"
    write_refusals(path, drop.refusals)
    return path


@dg.asset(group_name="labels", kinds={"csv"}, owners=["team:dermatology"], code_version="1")
def expert_reviews(
    context: dg.AssetExecutionContext,
    settings: dg.ResourceParam[Settings],
    dataset_index: StoredTable,
) -> dg.MaterializeResult[StoredTable]:
    """Snapshot of the accepted reviews; its version is the hash of what was accepted."""
    drop = read_drop(settings, dataset_index)
    for refusal in drop.refusals:
        context.log.warning(f"left out: {refusal.place}")
    refused = publish_refusals(settings, drop)
    n_refused = len({refusal.file for refusal in drop.refusals})
    return dg.MaterializeResult(
        value=StoredTable.of(
            drop.reviews, {"version": drop.version, "files_refused": str(n_refused)}
        ),
        data_version=dg.DataVersion(drop.version),
        metadata={
            "reviews": drop.reviews.height,
            "images_reviewed": drop.reviews["image_uuid"].n_unique(),
            "reviewers": drop.reviews["reviewer"].n_unique(),
            "files_refused": n_refused,
            **show.link(refused, settings),
        },
    )


@dg.asset_check(asset=expert_reviews, additional_ins=INDEX)
def label_drop_status(
    settings: dg.ResourceParam[Settings], dataset_index: StoredTable
) -> dg.AssetCheckResult:
    """Whether any file in the drop is refused, and why; the other files count all the same."""
    drop = read_drop(settings, dataset_index)
    return dg.AssetCheckResult(
        passed=not drop.refusals,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"files": drop.n_files, "refused": show.reasons([r.place for r in drop.refusals])},
    )


@dg.asset(group_name="labels", kinds={"parquet"}, owners=["team:data-science"], code_version="1")
def cleaned_labels(
    given_labels: StoredTable, expert_reviews: StoredTable
) -> dg.MaterializeResult[StoredTable]:
    """One label an image: the reviewers' majority where there is one, else the given label."""
    from dagster_project.lib.labels.consensus import clean_labels, label_summary
    from dagster_project.lib.labels.drop import label_version
    from dagster_project.lib.labels.given import given_version

    cleaned = clean_labels(given_labels.frame, expert_reviews.frame)
    reviews_version = expert_reviews.metadata["version"]
    version = label_version(given_version(given_labels.frame), reviews_version)
    carried = {"label_version": version, "reviews_version": reviews_version}
    table = StoredTable.of(cleaned, carried)
    return dg.MaterializeResult(
        value=table,
        data_version=dg.DataVersion(table.version),
        metadata=show.scalars({**label_summary(cleaned), "label_version": version}),
    )


@dg.asset_check(asset=cleaned_labels, blocking=True, additional_ins=INDEX)
def labels_known_and_joined(
    settings: dg.ResourceParam[Settings], cleaned_labels: StoredTable, dataset_index: StoredTable
) -> dg.AssetCheckResult:
    """Every label is a class of the model, and every image of the dataset has its one row."""
    from dagster_project.lib.labels.consensus import label_problems

    problems = label_problems(
        cleaned_labels.frame, dataset_index.frame["image_uuid"], dumped_classes(settings)
    )
    return dg.AssetCheckResult(
        passed=not problems,
        description="; ".join(problems) or None,
        metadata={"problems": show.reasons(problems)},
    )


ASSETS = [expert_reviews, cleaned_labels]
CHECKS = [label_drop_status, labels_known_and_joined]
