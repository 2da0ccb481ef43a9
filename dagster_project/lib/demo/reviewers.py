"""Three simulated dermatologists.

Belongs: what each of them would write about an image, given the truth.
Does not: choosing images to review, turning answers into labels (``labels``).
Concept: care differs between readers, mistakes run along look-alikes; an answer depends on reader
and image only, never on the packet the image came in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from dagster_project.lib.demo.classes import look_alikes
from dagster_project.lib.demo.seeds import stream
from dagster_project.lib.errors import InputError, some
from dagster_project.lib.labels.judgements import NOT_USABLE, UNSURE

COLUMNS = ("image_uuid", "reviewer", "label", "confidence", "comment")


@dataclass(frozen=True)
class Reviewer:
    """A reader.

    Attributes
    ----------
    right : share of usable images named correctly, of those that are named at all.
    unsure : share of usable images answered ``unsure``.
    """

    name: str
    right: float
    unsure: float


REVIEWERS = (
    Reviewer("reader_a", 0.96, 0.02),
    Reviewer("reader_b", 0.90, 0.04),
    Reviewer("reader_c", 0.80, 0.06),
)


def simulate_reviews(
    truth: pl.DataFrame,
    image_uuids: Sequence[str],
    classes: Sequence[str],
    *,
    seed: int,
    reviewers: Sequence[Reviewer] = REVIEWERS,
) -> dict[str, pl.DataFrame]:
    """What each reader answers about ``image_uuids``.

    Parameters
    ----------
    truth : ``image_uuid, true_label, is_garbage, is_unreadable`` (the world's truth table).
    image_uuids : the images asked about, in the order of the answers.
    classes : names that may be answered.
    seed : of the readers' slips; need not be the world's.

    Returns
    -------
    Reader's name -> ``COLUMNS``, all text, one row an image: label is a class, ``unsure`` or
    ``not_usable`` (text pages, broken files); confidence is a number in [0, 1], null beside
    ``not_usable``.

    Raises
    ------
    InputError
        An image that the truth does not know.
    """
    rows = {row["image_uuid"]: row for row in truth.iter_rows(named=True)}
    strange = [i for i in image_uuids if i not in rows]
    if strange:
        raise InputError(f"reviews: the truth does not know {some(strange)}; pass this world's ids")
    return {
        reader.name: pl.DataFrame(
            [_answer(reader, rows[i], classes, stream(seed, reader.name, i)) for i in image_uuids],
            schema=dict.fromkeys(COLUMNS, pl.String),
            orient="row",
        )
        for reader in reviewers
    }


def _answer(
    reader: Reviewer, row: dict[str, object], classes: Sequence[str], rng: np.random.Generator
) -> tuple[str, str, str, str | None, str | None]:
    image = str(row["image_uuid"])
    if row["is_unreadable"]:
        return image, reader.name, NOT_USABLE, None, "does not open"
    if row["is_garbage"]:
        return image, reader.name, NOT_USABLE, None, "text, not skin"
    truth = str(row["true_label"])
    if rng.random() < reader.unsure:
        return image, reader.name, UNSURE, "0.3", None
    if rng.random() < reader.right:
        return image, reader.name, truth, f"{rng.uniform(0.7, 1.0):.2f}", None
    near = [c for c in look_alikes(truth) if c in classes]
    pool = near if near and rng.random() < 0.85 else [c for c in classes if c != truth]
    label = pool[int(rng.integers(len(pool)))]
    return image, reader.name, label, f"{rng.uniform(0.4, 0.9):.2f}", None
