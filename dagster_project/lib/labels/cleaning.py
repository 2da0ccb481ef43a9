"""Cleaning: the way from a drop to labels in one call, and its files.

Belongs: what ``tier-refit reviews`` does, for a notebook too.
Does not: any step itself (``drop``, ``consensus``, ``agreement``, ``next_reviews``).
Concept: the drop is only read; without a snapshot nothing of a refused file is in force.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from dagster_project.lib import files, tables
from dagster_project.lib.errors import InputError
from dagster_project.lib.labels import agreement, consensus
from dagster_project.lib.labels.drop import Drop, read_drop, write_refusals


@dataclass(frozen=True)
class Cleaning:
    """What one reading of a drop comes to.

    Attributes
    ----------
    drop : as it was read.
    cleaned : rows of ``clean_labels``.
    summary : ``label_summary`` and ``n_overruled_by_reference``.
    agreement : ``agreement_report``.
    """

    drop: Drop
    cleaned: pl.DataFrame
    summary: Mapping[str, Any]
    agreement: Mapping[str, Any]

    def line(self) -> str:
        """What came out, in one line of counts."""
        names = ("confirmed", "corrected", "not_usable", "tie", "single", "unsure")
        counts = ", ".join(f"{self.summary[f'n_{n}']} {n.replace('_', ' ')}" for n in names)
        alpha = self.agreement["alpha"]
        shown = "undefined" if alpha is None else f"{alpha:.2f}"
        return f"of {self.summary['n_reviewed']} reviewed images {counts}; alpha {shown}"


def clean_drop(
    uri: str,
    given: pl.DataFrame,
    classes: Sequence[str],
    *,
    policy: consensus.ConsensusPolicy = consensus.DEFAULT,
    verified: pl.Series | None = None,
    patients: pl.DataFrame | None = None,
    also: Sequence[str] = (),
) -> Cleaning:
    """Read a drop and clean the given labels with it.

    Parameters
    ----------
    uri : folder or ``s3://bucket/prefix``.
    given : (N,) ``image_uuid, label``: the images that may be reviewed.
    classes, policy, verified, patients : as in the steps.
    also : further ids that may come back: repeats of a packet.

    Raises
    ------
    InputError
        There is no review file at all: a wrong path rather than an empty drop.
    """
    ids = pl.concat([given["image_uuid"], pl.Series("image_uuid", also, dtype=pl.String)])
    drop = read_drop(uri, classes=classes, image_uuids=ids)
    if drop.n_files == 0:
        raise InputError(f"{uri}: no review file (*.csv) there; pass the folder that holds them")
    cleaned = consensus.clean_labels(given, drop.reviews, policy, verified=verified)
    against = consensus.overruled(given, drop.reviews, cleaned, policy)
    report = agreement.agreement_report(
        drop.reviews, cleaned, classes, policy=policy, patients=patients
    )
    summary = {**consensus.label_summary(cleaned), "n_overruled_by_reference": against.len()}
    return Cleaning(drop, cleaned, summary, report)


def write_cleaning(cleaning: Cleaning, out: Path) -> None:
    """Publish its six files in ``out``: tables as in the steps, the summary, a picture."""
    from dagster_project.lib.labels.pictures import agreement_picture

    tables.write_csv(out / "cleaned_labels.csv", cleaning.cleaned)
    write_refusals(out / "refusals.csv", cleaning.drop.refusals, cleaning.drop.warnings)
    tables.write_csv(out / "reviewers.csv", agreement.reviewer_table(cleaning.agreement))
    files.write_json(out / "agreement.json", cleaning.agreement)
    files.write_json(out / "summary.json", dict(cleaning.summary))
    files.publish_bytes(out / "agreement.png", agreement_picture(cleaning.agreement))
