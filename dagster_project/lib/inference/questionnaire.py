"""The questionnaire: from answers in the dataset to the numbers the head sees.

Belongs: ``feature_schema.json``, checking answers against it, encoding them.
Does not: the network (``architectures``), which fields a view hides (``views``, ``dump``).
Concept: every field may be unknown, and unknown is a slot of its own, never a zero among values.
N = rows, F = encoded width.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl

from dagster_project.lib import files
from dagster_project.lib.errors import InputError, some
from dagster_project.lib.inference.preprocess import finite_number

if TYPE_CHECKING:
    import numpy.typing as npt

PRODUCTION_NULL_FIELDS = (
    "widespread_face",
    "widespread_palm_feet",
    "location_side",
    "location_coverage",
    "location_nail_coverage",
)
"""Fields that training data have and the app does not collect: unknown in production."""

FieldType = Literal["categorical", "boolean", "numeric"]
TYPES: tuple[FieldType, ...] = ("categorical", "boolean", "numeric")
UNKNOWN = frozenset({"", "unknown", "unk"})
"""Spellings of "not answered", compared in lower case; null is one too."""
_TRUE = frozenset({"true", "yes", "1"})
_FALSE = frozenset({"false", "no", "0"})


@dataclass(frozen=True)
class Field:
    """One question.

    Attributes
    ----------
    name : column of the dataset.
    type : ``categorical`` (one of ``values``), ``boolean``, or ``numeric`` (within ``range``).
    values : allowed answers of a categorical field, without the unknown ones.
    range : (lowest, highest) of a numeric field, both allowed.
    """

    name: str
    type: FieldType
    values: tuple[str, ...] = ()
    range: tuple[float, float] | None = None

    @property
    def width(self) -> int:
        """Number of encoded features: one a value, or the scaled number, plus the unknown slot."""
        return {"categorical": len(self.values) + 1, "boolean": 3, "numeric": 2}[self.type]

    @property
    def allowed(self) -> str:
        """The allowed answers in words."""
        if self.range is not None:
            return f"{self.range[0]:g} to {self.range[1]:g}"
        return some(self.values, 12) if self.type == "categorical" else "true or false"


@dataclass(frozen=True)
class FeatureSchema:
    """The questions in the order the head was trained on."""

    version: str
    fields: tuple[Field, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Column names in order."""
        return tuple(field.name for field in self.fields)


def read_schema(path: Path) -> FeatureSchema:
    """Read ``feature_schema.json``; every fault is an :class:`InputError` naming the field."""
    return parse_schema(files.read_json(path), path.name)


def parse_schema(raw: Mapping[str, Any], name: str = "feature_schema.json") -> FeatureSchema:
    """The schema in a parsed JSON object ``{"version", "fields": [...]}``.

    >>> schema = parse_schema({"version": 1, "fields": [{"name": "cough", "type": "boolean"}]})
    >>> schema.names, n_features(schema)
    (('cough',), 3)
    """
    listed = raw.get("fields")
    if not isinstance(listed, list) or not listed:
        raise InputError(f"{name}, fields: expected a list with at least one field")
    fields = tuple(_field(name, number, item) for number, item in enumerate(listed, start=1))
    names = [field.name for field in fields]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise InputError(f"{name}, fields: {some(twice)} appears twice; keep one")
    return FeatureSchema(str(raw.get("version", "")), fields)


def n_features(schema: FeatureSchema) -> int:
    """F, the width of :func:`encode`'s result."""
    return sum(field.width for field in schema.fields)


