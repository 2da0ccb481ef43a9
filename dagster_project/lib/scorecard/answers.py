"""What several models answered on the same labelled images: the rows of every comparison.

Belongs: the join by ``image_uuid``, patients, the truth; refusing rows that are not the same.
Does not: any statistic (``measures``, ``paired``), reading files (``probability_table``).
Concept: a difference is paired or it is nothing, so all configurations have the same images.
N = images, P = patients, K = classes, M = configurations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from dagster_project.lib.errors import InputError, some
from dagster_project.lib.evidence.rows import hash_numbers, patient_key
from dagster_project.lib.labels.given import check_labels

if TYPE_CHECKING:
    import numpy.typing as npt

    from dagster_project.lib.probability_table import ProbabilityTable

    Floats = npt.NDArray[np.floating[Any]]
    Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Answers:
    """Probabilities of M configurations for the same N labelled images.

    Attributes
    ----------
    classes : (K,) names; order of the columns.
    image_uuid : (N,) sorted.
    patient : (N,) int64 in 0..P-1, patients numbered by the sha256 of their id; an image without a
        patient is its own.
    n_patients : P.
    patients_known : every image names its patient.
    true : (N,) int64 in 0..K-1, the label in force.
    probs : configuration -> (N, K) in [0, 1], in the order given. Sigmoid rows need not sum to 1.
    n_without_label, n_without_probs : images that are left out for want of either, the same in all
        configurations.
    """

    classes: tuple[str, ...]
    image_uuid: pl.Series
    patient: Ints
    n_patients: int
    patients_known: bool
    true: Ints
    probs: Mapping[str, Floats]
    n_without_label: int = 0
    n_without_probs: int = 0

    def __len__(self) -> int:
        """N, images."""
        return int(self.true.size)


def same_rows(
    tables: Mapping[str, ProbabilityTable], labels: pl.DataFrame, *, view: str = "probs"
) -> Answers:
    """Join the tables of all configurations and the labels by ``image_uuid``.

    Parameters
    ----------
    tables : configuration -> its probabilities, one model each. Classes may differ in order only.
    labels : ``image_uuid, label`` and optionally ``patient_id`` (used where a table has none). A
        null label is no label; labels of images that are in no table are not used.
    view : which view of the tables is compared.

    Raises
    ------
    InputError
        No table; another set of classes or images than in the first one; an image that one
        configuration could not score and another could; an unknown class; an image labelled twice;
        no image with a label; a table without the view.
    """
    if not tables:
        raise InputError("scorecard: no probabilities given; pass --probs NAME=FILE")
    first_name, first = next(iter(tables.items()))
    scored = {name: table.scored() for name, table in tables.items()}
    for name, table in tables.items():
        _check_same(first_name, first, scored[first_name], name, table, scored[name])
        if view not in table.views:
            raise InputError(f"{name}: no view {view}; dump it again, or compare another view")
    check_labels(labels, first.classes)
    rows = _joined(scored[first_name].frame, labels)
    labelled = rows.filter(pl.col("label").is_not_null())
    if labelled.is_empty():
        raise InputError(
            f"none of the {rows.height} images has a label; check that image_uuid means the same "
            "in probabilities and labels"
        )
    patient, n_patients = hash_numbers(labelled.select(patient_key())["patient"])
    names = pl.Enum(first.classes)
    return Answers(
        classes=first.classes,
        image_uuid=labelled["image_uuid"],
        patient=patient,
        n_patients=n_patients,
        patients_known=labelled["patient_id"].null_count() == 0,
        true=labelled["label"].cast(names).to_physical().cast(pl.Int64).to_numpy(),
        probs={
            name: _aligned(table, view, labelled["image_uuid"], first.classes)
            for name, table in scored.items()
        },
        n_without_label=rows.height - labelled.height,
        n_without_probs=first.frame.height - rows.height,
    )


def relabelled(answers: Answers, labels: pl.DataFrame) -> Answers:
    """The same answers against other labels; images that these leave without one are left out.

    Parameters
    ----------
    labels : ``image_uuid, label``.
    """
    check_labels(labels, answers.classes)
    rows = answers.image_uuid.to_frame().join(
        labels.select("image_uuid", "label"), on="image_uuid", how="left", maintain_order="left"
    )
    kept = rows["label"].is_not_null().to_numpy()
    if not kept.any():
        raise InputError(f"none of the {rows.height} images has a label among the other labels")
    _, patient = np.unique(answers.patient[kept], return_inverse=True)
    names = pl.Enum(answers.classes)
    return Answers(
        classes=answers.classes,
        image_uuid=answers.image_uuid.filter(kept),
        patient=patient.astype(np.int64),
        n_patients=int(patient.max()) + 1,
        patients_known=answers.patients_known,
        true=rows["label"].filter(kept).cast(names).to_physical().cast(pl.Int64).to_numpy(),
        probs={name: values[kept] for name, values in answers.probs.items()},
        n_without_label=answers.n_without_label + int((~kept).sum()),
        n_without_probs=answers.n_without_probs,
    )


def copies(answers: Answers, baseline: str) -> dict[str, str]:
    """Configuration -> the one before it that answers every image exactly alike; others are absent.

    The baseline counts as the first of all. Two trainings do not agree to the last bit: these are
    the same weights under two names, and no second try of anything.

    >>> from types import SimpleNamespace as Like
    >>> one, other = np.array([[0.5, 0.2]]), np.array([[0.5, 0.3]])
    >>> copies(Like(probs={"a": one, "b": other, "c": one.copy()}), "c")
    {'a': 'c'}
    """
    found: dict[str, str] = {}
    distinct = [baseline]
    for name, values in answers.probs.items():
        if name == baseline:
            continue
        same = (first for first in distinct if np.array_equal(answers.probs[first], values))
        first = next(same, None)
        if first is None:
            distinct.append(name)
        else:
            found[name] = first
    return found


def _check_same(
    first_name: str,
    first: ProbabilityTable,
    first_scored: ProbabilityTable,
    name: str,
    table: ProbabilityTable,
    scored: ProbabilityTable,
) -> None:
    if set(table.classes) != set(first.classes):
        other = sorted(set(table.classes) ^ set(first.classes))
        raise InputError(
            f"{name}: other classes than {first_name}: {some(other)}; compare models of one task"
        )
    for what, ours, theirs in (
        ("images", table.frame, first.frame),
        ("images with probabilities", scored.frame, first_scored.frame),
    ):
        mine, wanted = set(ours["image_uuid"]), set(theirs["image_uuid"])
        if mine != wanted:
            missing, extra = sorted(wanted - mine), sorted(mine - wanted)
            parts = [f"{len(missing)} missing: {some(missing)}"] if missing else []
            parts += [f"{len(extra)} more: {some(extra)}"] if extra else []
            raise InputError(
                f"{name}: other {what} than {first_name} ({'; '.join(parts)}); a difference is "
                "taken on the same rows: dump both from one split"
            )


def _joined(frame: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """``image_uuid, patient_id, label`` of every row, sorted."""
    columns = ["image_uuid", *(c for c in ("patient_id",) if c in frame.columns)]
    wanted = ["image_uuid", "label"]
    if "patient_id" not in columns and "patient_id" in labels.columns:
        wanted.append("patient_id")
    rows = frame.select(columns).join(labels.select(wanted), on="image_uuid", how="left")
    if "patient_id" not in rows.columns:
        rows = rows.with_columns(pl.lit(None, dtype=pl.String).alias("patient_id"))
    return rows.sort("image_uuid")


def _aligned(
    table: ProbabilityTable, view: str, image_uuid: pl.Series, classes: tuple[str, ...]
) -> Floats:
    """(N, K) values in the order of ``image_uuid`` and ``classes``."""
    place = table.frame.select("image_uuid").with_row_index("at")
    at = image_uuid.to_frame().join(place, on="image_uuid", how="left", maintain_order="left")
    order = [table.classes.index(name) for name in classes]
    found: Floats = table.views[view][at["at"].to_numpy()][:, order]
    return found
