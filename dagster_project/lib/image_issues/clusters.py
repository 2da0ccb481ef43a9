"""Systematic clusters: one class predicted as one other far more often in one place than elsewhere.

Belongs: counting given -> predicted pairs by the values of metadata columns, and the test.
Does not: single rows (``mislabels``); saying whether labels or model are wrong: a clinic that calls
a thing by another name and a body part that the model knows badly look the same here.
Concept: Fisher's exact test, one-sided, of each pair in each level against all other levels, over
**patients**: each enters with one image a class and column, the first by id, because images of one
patient are predicted alike (three images each: 17.5 % false alarms where 5 % were asked for). Holm
over everything that was tested. What is tested is decided by row and column totals alone, on which
the test is conditional (Tarone, Biometrics 46, 1990, 515-522), and never by the cell it looks at.
N = judged rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from dagster_project.lib.probability_table import ProbabilityTable

ALPHA = 0.05
"""Chance that anything at all is in the table if no pair is commoner anywhere."""
FEWEST = 5
"""Patients in a level, elsewhere, and with the pair: under any of these nothing is tested."""
MOST_LEVELS = 30
"""A column with more values is an id, free text or a measurement, not a grouping."""
IDS = ("image_uuid", "image_path", "patient_id", "label", "split")
SCHEMA = pl.Schema(
    {
        "given": pl.String,
        "predicted": pl.String,
        "column": pl.String,
        "level": pl.String,
        "n": pl.Int64,
        "n_level": pl.Int64,
        "rate": pl.Float64,
        "rate_elsewhere": pl.Float64,
        "patients": pl.Int64,
        "p_holm": pl.Float64,
    }
)


@dataclass(frozen=True)
class Clusters:
    """What was found among what was looked at.

    Attributes
    ----------
    table : ``given, predicted, column, level``; ``n`` rows of the level with the pair, of
        ``n_level`` with the given class; ``rate`` = n / n_level; ``rate_elsewhere``, the same over
        the other levels (null if nothing is there); ``patients`` of the level with the given class;
        ``p_holm`` <= alpha. Smallest p first, then by names.
    tested : pairs x levels that were tested.
    columns : the columns that were used.
    """

    table: pl.DataFrame
    tested: int
    columns: tuple[str, ...]


def systematic_clusters(
    judged: pl.DataFrame,
    metadata: pl.DataFrame,
    *,
    columns: Sequence[str] | None = None,
    alpha: float = ALPHA,
) -> Clusters:
    """Pairs given -> predicted that are over-represented in a level of a metadata column.

    Parameters
    ----------
    judged : (N,) ``image_uuid, patient_id, given_label, predicted_label``; without a patient an
        image is a patient of its own.
    metadata : ``image_uuid`` and columns; null and empty values are unknown and not tested.
    columns : which to use; None: all but ids with 2 to :data:`MOST_LEVELS` values.
    alpha : family-wise level.
    """
    used = usable_columns(metadata, columns)
    unknown = pl.col("patient_id").is_null()
    patient = pl.when(unknown).then("image_uuid").otherwise(pl.col("patient_id").cast(pl.String))
    rows = judged.select(
        "image_uuid", patient=patient, given="given_label", predicted="predicted_label"
    ).join(metadata.select("image_uuid", *used), on="image_uuid", how="inner")
    tests = pl.concat([pl.DataFrame(schema=_TESTS), *(_tests(rows, name) for name in used)])
    p = _tail(tests)
    found = tests.with_columns(p_holm=pl.Series(holm(p))).filter(pl.col("p_holm") <= alpha)
    keys = ["given", "predicted", "column", "level"]
    table = found.select(list(SCHEMA)).cast(SCHEMA).sort("p_holm", *keys)
    return Clusters(table, tests.height, used)


def predicted_rows(table: ProbabilityTable, labels: pl.DataFrame) -> pl.DataFrame:
    """``image_uuid, patient_id, given_label, predicted_label`` of the rows that have both.

    Parameters
    ----------
    table : (N, K) probabilities; of equal ones the first class is predicted.
    labels : ``image_uuid, label``.
    """
    scored = table.scored()
    names = np.array(scored.classes, dtype=object)
    predicted = pl.Series(names[scored.probs.argmax(axis=1)], dtype=pl.String)
    frame = scored.frame
    patient = pl.col("patient_id") if "patient_id" in frame.columns else pl.lit(None, pl.String)
    rows = frame.select("image_uuid", patient_id=patient).with_columns(predicted_label=predicted)
    known = labels.filter(pl.col("label").is_not_null())
    return rows.join(
        known.select("image_uuid", given_label="label"), on="image_uuid", how="inner"
    ).sort("image_uuid")


def usable_columns(metadata: pl.DataFrame, columns: Sequence[str] | None = None) -> tuple[str, ...]:
    """Columns whose values are levels; of those given, the ones that are there."""
    wanted = metadata.columns if columns is None else [c for c in columns if c in metadata.columns]
    return tuple(
        name
        for name in wanted
        if name not in IDS and 2 <= _levels(metadata, name).n_unique() <= MOST_LEVELS
    )


def _levels(metadata: pl.DataFrame, column: str) -> pl.Series:
    text = metadata[column].cast(pl.String).str.strip_chars()
    return text.filter(text.is_not_null() & (text != "")).rename("level")


_TESTS = pl.Schema(
    {
        **{name: kind for name, kind in SCHEMA.items() if name != "p_holm"},
        **dict.fromkeys(("k", "of", "pair"), pl.Int64()),
    }
)
"""A test and its table: ``k`` of ``patients`` in the level, ``pair`` of ``of`` patients in all."""


def _tests(rows: pl.DataFrame, column: str) -> pl.DataFrame:
    """Every test of one column."""
    level = pl.col(column).cast(pl.String).str.strip_chars()
    known = rows.select("image_uuid", "patient", "given", "predicted", level=level)
    known = known.filter(pl.col("level").is_not_null() & (pl.col("level") != ""))
    units = known.sort("image_uuid").unique(["given", "patient"], keep="first", maintain_order=True)
    people = _counts(units, ("patients", "of", "pair", "k"))
    images = _counts(known, ("n_level", "__all", "__pair", "n"))
    tested = people.filter(
        (pl.col("patients") >= FEWEST)
        & (pl.col("of") - pl.col("patients") >= FEWEST)
        & (pl.col("pair") >= FEWEST)
    )
    keys = ["given", "predicted", "level"]
    elsewhere = pl.col("__all") - pl.col("n_level")
    return (
        tested.join(images, on=keys)
        .with_columns(
            column=pl.lit(column),
            rate=pl.col("n") / pl.col("n_level"),
            rate_elsewhere=pl.when(elsewhere > 0).then(
                (pl.col("__pair") - pl.col("n")) / elsewhere
            ),
        )
        .select(list(_TESTS))
        .cast(_TESTS)
        .sort(keys)
    )


def _counts(rows: pl.DataFrame, names: tuple[str, str, str, str]) -> pl.DataFrame:
    """For each pair and level, rows: of given in the level, in all; of the pair in all, in it."""
    in_level, of_given, of_pair, both = names
    given, pair = ["given"], ["given", "predicted"]
    differ = rows.filter(pl.col("given") != pl.col("predicted"))
    return (
        rows.group_by("given", "level")
        .len(in_level)
        .join(rows.group_by(given).len(of_given), on=given)
        .join(differ.group_by(pair).len(of_pair), on=given)
        .join(differ.group_by(*pair, "level").len(both), on=[*pair, "level"], how="left")
        .with_columns(pl.col(both).fill_null(0))
        .with_columns(pl.col(in_level, of_given, of_pair, both).cast(pl.Int64))
    )


def _tail(tests: pl.DataFrame) -> npt.NDArray[np.float64]:
    """P(at least k of the pair's patients fall in the level), by the hypergeometric law."""
    from scipy.stats import hypergeom

    k, of, pair, level = (tests[c].to_numpy() for c in ("k", "of", "pair", "patients"))
    return np.asarray(hypergeom.sf(k - 1, of, pair, level), dtype=np.float64)


def holm(p: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(M,) Holm's step-down adjusted p-values, in the order given; ties adjust alike.

    Holm, Scandinavian Journal of Statistics 6, 1979, 65-70.

    >>> holm(np.array([0.01, 0.04, 0.03])).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p, kind="stable")
    steps = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted
