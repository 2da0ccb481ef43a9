"""The cleaned manifest: what the next training should read, row by row, and why.

Belongs: keeping, relabelling and dropping rows by what people decided; counts before and after; the
published folder.
Does not: consensus (``consensus``), proposing what to drop (``mislabels``), training.
Concept: a training set is a version, made beside the original and named by its content. Only the
training side is cleaned: the test split keeps its given labels, because reviews correct it each
time thresholds are fitted, and a correction baked into it could not be told from a given label.
::

    ROOT/<version>/manifest.parquet  dropped.csv  metadata.csv  counts.csv  summary.json  README.txt
    ROOT/latest -> <version>
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from dagster_project.lib import files, tables
from dagster_project.lib.dataset import ABOUT_LABELS, ID_COLUMNS
from dagster_project.lib.errors import InputError, some

HELD_OUT = "test"
"""The split that evaluates and never trains."""

ACTIONS = ("kept", "relabelled", "dropped")
PROVENANCE = ("given_label", "action", "reason", "source", "n_votes")
"""What is said of a row beside the original's columns."""

LATEST = "latest"

_LAYOUT = 1
"""Raise when the files of a manifest change for equal rows."""

_KEPT = {
    "given": "nobody reviewed it",
    "confirmed": "reviewers confirmed it",
    "tie": "votes conflict: needs another reader",
    "single": "one vote where two are needed",
    "unsure": "reviewers were unsure",
}
_RELABELLED = {
    "consensus": "reviewers agree on another class",
    "single": "one reviewer gave another class",
    "reference": "a reference gave another class",
}
_HELD_OUT_REASON = "held out: reviews correct it when thresholds are fitted, not here"
_NOT_USABLE_REASON = "reviewers could not use the photograph"

_README = """\
A manifest for the next training, made from the dataset's own by what people decided. The dataset
itself is not changed.

manifest.parquet  the rows to use, in the dataset's order: all its columns, "label" as it now
                  stands, "split", and why ({provenance})
dropped.csv       the rows that are not in it, with the reason
metadata.csv      the rows to train on once more, with "file_name" (Hugging Face image folder)
counts.csv        rows of the training side by class, before and after
summary.json      what it was made from, how many rows, the sha256 of each file

Paths of images are relative to the dataset's folder, as they always were. To use it, make a folder
with this manifest.parquet, the dataset's own splits file and links to its image folders, and let
DATASET_DIR name that folder.

Train on the rows whose split is not "{held_out}". Those of "{held_out}" carry their given labels.
"""


@dataclass(frozen=True)
class PublishedManifest:
    """A folder with a manifest in it.

    Attributes
    ----------
    version : 16 hex digits of its content; the folder's name.
    built : False where equal content had been published before, and was left as it is.
    """

    version: str
    folder: Path
    built: bool


