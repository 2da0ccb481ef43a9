"""Stage 3, beside wrong labels: what is wrong with the pictures, and with labels of equal pictures.

Belongs: ``image_fingerprints`` and ``image_issues``, which no label can make stale, and
``issue_kinds``, which joins the labels and the predictions to them.
Does not: finding anything (``lib.image_issues``).
Concept: copies and embeddings of a hundred thousand pictures are compared once a data set and
model; a refit only looks up what was found. So ``issue_kinds`` follows ``image_issues`` without
needing it: where that job has not run, a refit goes on and says so.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from dagster_project.defs import jobs, show
from dagster_project.defs.parquet_io import read_stored, table_path
from dagster_project.defs.probabilities import DUMPS, shard_keys
from dagster_project.lib import progress
from dagster_project.lib.stored_table import StoredTable
from dagster_project.settings import Settings

if TYPE_CHECKING:
    import polars as pl

    from dagster_project.lib.embedding_table import Embeddings
    from dagster_project.lib.image_issues.find import ImageIssues

FOLDER = "image_issues"


@dg.asset(
    group_name="image_issues", kinds={"parquet"}, owners=["team:data-science"], code_version="1"
)
def image_fingerprints(
    context: dg.AssetExecutionContext,
    settings: dg.ResourceParam[Settings],
    dataset_index: StoredTable,
) -> dg.MaterializeResult[StoredTable]:
    """Hashes and pixel shares of every picture; only pictures that are new are decoded."""
    from dagster_project.lib.image_issues import fingerprints

    prints = fingerprints.fingerprint_images(
        dataset_index.frame,
        settings.dataset_dir,
        known=fingerprints.read_known(table_path(settings, "image_fingerprints")),
        on_progress=progress.lines("fingerprints", context.log.info, "image"),
    )
    table = StoredTable.of(prints, fingerprints.version())
    return dg.MaterializeResult(
        value=table,
        data_version=dg.DataVersion(table.version),
        metadata={
            "images": prints.height,
            "unreadable": int(prints["error"].is_not_null().sum()),
            "different_files": prints["sha256"].n_unique(),
        },
    )


@dg.asset(
    group_name="image_issues",
    kinds={"parquet"},
    owners=["team:data-science"],
    code_version="1",
    deps=list(DUMPS.values()),
)
def image_issues(
    context: dg.AssetExecutionContext,
    settings: dg.ResourceParam[Settings],
    image_fingerprints: StoredTable,
    dataset_index: StoredTable,
) -> dg.MaterializeResult[StoredTable]:
    """Garbage, outliers, copies and look-alikes, one row a finding; outliers need embeddings."""
    from dagster_project.lib.image_issues import find

    found = find.compare_images(
        dataset_index.frame,
        image_fingerprints.frame,
        embeddings=_embeddings(settings),
        on_progress=progress.lines("comparing images", context.log.info, "image"),
    )
    folder = settings.report_dir / FOLDER
    find.write_image_issues(found, folder, settings.dataset_dir)
    table = StoredTable.of(found.table)
    return dg.MaterializeResult(
        value=table,
        data_version=dg.DataVersion(table.version),
        metadata={
            **show.scalars(found.summary),
            "not_looked_for": show.reasons(_not_looked_for(found)),
            "pairs": show.table(_by_relation(found.pairs)),
            **_links(folder, settings, find.IMAGE_FILES),
            **_thumbnails(settings, found),
        },
    )


@dg.asset(
    group_name="image_issues",
    kinds={"parquet"},
    owners=["team:data-science"],
    code_version="1",
    op_tags=jobs.JOINS_FIRST,
    deps=["image_issues"],
)
def issue_kinds(
    settings: dg.ResourceParam[Settings],
    mislabel_candidates: StoredTable,
    cleaned_labels: StoredTable,
    dataset_index: StoredTable,
) -> dg.MaterializeResult[StoredTable]:
    """Copies whose labels contradict each other, and clusters of one class read as one other."""
    from dagster_project.lib.image_issues import find

    pairs = compared_images(settings, dataset_index)
    found = find.find_label_issues(
        pairs,
        cleaned_labels.frame.select("image_uuid", "label"),
        mislabel_candidates.frame,
        dataset_index.frame,
    )
    folder = settings.report_dir / FOLDER
    find.write_label_issues(found, folder, settings.dataset_dir, dataset_index.frame)
    table = StoredTable.of(found.table)
    missing = [] if pairs is not None else ["conflicting duplicates: run image_issues_job first"]
    return dg.MaterializeResult(
        value=table,
        data_version=dg.DataVersion(table.version),
        metadata={
            **show.scalars(found.summary),
            "not_looked_for": show.reasons(missing),
            **({"clusters_table": show.table(found.clusters.table)} if found.clusters else {}),
            **_links(folder, settings, find.LABEL_FILES),
        },
    )


def compared_images(settings: Settings, index: StoredTable) -> "pl.DataFrame | None":
    """Findings of ``image_issues`` whose images the dataset still has; None if it never ran.

    For what follows that asset without needing it.
    """
    import polars as pl

    if not table_path(settings, "image_issues").is_file():
        return None
    ids = index.frame["image_uuid"].implode()
    alone, both = pl.col("other_uuid").is_null(), pl.col("other_uuid").is_in(ids)
    found = read_stored(settings, "image_issues").frame
    return found.filter(pl.col("image_uuid").is_in(ids) & (alone | both))


def _embeddings(settings: Settings) -> "Embeddings | None":
    """Those of all shards that have them; of two models they are refused."""
    from dagster_project.lib.embedding_table import dumped_embeddings, read_embeddings

    dumps = [
        table_path(settings, asset, key) for asset in DUMPS.values() for key in shard_keys(settings)
    ]
    found = dumped_embeddings(dumps)
    return read_embeddings(found) if found else None


def _not_looked_for(found: "ImageIssues") -> list[str]:
    if found.outliers is None:
        return ["outliers, look-alikes: no embeddings"]
    without = found.rows.height - found.n_embedded
    return [f"outliers, look-alikes among {without} images without embeddings"] if without else []


def _by_relation(pairs: "pl.DataFrame") -> "pl.DataFrame":
    """How many pairs of each relation are within and across patients and splits."""
    import polars as pl

    return (
        pairs.group_by(pl.col("relation").cast(pl.String), "same_patient", "across_splits")
        .len("pairs")
        .sort("relation", "same_patient", "across_splits")
    )


def _links(folder: Path, settings: Settings, names: set[str]) -> dict[str, Any]:
    """The pictures that were written, by link: they are photographs of patients."""
    shown: dict[str, Any] = {}
    for name in sorted(names):
        if (folder / f"{name}.png").is_file():
            shown |= show.link(folder / f"{name}.png", settings, name)
    return shown


def _thumbnails(settings: Settings, found: "ImageIssues") -> dict[str, Any]:
    """Small pictures of the worst, where the UI may show photographs at all."""
    if not settings.photos_in_ui:
        return {}
    from dagster_project.lib import tiles
    from dagster_project.lib.image_issues.pictures import with_paths

    copies = with_paths(found.pairs.head(6), found.rows)
    in_pairs = [path for row in copies.select("image_path", "other_path").rows() for path in row]
    odd: list[str | None] = []
    for singles in (found.not_skin, found.outliers):
        if singles is not None:
            odd += with_paths(singles.head(6), found.rows)["image_path"].to_list()
    shown: dict[str, Any] = {}
    for title, paths in (("worst_pairs", in_pairs), ("worst_single_images", odd)):
        if paths:
            shown |= show.inline(tiles.thumbnail(paths, settings.dataset_dir), title)
    return shown


ASSETS = [image_fingerprints, image_issues, issue_kinds]
