"""A taxonomy: which family and group each class belongs to, finest rank first.

Belongs: the table ``class,family,group`` (any number of ranks), its checks, its hash, node numbers,
where the shipped examples are.
Does not: adding up probabilities (``place``), trees of other people (``imports``).
Concept: a forest of equal depth over the classes. K = classes, R = ranks with the class as rank 0,
V = nodes of all ranks; nodes are numbered rank by rank, classes first and in output order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from dagster_project.lib import tables
from dagster_project.lib.errors import InputError, some, unknown_class
from dagster_project.lib.files import digest

if TYPE_CHECKING:
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]

CLASS = "class"

CODE, VALIDATED = "icd10", "clinically_validated"
"""Columns that are never ranks unless asked for: a code for each class; yes or no."""

EXAMPLES = {
    name: Path(__file__).parent / "taxonomies" / f"{name}.csv"
    for name in ("by_aetiology", "by_morphology")
}
"""Tables over the demo's 25 classes. None is clinically validated, and each says so."""


@dataclass(frozen=True)
class Taxonomy:
    """Classes and their ancestors.

    Attributes
    ----------
    ranks : (R,) names, finest first; the first is ``class``.
    lineages : (K, R) names, one lineage a class, in output order of the classes.
    validated : what the table says of itself in ``clinically_validated``: yes in every row, or no
        in one of them; None: nothing. Not part of the hash, because it changes no row.
    """

    ranks: tuple[str, ...]
    lineages: tuple[tuple[str, ...], ...]
    validated: bool | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """(K,) class names, in output order."""
        return tuple(lineage[0] for lineage in self.lineages)

    @cached_property
    def nodes(self) -> tuple[str, ...]:
        """(V,) names of all nodes: classes first, then each rank's in order of first appearance."""
        ordered = (dict.fromkeys(lineage[r] for lineage in self.lineages) for r in self._ranks)
        return tuple(name for names in ordered for name in names)

    @cached_property
    def rank_of(self) -> Ints:
        """(V,) int64 the rank of each node."""
        sizes = [len({lineage[r] for lineage in self.lineages}) for r in self._ranks]
        return np.repeat(np.arange(len(self.ranks)), sizes)

    @cached_property
    def ancestors(self) -> Ints:
        """(K, R) int64 node number of each class's ancestor at each rank; column 0 is 0..K-1."""
        place = {name: number for number, name in enumerate(self.nodes)}
        return np.array([[place[name] for name in lineage] for lineage in self.lineages])

    @property
    def sha256(self) -> str:
        """Names the taxonomy with its order of classes; equal tables, equal hash."""
        return digest({"ranks": list(self.ranks), "lineages": [list(x) for x in self.lineages]})

    @property
    def _ranks(self) -> range:
        return range(len(self.ranks))


def read_taxonomy(path: Path, classes: Sequence[str], *, ranks: Sequence[str] = ()) -> Taxonomy:
    """Read ``class,family,group[,…]``: one row a class, finest rank first.

    Parameters
    ----------
    path : CSV or parquet with a column ``class``; its other columns are ranks, finest first, but
        for ``icd10`` and ``clinically_validated``.
    classes : (K,) of the model, in output order; the table has each exactly once, in any order.
    ranks : the columns that are ranks, where not all are.

    Raises
    ------
    InputError
        No rank; a class missing, unknown or twice; a blank; a node with two parents; one name at
        two ranks. Names file, row, column and the mend.
    """
    frame = tables.read_table(path, [CLASS], row_numbers=True)
    columns = list(ranks) or [
        c for c in frame.columns if c not in (CLASS, tables.ROW, CODE, VALIDATED)
    ]
    if not columns:
        raise InputError(
            f"{path.name}: only column class; add at least one rank, as in class,family"
        )
    tables.require_columns(path.name, frame.columns, columns)
    rows = frame.select(
        tables.ROW, *(pl.col(c).cast(pl.String).str.strip_chars() for c in (CLASS, *columns))
    )
    _check(path.name, rows, list(classes), columns)
    lineage = {row[1]: row[1:] for row in rows.iter_rows()}
    return Taxonomy(
        (CLASS, *columns), tuple(lineage[name] for name in classes), _validated(path.name, frame)
    )


def _validated(name: str, frame: pl.DataFrame) -> bool | None:
    if VALIDATED not in frame.columns:
        return None
    for row, said in frame.select(tables.ROW, VALIDATED).iter_rows():
        if said not in ("yes", "no"):
            raise InputError(
                f'{name} row {row}, column {VALIDATED}: "{said or ""}" is neither yes nor no'
            )
    return bool((frame[VALIDATED] == "yes").all())


def _check(name: str, rows: pl.DataFrame, classes: Sequence[str], ranks: Sequence[str]) -> None:
    for column in (CLASS, *ranks):
        blank = rows.filter(pl.col(column).is_null() | (pl.col(column) == ""))
        if blank.height:
            raise InputError(
                f"{name} row {blank[tables.ROW][0]}, column {column}: empty; name the node, or "
                "repeat it under a name of its own (two ranks never share a name)"
            )
    for row, found in rows.select(tables.ROW, CLASS).iter_rows():
        if found not in classes:
            raise InputError(f"{name} row {row}, column class: {unknown_class(found, classes)}")
    twice = rows.filter(~pl.col(CLASS).is_first_distinct())
    if twice.height:
        raise InputError(
            f'{name} row {twice[tables.ROW][0]}, column class: "{twice[CLASS][0]}" a second time; '
            "keep one row a class"
        )
    missing = [x for x in classes if x not in set(rows[CLASS])]
    if missing:
        what = "1 class has" if len(missing) == 1 else f"{len(missing)} classes have"
        raise InputError(f"{name}: {what} no row: {some(missing)}")
    _check_nodes(name, rows, (CLASS, *ranks))


def _check_nodes(name: str, rows: pl.DataFrame, ranks: Sequence[str]) -> None:
    where: dict[str, str] = {}
    for rank in ranks:
        for node in rows[rank].unique(maintain_order=True):
            if node in where:
                raise InputError(
                    f'{name}, column {rank}: "{node}" is also a {where[node]}; names are unique '
                    "across ranks"
                )
            where[node] = rank
    for finer, coarser in pairwise(ranks):
        parents = rows.group_by(finer, maintain_order=True).agg(
            pl.col(coarser).unique(maintain_order=True)
        )
        for node, found in parents.iter_rows():
            if len(found) > 1:
                raise InputError(
                    f'{name}, column {coarser}: {finer} "{node}" has {len(found)} parents: '
                    f"{some(found)}; keep one"
                )