def decide_rows(
    index: pl.DataFrame,
    cleaned: pl.DataFrame,
    prune: pl.DataFrame | None = None,
    *,
    held_out: str = HELD_OUT,
) -> pl.DataFrame:
    """What becomes of every row of the dataset, by what people decided, and never by a score alone.

    A row of ``held_out`` is kept as given. Any other is dropped if reviewers found it not usable,
    if the policy for reviews takes its label away, or if ``prune`` names it and nobody has reviewed
    it; relabelled if its label in force is not the given one; else kept.

    Parameters
    ----------
    index : (N,) ``image_uuid, split``; other columns do not count.
    cleaned : ``image_uuid, label, given_label, status, n_votes, source``, an image once, as
        ``consensus.clean_labels`` returns them. Images that are not in ``index`` do not count.
    prune : ``image_uuid, reason``: proposals to drop; several reasons for one image are joined.
        Images that are not in ``index`` do not count.
    held_out : the split whose labels are left alone.

    Returns
    -------
    (N,) in the order of ``index``: ``image_uuid, split, label`` (null where the row is dropped, or
    has no label) and :data:`PROVENANCE`. ``action`` is one of :data:`ACTIONS`; ``source`` is that
    of ``cleaned`` (``policy`` where it has none), or ``prune_list``; ``n_votes`` is null where held
    out, so that reviews of the test split alone make no new manifest.

    Raises
    ------
    InputError
        An image has no row in ``cleaned``.

    >>> index = pl.DataFrame({"image_uuid": ["a", "b"], "split": ["train", "test"]})
    >>> cleaned = pl.DataFrame({
    ...     "image_uuid": ["a", "b"], "label": ["tinea"] * 2, "given_label": ["acne"] * 2,
    ...     "status": ["corrected"] * 2, "n_votes": [2, 2], "source": ["consensus"] * 2,
    ... })
    >>> decide_rows(index, cleaned).select("label", "action", "source", "n_votes").rows()
    [('tinea', 'relabelled', 'consensus', 2), ('acne', 'kept', 'given', None)]
    """
    joined = index.select("image_uuid", "split").join(
        cleaned.select("image_uuid", "label", "given_label", "status", "n_votes", "source"),
        on="image_uuid",
        how="left",
        validate="1:1",
        maintain_order="left",
    )
    without = joined.filter(pl.col("status").is_null())["image_uuid"]
    if without.len():
        raise InputError(
            f"cleaned labels: {without.len()} images of the dataset have no row: {some(without)}; "
            "materialize given_labels and cleaned_labels again"
        )
    proposed = _reasons(prune)
    joined = joined.join(proposed, on="image_uuid", how="left", maintain_order="left")
    label, given, status = (pl.col(name) for name in ("label", "given_label", "status"))
    held = pl.col("split") == held_out
    unusable = ~held & (status == "not_usable")
    excluded = ~held & label.is_null() & given.is_not_null() & ~unusable
    # a proposal may be older than the reviews: where anybody has looked, reviewers decide
    pruned = ~held & (status == "given") & pl.col("proposed").is_not_null()
    dropped = unusable | excluded | pruned
    moved = ~held & ~dropped & label.ne_missing(given)
    nothing, why = pl.lit(None), status.replace(_KEPT)
    source = pl.col("source").fill_null("policy")
    reason = _first(
        (held, pl.lit(_HELD_OUT_REASON)),
        (unusable, pl.lit(_NOT_USABLE_REASON)),
        (excluded, pl.lit("left out by the policy for reviews: ") + why),
        (pruned, pl.col("proposed")),
        (moved, source.replace(_RELABELLED)),
        otherwise=why,
    )
    kept, relabelled, left_out = (pl.lit(action) for action in ACTIONS)
    return joined.select(
        *("image_uuid", "split"),
        label=_first((held, given), (dropped, nothing), otherwise=label),
        given_label=given,
        action=_first((dropped, left_out), (moved, relabelled), otherwise=kept),
        reason=reason,
        source=_first((held, pl.lit("given")), (pruned, pl.lit("prune_list")), otherwise=source),
        n_votes=_first((held, nothing), otherwise=pl.col("n_votes").cast(pl.Int64)),
    )


def _first(*cases: tuple[pl.Expr, pl.Expr], otherwise: pl.Expr) -> pl.Expr:
    """The value of the first case that holds."""
    value = otherwise
    for condition, other in reversed(cases):
        value = pl.when(condition).then(other).otherwise(value)
    return value


def _reasons(prune: pl.DataFrame | None) -> pl.DataFrame:
    if prune is None:
        return pl.DataFrame(schema={"image_uuid": pl.String, "proposed": pl.String})
    return prune.group_by("image_uuid").agg(
        proposed=pl.col("reason").unique().sort().str.join("; ")
    )


def class_counts(rows: pl.DataFrame, *, held_out: str = HELD_OUT) -> pl.DataFrame:
    """Rows of the training side by class, before and after; most frequent before first, then name.

    ``after`` = ``before`` - ``relabelled_away`` + ``relabelled_to`` - ``dropped``. Rows without a
    label are in no class.

    Parameters
    ----------
    rows : of :func:`decide_rows`.

    Returns
    -------
    (K,) ``class, before, after, relabelled_away, relabelled_to, dropped``; K = 0 where no row of
    the training side has a label.
    """
    training = rows.filter(pl.col("split") != held_out)
    given, now, action = (pl.col(name) for name in ("given_label", "label", "action"))
    counts = {
        "before": training.select(given),
        "after": training.select(now),
        "relabelled_away": training.filter(action == "relabelled").select(given),
        "relabelled_to": training.filter(action == "relabelled").select(now),
        "dropped": training.filter(action == "dropped").select(given),
    }
    table = pl.concat([training["given_label"], training["label"]]).drop_nulls().unique()
    found = table.to_frame("class")
    for name, labels in counts.items():
        counted = labels.rename({labels.columns[0]: "class"}).group_by("class").len(name)
        found = found.join(counted, on="class", how="left")
    numbers = pl.col(list(counts)).fill_null(0).cast(pl.Int64)
    return found.with_columns(numbers).sort("before", "class", descending=[True, False])


