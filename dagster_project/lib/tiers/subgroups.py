"""Where it fails, by subgroup: what the thresholds do to the values of a metadata column.

Belongs: turning any column into groups, one row a group at given thresholds.
Does not: classes (``per_class``), drawing (``failure_pictures``), certifying a subgroup.
Concept: abstention can widen differences between groups (arXiv 2010.14134), so what is answered is
shown beside what is wrong. Columns are joined by ``image_uuid``. Nothing here corrects for the
number of groups looked at: of many, some look bad by chance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from dagster_project.lib import tables
from dagster_project.lib.errors import InputError, some
from dagster_project.lib.evidence.proportion import clustered_interval
from dagster_project.lib.tiers.assign import tier_of
from dagster_project.lib.tiers.per_class import TOO_FEW_PATIENTS, numbered, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from dagster_project.lib.tiers.thresholds import Thresholds

MAX_GROUPS = 30
"""A text column with more values is refused: it is an id or free text, not a grouping."""

MAX_LEVELS = 10
"""A column of numbers or times with more distinct values is cut into ``QUANTILES`` groups."""

QUANTILES = 4
UNKNOWN = "unknown"
IDS = ("image_uuid", "patient_id", "label", "image_path", "split")
RATES = ("coverage", "covered_top1", "confident_wrong", "refer_share")


def subgroup_table(
    scored: pl.DataFrame, groups: pl.DataFrame, thresholds: Thresholds, columns: Sequence[str]
) -> pl.DataFrame:
    """One row a group of each column: what is answered, right, confidently wrong, referred.

    Groups: a text or boolean column by its values; a column of numbers or times by its values if
    there are at most ``MAX_LEVELS``, else by ``QUANTILES`` groups of about equally many images,
    named by the values at their ends, equal values never split. Null, NaN, empty text, and images
    that ``groups`` does not have are the group ``unknown``.

    Parameters
    ----------
    scored : (N,) scored rows; their order does not matter.
    groups : ``image_uuid``, once each, and the columns; images that are not scored are not used.
    columns : which to use, in this order.

    Returns
    -------
    Sorted by column as given, then by value, ``unknown`` last: ``column``, ``group``, ``n``,
    ``n_patients``, and with ``..._low`` and ``..._high`` each: ``coverage`` (confident / n),
    ``covered_top1`` (right / confident), ``confident_wrong`` (confident and wrong / n),
    ``refer_share``; ``too_few``: fewer than ``TOO_FEW_PATIENTS`` patients. A rate of fewer than
    ``MIN_SHOWN_PATIENTS`` patients is null, its group still listed. The estimand is images;
    intervals are ``proportion.clustered_interval``, 95 %, approximate.

    Raises
    ------
    InputError
        An unknown column, an image twice, a text column of more than ``MAX_GROUPS`` values, or a
        column of lists or structs.
    """
    tables.require_columns("groups", groups.columns, ["image_uuid", *columns])
    twice = tables.duplicates(groups, "image_uuid")
    if twice:
        raise InputError(f"groups, column image_uuid: {some(twice)} on more than one row; keep one")
    wanted = groups.select("image_uuid", *dict.fromkeys(c for c in columns if c != "image_uuid"))
    joined = scored.select("image_uuid").join(
        wanted.with_columns(image_uuid=pl.col("image_uuid").cast(pl.String)),
        on="image_uuid",
        how="left",
        maintain_order="left",
    )
    rows = numbered(scored)
    tier = tier_of(scored, thresholds).to_numpy()
    parts = [
        _of_column(name, *_groups_of(joined[name]), tier, rows.top1, rows.patient)
        for name in columns
    ]
    return pl.concat(parts) if parts else _of_column("", [], np.zeros(0, int), *_nobody())


def group_names(scored: pl.DataFrame, groups: pl.DataFrame, column: str) -> pl.Series:
    """(N,) the group of each scored row, for testing a claim in each; order of ``scored``.

    Raises
    ------
    InputError
        As :func:`subgroup_table`; and where the column would be cut into quantile groups: what is
        certified must be fixed before the rows are seen.
    """
    tables.require_columns("groups", groups.columns, ["image_uuid", column])
    joined = scored.select("image_uuid").join(
        groups.select(pl.col("image_uuid").cast(pl.String), column),
        on="image_uuid", how="left", maintain_order="left",
    )  # fmt: skip
    values = _as_numbers(joined[column])
    if (values.dtype.is_numeric() or values.dtype.is_temporal()) and values.n_unique() > MAX_LEVELS:
        raise InputError(
            f"certify.subgroups: column {column} has {values.n_unique()} different numbers; "
            "put them into groups first, which must be fixed before the labels are seen"
        )
    names, codes = _groups_of(values)
    return pl.Series("group", [names[code] for code in codes.tolist()], dtype=pl.String)


def groupable(groups: pl.DataFrame) -> list[str]:
    """Columns that :func:`subgroup_table` accepts, in order; ids, labels and paths left out.

    A column with a single value is left out too: it has no groups to compare.
    """
    found = []
    for name in groups.columns:
        if name in IDS:
            continue
        try:
            names, _ = _groups_of(groups[name])
        except InputError:
            continue
        if len(names) > 1:
            found.append(name)
    return found


def _of_column(
    column: str,
    names: list[str],
    group: npt.NDArray[np.int64],
    tier: npt.NDArray[np.str_],
    top1: npt.NDArray[np.bool_],
    patient: npt.NDArray[np.int64],
) -> pl.DataFrame:
    sure = tier == "confident"
    events = {
        "coverage": (sure, slice(None)),
        "covered_top1": (top1, sure),
        "confident_wrong": (sure & ~top1, slice(None)),
        "refer_share": (tier == "refer", slice(None)),
    }
    found = {
        name: clustered_interval(
            events[name][0][among], patient[among], group[among], n_groups=len(names)
        )
        for name, (_, among) in events.items()
    }
    whole = found["coverage"]
    return pl.DataFrame(
        {
            "column": pl.Series([column] * len(names), dtype=pl.String),
            "group": pl.Series(names, dtype=pl.String),
            "n": whole.n,
            "n_patients": whole.n_patients,
            **{k: v for name in RATES for k, v in shown(name, found[name]).items()},
            "too_few": whole.n_patients < TOO_FEW_PATIENTS,
        }
    )


def _nobody() -> tuple[npt.NDArray[np.str_], npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    return np.zeros(0, dtype=np.str_), np.zeros(0, dtype=np.bool_), np.zeros(0, dtype=np.int64)


def _groups_of(values: pl.Series) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Names of the groups in order, and the group of each row; ``unknown`` only if it occurs."""
    values = _as_numbers(values)
    dtype = values.dtype
    if dtype.is_float() or dtype.is_decimal():
        values = values.cast(pl.Float64).fill_nan(None)
    if (values.dtype.is_numeric() or dtype.is_temporal()) and values.n_unique() > MAX_LEVELS:
        text, order = _quantiles(values)
    elif values.dtype.is_numeric() or dtype.is_temporal() or dtype == pl.Boolean:
        distinct = values.drop_nulls().unique().sort()
        order = [_word(value) for value in distinct]
        text = values.replace_strict(distinct, order, default=None, return_dtype=pl.String)
    elif dtype == pl.Null or dtype in (pl.String, pl.Categorical, pl.Enum):
        text = values.cast(pl.String).str.strip_chars()
        text = pl.select(pl.when(~text.is_in(["", UNKNOWN])).then(text)).to_series()
        order = sorted(text.drop_nulls().unique().to_list())
        if len(order) > MAX_GROUPS:
            raise InputError(
                f"groups, column {values.name}: {len(order)} different values, at most {MAX_GROUPS}"
                " make groups; leave the column out, or put its values together first"
            )
    else:
        raise InputError(
            f"groups, column {values.name}: type {dtype} has no groups, allowed: text, boolean, "
            "numbers, dates; leave the column out"
        )
    order = list(dict.fromkeys(order))
    if text.null_count():
        order.append(UNKNOWN)
    place = {name: i for i, name in enumerate(order)}
    codes = text.fill_null(UNKNOWN).replace_strict(place, return_dtype=pl.Int64)
    return order, codes.to_numpy()