def encode(
    schema: FeatureSchema, rows: pl.DataFrame, *, null_fields: Collection[str] = ()
) -> npt.NDArray[np.float32]:
    """Answers as numbers: one-hot with an own slot for unknown; numbers scaled to [0, 1].

    A categorical field gives one slot for each value and one for unknown; a boolean field
    (true, false, unknown); a numeric field ((x - lo) / (hi - lo), is unknown), 0 where unknown.

    Parameters
    ----------
    schema : the model's fields.
    rows : ``image_uuid`` and a column for every field, text or castable to it; null, "",
        "unknown" and "UNK" in any case mean unknown. Booleans: true/false/yes/no/1/0 in any case.
    null_fields : fields to treat as unknown in all rows.

    Returns
    -------
    (N, F) float32.

    Raises
    ------
    InputError
        A field without a column, a null field that is not in the schema, or an answer that is
        not allowed (image id, column, got, allowed).
    """
    check_fields(schema, rows.columns, null_fields)
    out = np.zeros((rows.height, n_features(schema)), dtype=np.float32)
    faults: list[str] = []
    start = 0
    for field in schema.fields:
        answers = rows[field.name].cast(pl.String).to_list()
        if field.name in null_fields:
            answers = [None] * rows.height
        vectors = {answer: _vector(field, answer) for answer in set(answers)}
        for row, answer in enumerate(answers):
            vector = vectors[answer]
            if vector is None:
                faults.append(_fault(rows["image_uuid"][row], field, answer))
            else:
                out[row, start : start + field.width] = vector
        start += field.width
    if faults:
        more = f"; {len(faults)} answers are not allowed" if len(faults) > 1 else ""
        raise InputError(f"{faults[0]}{more}. Correct the dataset or leave the answer empty.")
    return out


def check_fields(
    schema: FeatureSchema, columns: Collection[str], null_fields: Collection[str]
) -> None:
    """Raise unless every field has a column and every null field is a field."""
    absent = [name for name in schema.names if name not in columns]
    if absent:
        raise InputError(
            f"manifest: the model's schema has {len(absent)} fields that the dataset lacks: "
            f"{some(absent, 6)}. Add the columns (empty means unknown)."
        )
    strange = [name for name in null_fields if name not in schema.names]
    if strange:
        raise InputError(
            f"null fields: {some(strange)} not in the model's schema; it has "
            f"{some(schema.names, 20)}"
        )


def production_null_fields(schema: FeatureSchema) -> tuple[str, ...]:
    """Those of :data:`PRODUCTION_NULL_FIELDS` that ``schema`` has."""
    return tuple(name for name in PRODUCTION_NULL_FIELDS if name in schema.names)


def _vector(field: Field, answer: str | None) -> list[float] | None:
    """The encoded answer, or None if it is not allowed."""
    text = (answer or "").strip()
    unknown = text.lower() in UNKNOWN
    if field.range is not None:
        number = 0.0 if unknown else _scaled(text, *field.range)
        return None if number is None else [number, float(unknown)]
    if field.type == "boolean":
        found = [text.lower() in _TRUE, text.lower() in _FALSE, unknown]
    else:
        found = [*(text == value for value in field.values), unknown]
    return [float(slot) for slot in found] if any(found) else None


def _scaled(text: str, low: float, high: float) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return (number - low) / (high - low) if low <= number <= high else None


def _fault(image: str, field: Field, answer: str | None) -> str:
    return f'image "{image}", column {field.name}: got "{answer}", allowed {field.allowed}'


def _field(name: str, number: int, item: object) -> Field:
    if not isinstance(item, dict) or not isinstance(item.get("name"), str) or not item["name"]:
        raise InputError(f"{name}, field {number}: expected an object with a name")
    where = f"{name}, field {item['name']}"
    kind = item.get("type")
    if kind not in TYPES:
        raise InputError(f"{where}: type is {kind!r}; allowed are {some(TYPES)}")
    if kind == "categorical":
        return Field(item["name"], kind, values=_values(where, item.get("values")))
    if kind == "numeric":
        return Field(item["name"], kind, range=_range(where, item.get("range")))
    return Field(item["name"], kind)


def _values(where: str, values: object) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        raise InputError(f"{where}: values must be a list of texts")
    kept = tuple(v.strip() for v in values if v.strip().lower() not in UNKNOWN)
    if not kept or len(set(kept)) != len(kept):
        raise InputError(f"{where}: values must be distinct, with at least one besides unknown")
    return kept


def _range(where: str, limits: object) -> tuple[float, float]:
    numbers = [float(x) for x in limits if finite_number(x)] if isinstance(limits, list) else []
    if not isinstance(limits, list) or len(limits) != 2 or len(numbers) != 2:
        raise InputError(f"{where}: range must be [lowest, highest]")
    if numbers[0] >= numbers[1]:
        raise InputError(f"{where}: range {limits} is empty; the first number must be lower")
    return numbers[0], numbers[1]
