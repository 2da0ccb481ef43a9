"""All kinds of issue of one data set: found, counted, written.

Belongs: running the kinds together, the one table that assets hand on, the files of
``tier-refit image-issues``.
Does not: any kind itself.
Concept: two halves. What needs no label (:class:`ImageIssues`) is found once and kept while labels
come and go; what does (:class:`LabelIssues`) is a join over it. N = images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from dagster_project.lib import files, tables
from dagster_project.lib.image_issues import clusters as systematic
from dagster_project.lib.image_issues import conflicts, duplicates
from dagster_project.lib.image_issues import not_skin as garbage
from dagster_project.lib.image_issues import outliers as odd
from dagster_project.lib.image_issues.fingerprints import fingerprint_images
from dagster_project.lib.image_issues.neighbours import nearest
from dagster_project.lib.image_issues.pictures import (
    cluster_picture,
    pair_sheet,
    single_sheet,
    with_paths,
)
from dagster_project.lib.progress import OnProgress, silent

if TYPE_CHECKING:
    from dagster_project.lib.embedding_table import Embeddings
    from dagster_project.lib.image_issues.neighbours import Neighbours

ISSUE_SCHEMA = pl.Schema(
    {
        "kind": pl.String,
        "image_uuid": pl.String,
        "other_uuid": pl.String,
        "score": pl.Float64,
        "same_patient": pl.Boolean,
        "across_splits": pl.Boolean,
        "relation": pl.String,
        "distance": pl.Float64,
    }
)
FINGERPRINTS = "fingerprints.parquet"


@dataclass(frozen=True)
class ImageIssues:
    """What is wrong with the pictures of a data set, whatever their labels are.

    Attributes
    ----------
    rows : (N,) ``image_uuid, image_path, patient_id, split``; all splits null: not known.
    prints : (N,) their fingerprints.
    pairs : copies and look-alikes (``duplicates.duplicate_pairs``).
    outliers : ``image_uuid, distance, score``; None where no embeddings were given, which is not
        the same as none found.
    not_skin : ``image_uuid, reason, score, skin_share, edge_share, flat_share``.
    n_embedded : images with an embedding.
    """

    rows: pl.DataFrame
    prints: pl.DataFrame
    pairs: pl.DataFrame
    outliers: pl.DataFrame | None
    not_skin: pl.DataFrame
    n_embedded: int

    @property
    def exact(self) -> pl.DataFrame:
        """Pairs with equal bytes or pixels."""
        return self.pairs.filter(pl.col("relation").is_in(duplicates.EXACT))

    @property
    def near(self) -> pl.DataFrame:
        """Resized copies and look-alikes."""
        return self.pairs.filter(~pl.col("relation").is_in(duplicates.EXACT))

    @property
    def leakage(self) -> pl.DataFrame | None:
        """Images with a copy or look-alike in another split; None where no split is known."""
        if self.rows["split"].is_null().all():
            return None
        return duplicates.leakage(self.pairs, self.rows)

    @property
    def table(self) -> pl.DataFrame:
        """One row a finding: :data:`ISSUE_SCHEMA`, by kind, then worst and surest first."""
        parts = {
            "not_skin": self.not_skin,
            "outlier": self.outliers,
            "exact_duplicate": self.exact,
            "near_duplicate": self.near,
        }
        shaped = [_shaped(part, kind) for kind, part in parts.items() if part is not None]
        return pl.concat(shaped)

    @property
    def summary(self) -> dict[str, int | None]:
        """Counts of each kind; null for outliers without embeddings and leaks without splits."""
        unreadable, leaks = self.prints["error"].is_not_null().sum(), self.leakage
        return {
            "n": self.rows.height,
            "n_unreadable": int(unreadable),
            "n_embedded": self.n_embedded,
            "not_skin": self.not_skin.height,
            "outliers": None if self.outliers is None else self.outliers.height,
            "exact_duplicates": self.exact.height,
            "near_duplicates": self.near.height,
            "pairs_across_patients": int((~self.pairs["same_patient"]).sum()),
            "images_leaking": None if leaks is None else leaks["image_uuid"].n_unique(),
        }


@dataclass(frozen=True)
class LabelIssues:
    """What is wrong with the labels of pictures that belong together.

    Attributes
    ----------
    conflicting : pairs of one picture with two labels (``conflicts``); None where no pairs are
        known.
    clusters : given -> predicted pairs that gather somewhere; None without predictions.
    """

    conflicting: pl.DataFrame | None
    clusters: systematic.Clusters | None

    @property
    def table(self) -> pl.DataFrame:
        """One row a finding of either kind, each with its own columns: what is not its is null."""
        parts = [pl.DataFrame(schema={"kind": pl.String})]
        if self.conflicting is not None:
            pairs = self.conflicting.with_columns(pl.col("relation").cast(pl.String))
            parts.append(pairs.with_columns(kind=pl.lit("conflicting_duplicate")))
        if self.clusters is not None:
            parts.append(self.clusters.table.with_columns(kind=pl.lit("cluster")))
        return pl.concat(parts, how="diagonal")

    @property
    def summary(self) -> dict[str, int | None]:
        """Counts of each kind; null for what could not be looked for."""
        pairs, found = self.conflicting, self.clusters
        return {
            "conflicting_duplicates": None if pairs is None else pairs.height,
            "clusters": None if found is None else found.table.height,
            "clusters_tested": None if found is None else found.tested,
        }


def find_image_issues(
    rows: pl.DataFrame,
    dataset_dir: Path,
    *,
    embeddings: Embeddings | None = None,
    known: pl.DataFrame | None = None,
    on_progress: OnProgress = silent,
) -> ImageIssues:
    """Look at every picture once, and compare them all.

    Parameters
    ----------
    rows : (N,) ``image_uuid, image_path, patient_id, split`` (``dataset.images``); where ``split``
        is null throughout, nothing is said about copies across splits.
    dataset_dir : folder that ``image_path`` is relative to.
    embeddings : without them there are no outliers and no look-alikes.
    known : fingerprints of an earlier run; equal bytes are not decoded again.
    """
    prints = fingerprint_images(rows, dataset_dir, known=known, on_progress=on_progress)
    return compare_images(rows, prints, embeddings=embeddings, on_progress=on_progress)


def compare_images(
    rows: pl.DataFrame,
    prints: pl.DataFrame,
    *,
    embeddings: Embeddings | None = None,
    on_progress: OnProgress = silent,
) -> ImageIssues:
    """As :func:`find_image_issues`, of pictures whose fingerprints are there: no file is opened."""
    columns = ["image_uuid", "image_path", "patient_id", "split"]
    tables.require_columns("dataset", rows.columns, columns)
    rows = rows.select(columns)
    embedded = _embedded(rows, embeddings, on_progress)
    return ImageIssues(
        rows=rows,
        prints=prints,
        pairs=duplicates.duplicate_pairs(rows, prints, embedded, on_progress=on_progress),
        outliers=None if embedded is None else odd.outliers(*embedded),
        not_skin=garbage.not_skin(prints),
        n_embedded=0 if embedded is None else embedded[0].len(),
    )


def _embedded(
    rows: pl.DataFrame, embeddings: Embeddings | None, on_progress: OnProgress
) -> tuple[pl.Series, Neighbours] | None:
    """Ids and neighbours of the images that have an embedding, sorted by id; None if under two."""
    if embeddings is None:
        return None
    at = pl.DataFrame({"image_uuid": embeddings.image_uuids}).with_row_index("at")
    ours = at.join(rows.select("image_uuid"), on="image_uuid", how="semi").sort("image_uuid")
    if ours.height < 2:
        return None
    values = embeddings.values[ours["at"].to_numpy()]
    return ours["image_uuid"], nearest(values, on_progress=on_progress)


def find_label_issues(
    pairs: pl.DataFrame | None,
    labels: pl.DataFrame,
    judged: pl.DataFrame | None = None,
    metadata: pl.DataFrame | None = None,
) -> LabelIssues:
    """What needs labels: pairs of two labels, and clusters where there are predictions.

    Parameters
    ----------
    pairs : ``ImageIssues.pairs``, or the rows of the asset ``image_issues``; None if unknown.
    labels : ``image_uuid, label``.
    judged : ``image_uuid, patient_id, given_label, predicted_label``.
    metadata : ``image_uuid`` and the columns whose values may gather them.
    """
    found = None
    if judged is not None and metadata is not None:
        found = systematic.systematic_clusters(judged, metadata)
    return LabelIssues(None if pairs is None else conflicts.conflicting(pairs, labels), found)


def _shaped(part: pl.DataFrame, kind: str) -> pl.DataFrame:
    part = part.with_columns(kind=pl.lit(kind))
    lacking = [
        pl.lit(None, dtype).alias(name)
        for name, dtype in ISSUE_SCHEMA.items()
        if name not in part.columns
    ]
    return part.with_columns(lacking).select(list(ISSUE_SCHEMA)).cast(ISSUE_SCHEMA)


def write_image_issues(
    found: ImageIssues, out: Path, dataset_dir: Path, labelled: LabelIssues | None = None
) -> dict[str, int | None]:
    """Write each kind's table and picture, and ``image_issues.json``, into the folder ``out``.

    The tables have ids and the pictures photographs of patients: keep them with the people who may
    see these. A kind that could not be looked for has no file, and null as its count.

    Returns
    -------
    The counts as they are in ``image_issues.json``.
    """
    _write(out, _image_kinds(found, dataset_dir), IMAGE_FILES)
    counts = found.summary
    if labelled is not None:
        write_label_issues(labelled, out, dataset_dir, found.rows)
        counts |= labelled.summary
    files.write_json(out / "image_issues.json", counts)
    return counts


def write_label_issues(
    found: LabelIssues, out: Path, dataset_dir: Path, rows: pl.DataFrame
) -> None:
    """Write ``conflicting_duplicates`` and ``clusters``, a table and a picture each.

    ``rows`` : ``image_uuid, image_path``.
    """
    _write(out, _label_kinds(found, dataset_dir, rows), LABEL_FILES)


IMAGE_FILES = {"exact_duplicates", "near_duplicates", "leakage", "outliers", "not_skin"}
LABEL_FILES = {"conflicting_duplicates", "clusters"}
_Kind = tuple[str, pl.DataFrame, bytes]


def _write(out: Path, kinds: Iterator[_Kind], names: set[str]) -> None:
    written = set()
    for name, table, picture in kinds:
        tables.write_csv(out / f"{name}.csv", table)
        with files.publish(out / f"{name}.png") as temp:
            temp.write_bytes(picture)
        written.add(name)
    for name in names - written:  # of an earlier run that could look for it
        for suffix in ("csv", "png"):
            (out / f"{name}.{suffix}").unlink(missing_ok=True)


def _image_kinds(found: ImageIssues, dataset_dir: Path) -> Iterator[_Kind]:
    """Name, table and picture of each kind that was looked for."""
    rows = found.rows
    alike = "and look-alikes" if found.outliers is not None else "(no embeddings: no look-alikes)"
    for name, pairs, what, unit in (
        ("exact_duplicates", found.exact, "Exact duplicates", "pairs"),
        ("near_duplicates", found.near, f"Resized copies {alike}", "pairs"),
        ("leakage", found.leakage, "With a copy or look-alike in another split", "images"),
    ):
        if pairs is not None:
            picture = pair_sheet(pairs, rows, dataset_dir, what=what, unit=unit)
            yield name, with_paths(pairs, rows), picture
    for name, singles, what in (
        ("outliers", found.outliers, "Outliers"),
        ("not_skin", found.not_skin, "Clearly no photograph of skin"),
    ):
        if singles is not None:
            picture = single_sheet(singles, rows, dataset_dir, what=what)
            yield name, with_paths(singles, rows), picture


def _label_kinds(found: LabelIssues, dataset_dir: Path, rows: pl.DataFrame) -> Iterator[_Kind]:
    pairs, clusters = found.conflicting, found.clusters
    if pairs is not None:
        picture = pair_sheet(pairs, rows, dataset_dir, what="Equal or alike, with two labels")
        yield "conflicting_duplicates", with_paths(pairs, rows), picture
    if clusters is not None:
        yield "clusters", clusters.table, cluster_picture(clusters)
