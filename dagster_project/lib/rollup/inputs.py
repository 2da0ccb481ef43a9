"""From files to the inputs of a roll-up: what the command line and a notebook start with.

Belongs: reading table, taxonomies, configuration and labels; refusing what does not fit together.
Does not: any statistic, what a run of assets reads (``defs``).
Concept: everything is read and checked before anything is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dagster_project.lib import tables
from dagster_project.lib.errors import InputError, some
from dagster_project.lib.labels.given import text_ids
from dagster_project.lib.probability_table import ProbabilityTable, read_probabilities
from dagster_project.lib.release.inputs import labels_in_force, labels_of
from dagster_project.lib.review.sample import with_reviews
from dagster_project.lib.rollup.config import read_config
from dagster_project.lib.rollup.report import Labelled, RollupInputs, check_config, labelled_rows
from dagster_project.lib.rollup.taxonomy import EXAMPLES, Taxonomy, read_taxonomy
from dagster_project.lib.tiers.scored_rows import score_rows

if TYPE_CHECKING:
    import polars as pl

    from dagster_project.lib.tiers.thresholds import Thresholds


@dataclass(frozen=True)
class RollupFiles:
    """Where the inputs are.

    Attributes
    ----------
    probs : parquet files, shards of one table.
    taxonomies : CSV or parquet, or names of the shipped examples; the first is used, of the others
        is only told which confusions they hold.
    config : JSON. labels : None: those that travel with the table, if any do.
    reviewed_labels : how ``labels`` were reviewed (``review.sample.read_reviewed``).
    classes : labels.txt, where the parquet names none. row_ids : of files without ids.
    """

    probs: Sequence[Path]
    taxonomies: Sequence[Path]
    config: Path
    labels: Path | None = None
    reviewed_labels: Path | None = None
    classes: Path | None = None
    row_ids: Path | None = None


def read_inputs(found: RollupFiles, *, thresholds: Thresholds | None = None) -> RollupInputs:
    """Read and check everything.

    Parameters
    ----------
    thresholds : of the tiers; None: the report says nothing of tiers.

    Raises
    ------
    InputError
        A file that is wrong, two taxonomies of one name, a configuration that does not fit.
    """
    config = read_config(found.config)
    table = read_probabilities(list(found.probs), found.classes, row_ids=found.row_ids)
    taxonomies: dict[str, Taxonomy] = {}
    for path in found.taxonomies:
        name, taxonomy = named_taxonomy(path, table.classes)
        if name in taxonomies:
            raise InputError(f"--taxonomy {path}: a second one is called {name}; rename one")
        taxonomies[name] = taxonomy
    (name, taxonomy), *beside = taxonomies.items()
    labelled = _labelled(found, table, thresholds)
    try:
        check_config(config, taxonomy, labels=labelled is not None)
    except InputError as error:
        raise InputError(f"{found.config.name}: {error}") from None
    return RollupInputs(table, taxonomy, name, config, labelled, dict(beside))


def named_taxonomy(path: Path, classes: Sequence[str]) -> tuple[str, Taxonomy]:
    """A taxonomy and what it is called: the file's name without ending, or a shipped example's.

    Raises
    ------
    InputError
        Neither a file nor an example; as ``taxonomy.read_taxonomy``.
    """
    example = EXAMPLES.get(str(path))
    if example is None and not path.exists():
        raise InputError(
            f"{path}: no such file, and no shipped example; those are {some(EXAMPLES, 9)}"
        )
    return path.stem, read_taxonomy(example or path, classes)


def _labelled(
    found: RollupFiles, table: ProbabilityTable, thresholds: Thresholds | None
) -> Labelled | None:
    if found.labels is None and "label" not in table.frame.columns:
        return None
    labels = labels_of(found.labels, table)
    source = "unstated"
    reviews: tuple[pl.DataFrame, pl.DataFrame | None] | None = None
    if found.labels is not None:
        frame = tables.read_table(found.labels, ["image_uuid", "label"])
        labels = _with_patients(found.labels, frame, labels)
        if "status" in frame.columns:
            source, reviews = "cleaned", _cleaned(found, frame)
    if found.reviewed_labels is not None:
        labels, reviews = labels_in_force(found.reviewed_labels, table, labels)
        source = "cleaned"
    scored = score_rows(table, labels)
    if reviews is not None:
        scored = with_reviews(scored, *reviews)
    return labelled_rows(table, scored, thresholds, source=source)


def _cleaned(found: RollupFiles, frame: pl.DataFrame) -> tuple[pl.DataFrame, None] | None:
    """What cleaned labels say of reviews; how probably an image was drawn, they do not say."""
    if "given_label" not in frame.columns:
        return None
    if found.reviewed_labels is not None:
        raise InputError(
            f"{found.reviewed_labels.name}: {found.labels} has been cleaned already; pass the "
            "labels as given beside --reviewed-labels"
        )
    ids = text_ids(str(found.labels), frame["image_uuid"])
    return frame.select(ids, "given_label", "status"), None


def _with_patients(path: Path, frame: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """Labels with the file's ``patient_id``, if it has one: used where the table has none."""
    if "patient_id" not in frame.columns:
        return labels
    beside = frame.select(text_ids(path.name, frame["image_uuid"]), "patient_id")
    return labels.join(beside, on="image_uuid", how="left", maintain_order="left")
