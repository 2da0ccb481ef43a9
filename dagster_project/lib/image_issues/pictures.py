"""Pictures of image issues: sheets of photographs for pairs and single images, dots for clusters.

Belongs: what each kind's picture shows of its table.
Does not: laying out tiles (``lib.tiles``), counting.
Concept: worst first, and the title says how many there are besides those shown, or that none is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from dagster_project.lib import pictures, tiles
from dagster_project.lib.image_issues.clusters import Clusters

MOST_PAIRS = 20
MOST_SINGLES = 30
MOST_CLUSTERS = 25
_COLUMNS = {1: 6, 2: 4}


def pair_sheet(
    pairs: pl.DataFrame,
    paths: pl.DataFrame,
    dataset_dir: Path,
    *,
    what: str,
    unit: str = "pairs",
) -> bytes:
    """PNG of the first pairs side by side: relation and distance, patient and split, labels.

    Parameters
    ----------
    pairs : ``image_uuid, other_uuid, relation, distance, same_patient``; ``across_splits``, and the
        two labels, are shown where they are there. No rows: the title alone, "none found".
    paths : ``image_uuid, image_path``.
    what : the kind, for the title.
    unit : what a row is, for the title.
    """
    shown = with_paths(pairs.head(MOST_PAIRS), paths)
    drawn = [
        tiles.Tile([row["image_path"], row["other_path"]], _pair_lines(row))
        for row in shown.iter_rows(named=True)
    ]
    title = _title(what, shown.height, pairs.height, f" {unit}, surest first")
    return tiles.sheet(drawn, dataset_dir, title=title, columns=_COLUMNS[2])


def _title(what: str, shown: int, n: int, order: str) -> str:
    return f"{what}: {shown} of {n}{order}" if n else f"{what}: none found"


def _pair_lines(row: dict[str, object]) -> list[tuple[str, str]]:
    patients = {True: "one patient", False: "two patients", None: "patient unknown"}
    splits = {True: "ACROSS SPLITS", False: "one split", None: "split unknown"}
    same, across = row["same_patient"], row.get("across_splits", True)
    where = patients[same if isinstance(same, bool) else None]
    side = splits[across if isinstance(across, bool) else None]
    lines = [
        (f"{row['relation']}, distance {row['distance']:.3f}", pictures.INK),
        (f"{where}, {side}", pictures.WRONG if across else tiles.QUIET),
    ]
    if "other_label" in row:
        lines.append((f"{row['label']}  /  {row['other_label']}", pictures.WRONG))
    return lines


def single_sheet(
    singles: pl.DataFrame, paths: pl.DataFrame, dataset_dir: Path, *, what: str
) -> bytes:
    """PNG of the first single images, with their reason, if they have one, and score."""
    shown = with_paths(singles.head(MOST_SINGLES), paths)
    drawn = [
        tiles.Tile(
            [row["image_path"]],
            [
                (str(row.get("reason", "outlier")), pictures.WRONG),
                (f"score {row['score']:.3f}", tiles.QUIET),
            ],
        )
        for row in shown.iter_rows(named=True)
    ]
    title = _title(what, shown.height, singles.height, ", worst first")
    return tiles.sheet(drawn, dataset_dir, title=title, columns=_COLUMNS[1])


def with_paths(table: pl.DataFrame, paths: pl.DataFrame) -> pl.DataFrame:
    """``table`` with ``image_path``, and ``other_path`` where it has ``other_uuid``."""
    known = paths.select("image_uuid", "image_path")
    found = table.join(known, on="image_uuid", how="left", maintain_order="left")
    if "other_uuid" not in table.columns:
        return found
    other = known.select(other_uuid="image_uuid", other_path="image_path")
    return found.join(other, on="other_uuid", how="left", maintain_order="left")


def cluster_picture(found: Clusters) -> bytes:
    """PNG of the clusters: the pair's share in the level against elsewhere, one row each."""
    n, drawn = found.table.height, found.table.head(MOST_CLUSTERS)
    tested = f"({found.tested:,} pairs in levels tested, Holm)"
    title = _title("Systematic clusters", drawn.height, n, f" {tested}")
    figure = pictures.new_figure(9.0, 1.4 + 0.3 * drawn.height if n else 0.4)
    figure.suptitle(title if n else f"{title} {tested}", x=0.01, ha="left", fontsize=10)
    if n:
        _draw_clusters(figure.add_subplot(), drawn)
    return pictures.png(figure)


def _draw_clusters(axes: Any, drawn: pl.DataFrame) -> None:
    rows = range(drawn.height)
    axes.hlines(rows, drawn["rate_elsewhere"], drawn["rate"], color="#cccccc", lw=2)
    axes.plot(drawn["rate_elsewhere"], rows, "o", mfc="white", color=pictures.REFER, ms=6)
    axes.plot(drawn["rate"], rows, "D", color=pictures.WRONG, ms=6)
    for row, (n, of) in zip(rows, drawn.select("n", "n_level").rows(), strict=True):
        place = (1.02, row)
        axes.annotate(
            f"{n} of {of}", place, xycoords=("axes fraction", "data"), va="center", fontsize=8
        )
    names = [
        f"{given} \N{RIGHTWARDS ARROW} {said}\n{column} = {level}"
        for given, said, column, level in drawn.select(drawn.columns[:4]).rows()
    ]
    axes.set_yticks(rows, names, fontsize=8)
    axes.set_ylim(drawn.height - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.set_xlabel(
        "share of the given class with this prediction: \N{BLACK DIAMOND} in the level, "
        "\N{WHITE CIRCLE} elsewhere"
    )