def dropped_by_reason(rows: pl.DataFrame) -> pl.DataFrame:
    """``reason, source, n`` of the dropped rows, most frequent first, then by name."""
    dropped = rows.filter(pl.col("action") == "dropped")
    counted = dropped.group_by("reason", "source").len("n").with_columns(pl.col("n").cast(pl.Int64))
    return counted.sort("n", "reason", "source", descending=[True, False, False])


def manifest_summary(rows: pl.DataFrame, *, held_out: str = HELD_OUT) -> dict[str, int]:
    """Counts under stable names: of the training side by action, without a label, and held out."""
    training = rows.filter(pl.col("split") != held_out)
    by_action = dict(training["action"].value_counts().rows())
    return {
        "n_training_before": training.height,
        "n_training_after": training.filter(pl.col("action") != "dropped").height,
        **{f"n_{action}": int(by_action.get(action, 0)) for action in ACTIONS},
        "n_without_label": training.filter(
            pl.col("action") != "dropped", pl.col("label").is_null()
        ).height,
        "n_held_out": rows.height - training.height,
    }


def full_manifest(index: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """The dataset's columns, with ``label`` after its ids, and what is said of each row.

    Parameters
    ----------
    index : (N,) of ``dataset.dataset_index``.
    rows : of :func:`decide_rows`, of the same images.

    Returns
    -------
    (N,) ``image_uuid, image_path, patient_id, label``, the dataset's other columns, ``split``, and
    :data:`PROVENANCE` under :func:`provenance_names`.
    """
    names = provenance_names(index.columns)
    said = rows.select("image_uuid", "label", *(pl.col(k).alias(name) for k, name in names.items()))
    joined = index.join(said, on="image_uuid", how="left", maintain_order="left", validate="1:1")
    others = [name for name in index.columns if name not in ID_COLUMNS]
    front = ("image_uuid", "image_path", "patient_id", "label")
    return joined.select(*front, *others, "split", *names.values())


def provenance_names(columns: Sequence[str]) -> dict[str, str]:
    """The names of :data:`PROVENANCE` beside ``columns``: ``label_source`` where it has a source.

    A dataset's own column keeps its name: a questionnaire field is read by it.

    >>> provenance_names(["image_uuid", "source"])["source"]
    'label_source'
    """
    found = {}
    for name in PROVENANCE:
        free = name
        while free in columns:
            free = f"label_{free}"
        found[name] = free
    return found


def publish_manifest(
    root: Path,
    index: pl.DataFrame,
    rows: pl.DataFrame,
    made_from: Mapping[str, str | None],
    *,
    held_out: str = HELD_OUT,
) -> PublishedManifest:
    """Publish a manifest whole, in a folder of ``root`` named by its content, and point to it.

    Equal content is not published again: its ``summary.json`` says what it was first made from.

    Parameters
    ----------
    index, rows : as of :func:`full_manifest`.
    made_from : versions of what it was made from, for ``summary.json``; not part of the version.
    """
    manifest = full_manifest(index, rows)
    version = files.digest([_LAYOUT, tables.digest_frame(manifest)])
    folder = root / version
    built = not folder.exists()
    if built:
        with files.publish_folder(folder) as temp:
            _write_tables(temp, manifest, provenance_names(index.columns), held_out)
            tables.write_csv(temp / "counts.csv", class_counts(rows, held_out=held_out))
            summary = {
                "manifest": version,
                "made_from": dict(made_from),
                "held_out": held_out,
                **manifest_summary(rows, held_out=held_out),
                "dropped": dropped_by_reason(rows).to_dicts(),
                "sha256": {p.name: files.sha256_file(p) for p in sorted(temp.iterdir())},
            }
            files.write_json(temp / "summary.json", summary)
    files.point(root / LATEST, version)
    return PublishedManifest(version, folder, built)


def _write_tables(
    folder: Path, manifest: pl.DataFrame, names: Mapping[str, str], held_out: str
) -> None:
    dropped = pl.col(names["action"]) == "dropped"
    kept = manifest.filter(~dropped)
    about = {ABOUT_LABELS: files.canonical_json(list(names.values()))}
    tables.write_arrow(folder / "manifest.parquet", tables.with_metadata(kept.to_arrow(), about))
    tables.write_csv(folder / "dropped.csv", manifest.filter(dropped))
    training = kept.filter(pl.col("split") != held_out)
    others = pl.all().exclude("file_name")
    tables.write_csv(
        folder / "metadata.csv", training.select(pl.col("image_path").alias("file_name"), others)
    )
    text = _README.format(provenance=", ".join(names.values()), held_out=held_out)
    files.write_text(folder / "README.txt", text)
