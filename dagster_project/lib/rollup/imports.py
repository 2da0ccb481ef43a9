"""Trees of other people: the ISIC diagnosis tree and ICD-10-CM, cut to a table of fixed ranks.

Belongs: reading the two files, following each class's leaf up to the root, names without doubles.
Does not: deciding which leaf a class is (a person does), checking the table (``taxonomy``).
Concept: levels are counted from the root, so that one level is equally coarse for every class. A
class whose path ends above a level keeps its last node there, under a name that says so.

``tree`` is one of

- ISIC: a column ``path`` of names joined by colons, coarsest first, one row a node;
- ICD-10-CM: columns ``code``, ``parent`` (empty at a root) and ``description``, one row a node.

``leaves`` is ``class,leaf``: for each class of the model the path or code that it is. A class may
be an inner node, and two classes may be one node. ::

    table = import_table(Path("icd10cm.csv"), Path("leaves.csv"), CLASSES, levels=[2, 1])
    tables.write_csv(Path("taxonomy.csv"), table)
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import polars as pl

from dagster_project.lib import tables
from dagster_project.lib.errors import InputError, some, unknown_class
from dagster_project.lib.rollup.taxonomy import CLASS

LEAF = "leaf"
SEPARATOR = ":"

Line = tuple[str, ...]
"""Names from the root to a node."""


def import_table(
    tree: Path, leaves: Path, classes: Sequence[str], *, levels: Sequence[int]
) -> pl.DataFrame:
    """A taxonomy table of the classes, cut from somebody's tree.

    A class's node at level l is the node of its path at level l, level 1 being the root's. Where
    the path ends earlier, its last node stands in as ``<name> (no level l)``, and holds the classes
    whose path ends there. A name that two nodes share, or that is a class's, becomes the path.

    Parameters
    ----------
    tree, leaves : CSV or parquet, as the module says.
    classes : (K,) of the model.
    levels : which levels become ranks, finest (largest) first.

    Returns
    -------
    ``class, level_<l>, …``, one row a class in the order of ``classes``; passes every check of
    ``taxonomy.read_taxonomy``.

    Raises
    ------
    InputError
        Levels that are not falling whole numbers >= 1; anything wrong in one of the files.
    """
    if not levels or any(x < 1 for x in levels) or sorted(set(levels), reverse=True) != [*levels]:
        raise InputError(
            f"levels {list(levels)}: give whole numbers from 1, finest (largest) first"
        )
    found = read_tree(tree)
    paths = _paths_of(leaves, found, classes, tree.name)
    cut = [[path[: min(level, len(path))] for level in levels] for path in paths]
    names = _names({node for row in cut for node in row}, classes)
    columns = {
        f"level_{level}": [
            names[row[i]] + ("" if len(row[i]) == level else f" (no level {level})") for row in cut
        ]
        for i, level in enumerate(levels)
    }
    return pl.DataFrame({CLASS: list(classes), **columns})


def read_tree(path: Path) -> dict[str, Line]:
    """Read either kind of tree; its columns say which.

    Returns
    -------
    Key of a node (ISIC: its path; ICD: its code) -> names from the root to it.

    Raises
    ------
    InputError
        Neither kind; an empty or repeated node; a parent that is not there; a circle of parents.
    """
    frame = tables.read_table(path, [], row_numbers=True)
    if "path" in frame.columns:
        return _isic(path.name, frame)
    if {"code", "parent"} <= set(frame.columns):
        return _icd10(path.name, frame)
    raise InputError(
        f"{path.name}: no column path (ISIC), nor code and parent (ICD-10-CM); it has "
        f"{some([c for c in frame.columns if c != tables.ROW], 12)}"
    )


def _isic(name: str, frame: pl.DataFrame) -> dict[str, Line]:
    found: dict[str, Line] = {}
    for row, text in frame.select(tables.ROW, "path").iter_rows():
        parts = tuple(part.strip() for part in (text or "").split(SEPARATOR))
        if "" in parts:
            raise InputError(f'{name} row {row}, column path: "{text or ""}" has an empty part')
        key = SEPARATOR.join(parts)
        if key in found:
            raise InputError(f'{name} row {row}, column path: "{key}" a second time; keep one')
        found[key] = parts
    return found


def _icd10(name: str, frame: pl.DataFrame) -> dict[str, Line]:
    tables.require_columns(name, frame.columns, ["description"])
    parent: dict[str, str | None] = {}
    label: dict[str, str] = {}
    rows: dict[str, int] = {}
    columns = [tables.ROW, "code", "parent", "description"]
    for row, code, above, description in frame.select(columns).iter_rows():
        if not code:
            raise InputError(f"{name} row {row}, column code: empty; every node has a code")
        if code in parent:
            raise InputError(f'{name} row {row}, column code: "{code}" a second time; keep one')
        # a block of one category has the category's own code, and is then its own parent
        parent[code], rows[code] = (None if above == code else above or None), row
        label[code] = _label(code, description or "")
    for code, above in parent.items():
        if above is not None and above not in parent:
            raise InputError(
                f'{name} row {rows[code]}, column parent: no code "{above}"; add its row, or leave '
                "the parent empty"
            )
    return {code: _climb(name, code, parent, label) for code in parent}


def _label(code: str, description: str) -> str:
    """A name that says its code once; codes are unique, so names are.

    >>> _label("L40", "Psoriasis"), _label("L40-L45", "Papulosquamous disorders (L40-L45)")
    ('L40 Psoriasis', 'Papulosquamous disorders (L40-L45)')
    """
    return description if description.endswith(f"({code})") else f"{code} {description}".strip()


def _climb(
    name: str, code: str, parent: Mapping[str, str | None], label: Mapping[str, str]
) -> Line:
    seen = [code]
    while (above := parent[seen[-1]]) is not None:
        if above in seen:
            raise InputError(f'{name}, column parent: "{above}" is above itself; mend the circle')
        seen.append(above)
    return tuple(label[node] for node in reversed(seen))


def _paths_of(
    leaves: Path, tree: Mapping[str, Line], classes: Sequence[str], tree_name: str
) -> list[Line]:
    """One path a class, in their order."""
    frame = tables.read_table(leaves, [CLASS, LEAF], row_numbers=True)
    found: dict[str, Line] = {}
    for row, name, leaf in frame.select(tables.ROW, CLASS, LEAF).iter_rows():
        if name not in classes:
            what = unknown_class(name or "", classes)
            raise InputError(f"{leaves.name} row {row}, column {CLASS}: {what}")
        if name in found:
            raise InputError(
                f'{leaves.name} row {row}, column {CLASS}: "{name}" a second time; keep one row'
            )
        if leaf not in tree:
            near = difflib.get_close_matches(leaf or "", tree, n=1, cutoff=0.0)
            raise InputError(
                f'{leaves.name} row {row}, column {LEAF}: "{leaf or ""}" is no node of {tree_name} '
                f'({len(tree)} nodes; nearest "{near[0]}"); name a node, or add it to the tree'
            )
        found[name] = tree[leaf]
    missing = [name for name in classes if name not in found]
    if missing:
        what = "1 class has" if len(missing) == 1 else f"{len(missing)} classes have"
        raise InputError(f"{leaves.name}: {what} no row: {some(missing)}")
    return [found[name] for name in classes]


def _names(nodes: Iterable[Line], classes: Sequence[str]) -> dict[Line, str]:
    """A name for each node that no other node and no class has."""
    nodes = sorted(nodes)
    shared = Counter(node[-1] for node in nodes)
    names = {
        node: node[-1]
        if shared[node[-1]] == 1 and node[-1] not in classes
        else SEPARATOR.join(node)
        for node in nodes
    }
    for node, name in names.items():
        if name in classes:
            raise InputError(
                f'"{name}" is a class and, at level {len(node)}, a root of the tree; leave level '
                f"{len(node)} out, or rename the root"
            )
    return names
