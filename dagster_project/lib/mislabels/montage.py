"""Montage of the worst candidates: photograph, given -> predicted, quality.

Belongs: the caption of a candidate, the title that says whether the model saw these rows.
Does not: choosing candidates, laying out tiles (``lib.tiles``).
Concept: worst first, row by row.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dagster_project.lib import pictures, tiles
from dagster_project.lib.mislabels.candidates import IN_SAMPLE_WORD

if TYPE_CHECKING:
    import polars as pl

LIMIT = 60
COLUMNS = 10


def montage(
    issues: pl.DataFrame, dataset_dir: Path, *, in_sample: bool | None, limit: int = LIMIT
) -> bytes:
    """PNG of the first ``limit`` candidates with captions; same inputs, same bytes.

    Parameters
    ----------
    issues : ``Candidates.issues``; a row without ``image_path`` gets a grey tile.
    dataset_dir : folder that ``image_path`` is relative to.
    in_sample : as in the summary, for the title.
    limit : tiles at most, ten in a row.
    """
    shown = issues.head(limit)
    title = (
        f"{shown.height} of {issues.height} candidates, worst first; {IN_SAMPLE_WORD[in_sample]}. "
        "Given, \N{RIGHTWARDS ARROW} predicted, row of label_issues.csv and quality"
    )
    worst = [
        tiles.Tile([row["image_path"]], _caption(number, row))
        for number, row in enumerate(shown.iter_rows(named=True), start=1)
    ]
    return tiles.sheet(worst, dataset_dir, title=title, columns=COLUMNS)


def thumbnail(
    issues: pl.DataFrame, dataset_dir: Path, *, max_bytes: int = tiles.THUMBNAIL_BYTES
) -> bytes:
    """PNG of at most ``max_bytes`` with the worst candidates, no captions, for UI metadata."""
    return tiles.thumbnail(issues["image_path"].to_list(), dataset_dir, max_bytes=max_bytes)


def _caption(number: int, row: dict[str, object]) -> list[tuple[str, str]]:
    """Lines below a photograph, each with its colour; a long class name takes two."""
    given = tiles.wrapped(str(row["given_label"]))
    predicted = tiles.wrapped(f"\N{RIGHTWARDS ARROW} {row['predicted_label']}")
    return [
        *((line, pictures.INK) for line in given),
        *((line, pictures.WRONG) for line in predicted),
        (f"{number}: quality {row['quality']:.3f}", tiles.QUIET),
    ]
