"""Which images there are, and what they are labelled as: two assets of one manifest.

Belongs: ``dataset_index`` (no labels) and ``given_labels`` (nothing else).
Does not: reviewed labels (``labels``).
Concept: two versions, so that a relabelled dataset leaves every probability dump current.
"""

import dagster as dg

from dagster_project.defs import show
from dagster_project.lib.stored_table import StoredTable
from dagster_project.settings import Settings


@dg.asset(group_name="dataset", kinds={"parquet"}, owners=["team:data-science"], code_version="1")
def dataset_index(settings: dg.ResourceParam[Settings]) -> dg.MaterializeResult[StoredTable]:
    """Every image with path, patient, split and questionnaire, without its label."""
    from dagster_project.lib import dataset

    index = dataset.dataset_index(settings.dataset_dir)
    table = StoredTable.of(index, dataset.split_origin(settings.dataset_dir))
    return dg.MaterializeResult(
        value=table,
        data_version=dg.DataVersion(table.version),
        metadata={
            "images": index.height,
            "patients": index["patient_id"].n_unique(),
            "splits": show.table(index.group_by("split").len("images").sort("split")),
        },
    )


@dg.asset(group_name="labels", kinds={"parquet"}, owners=["team:data-science"], code_version="1")
def given_labels(settings: dg.ResourceParam[Settings]) -> dg.MaterializeResult[StoredTable]:
    """The labels that came with the dataset; noisy until reviewed."""
    from dagster_project.lib import dataset
    from dagster_project.lib.labels.given import given_version

    given = dataset.given_labels(settings.dataset_dir)
    per_class = given.group_by("label").len("n").sort("n", "label", descending=[True, False])
    return dg.MaterializeResult(
        value=StoredTable.of(given),
        data_version=dg.DataVersion(given_version(given)),
        metadata={
            "labelled": given["label"].count(),
            "without_label": given["label"].null_count(),
            "per_class": show.table(per_class),
        },
    )


ASSETS = [dataset_index, given_labels]