def _as_numbers(values: pl.Series) -> pl.Series:
    """Text that is numbers throughout, too many for groups, as numbers (CSV has only text)."""
    if values.dtype != pl.String or values.n_unique() <= MAX_GROUPS:
        return values
    text = values.str.strip_chars()
    text = pl.select(pl.when(~text.is_in(["", UNKNOWN])).then(text)).to_series().alias(values.name)
    numbers = text.cast(pl.Float64, strict=False)
    return numbers if numbers.null_count() == text.null_count() else values


def _quantiles(values: pl.Series) -> tuple[pl.Series, list[str]]:
    """Text of each row's group of about equally many values, and the groups in order."""
    known = values.drop_nulls()
    counts = known.value_counts().sort(values.name)
    size = counts["count"].cast(pl.Int64).to_numpy()
    # an equal block goes where its middle would; whole numbers, so nothing rounds
    group = (2 * (np.cumsum(size) - size) + size) * QUANTILES // (2 * known.len())
    names = []
    distinct = counts[values.name]
    for number in np.unique(group):
        inside = distinct.filter(pl.Series(group == number))
        names += [_range(_word(inside[0]), _word(inside[-1]), group, number)] * inside.len()
    text = values.replace_strict(distinct, names, default=None, return_dtype=pl.String)
    return text, list(dict.fromkeys(names))


def _range(low: str, high: str, group: npt.NDArray[np.int64], number: int) -> str:
    # open at both ends: the smallest and the largest value are some person's
    if number == group[0]:
        return f"up to {high}"
    if number == group[-1]:
        return f"from {low}"
    return low if low == high else f"{low} to {high}"


def _word(value: object) -> str:
    """A value as a person reads it, the same on every machine: ``true``, ``2``, ``2.5``."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)
