from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from dagster_project.lib.errors import InputError
from dagster_project.lib.inference import questionnaire as q


def frame(**columns: list[Any]) -> pl.DataFrame:
    n = len(next(iter(columns.values())))
    return pl.DataFrame({"image_uuid": [f"u{i}" for i in range(n)], **columns})


def test_hand_counted_rows(schema: dict[str, Any]) -> None:
    rows = frame(
        age=["30", None],
        cough=["YES", "0"],
        location_side=["right", "unknown"],
        widespread_face=["UNK", "True"],
    )
    got = q.encode(q.parse_schema(schema), rows)
    assert got.dtype == np.float32
    assert got.tolist() == [
        [0.25, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1],
        [0, 1, 0, 1, 0, 0, 0, 1, 1, 0, 0],
    ]


@pytest.mark.parametrize("text", [None, "", "unknown", "UNK", " Unknown "])
def test_every_spelling_of_unknown_is_the_unknown_slot(schema: dict[str, Any], text: Any) -> None:
    parsed = q.parse_schema(schema)
    got = q.encode(parsed, frame(**{name: [text] for name in parsed.names}))
    assert got.tolist() == [[0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1]]


@pytest.mark.parametrize(
    ("text", "slot"),
    [("true", 0), ("Yes", 0), ("1", 0), ("FALSE", 1), ("no", 1), ("0", 1)],
)
def test_booleans_in_any_case(text: str, slot: int) -> None:
    schema = q.parse_schema({"version": 1, "fields": [{"name": "b", "type": "boolean"}]})
    assert q.encode(schema, frame(b=[text]))[0].argmax() == slot


def test_null_fields_hide_answers_even_wrong_ones_of_no_other_field(schema: dict[str, Any]) -> None:
    parsed = q.parse_schema(schema)
    rows = frame(age=["30"], cough=["no"], location_side=["left"], widespread_face=["true"])
    hidden = q.encode(parsed, rows, null_fields=["location_side", "widespread_face"])
    by_hand = rows.with_columns(location_side=None, widespread_face=None)
    assert np.array_equal(hidden, q.encode(parsed, by_hand))
    assert not np.array_equal(hidden, q.encode(parsed, rows))


def test_production_null_fields_are_those_the_schema_has(schema: dict[str, Any]) -> None:
    parsed = q.parse_schema(schema)
    assert q.production_null_fields(parsed) == ("widespread_face", "location_side")


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        pytest.param("age", "121", 'column age: got "121", allowed 0 to 120', id="range"),
        pytest.param("age", "nan", 'got "nan"', id="nan is no number"),
        pytest.param("age", "old", 'got "old"', id="text for a number"),
        pytest.param("cough", "maybe", "allowed true or false", id="boolean"),
        pytest.param("location_side", "Left", "allowed 'left', 'right'", id="category"),
    ],
)
def test_a_value_that_is_not_allowed_names_image_column_and_allowed(
    schema: dict[str, Any], column: str, value: str, message: str
) -> None:
    parsed = q.parse_schema(schema)
    rows = frame(**{name: [None, None] for name in parsed.names}).with_columns(
        pl.Series(column, [None, value])
    )
    with pytest.raises(InputError, match=f'image "u1", {message}|image "u1", .*{message}'):
        q.encode(parsed, rows)


def test_several_faults_are_counted(schema: dict[str, Any]) -> None:
    rows = frame(
        age=["-1", "500"], cough=["?", ""], location_side=["", ""], widespread_face=[""] * 2
    )
    with pytest.raises(InputError, match="3 answers are not allowed"):
        q.encode(q.parse_schema(schema), rows)


def test_a_field_without_a_column_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="lacks: 'cough', 'location_side', 'widespread_face'"):
        q.encode(q.parse_schema(schema), frame(age=["3"]))


def test_a_null_field_that_the_schema_lacks_is_refused(schema: dict[str, Any]) -> None:
    parsed = q.parse_schema(schema)
    rows = frame(**{name: [None] for name in parsed.names})
    with pytest.raises(InputError, match="'fever' not in the model's schema"):
        q.encode(parsed, rows, null_fields=["fever"])


def test_listed_unknown_is_the_unknown_slot_and_not_another_value() -> None:
    raw = {"fields": [{"name": "c", "type": "categorical", "values": ["a", "unknown", "b"]}]}
    assert q.n_features(q.parse_schema(raw)) == 3


@pytest.mark.parametrize(
    ("field", "message"),
    [
        pytest.param({"type": "boolean"}, "with a name", id="no name"),
        pytest.param({"name": "x", "type": "free text"}, "type is 'free text'", id="type"),
        pytest.param({"name": "x", "type": "categorical"}, "list of texts", id="no values"),
        pytest.param(
            {"name": "x", "type": "categorical", "values": ["a", "a"]}, "distinct", id="repeated"
        ),
        pytest.param(
            {"name": "x", "type": "categorical", "values": ["unk"]}, "distinct", id="none"
        ),
        pytest.param({"name": "x", "type": "numeric"}, "range must be", id="no range"),
        pytest.param({"name": "x", "type": "numeric", "range": [2, 2]}, "empty", id="empty range"),
        pytest.param({"name": "x", "type": "numeric", "range": ["0", 1]}, "range must", id="text"),
    ],
)
def test_a_schema_that_cannot_be_encoded_is_refused(
    tmp_path: Path, field: dict[str, Any], message: str
) -> None:
    path = tmp_path / "feature_schema.json"
    path.write_text(json.dumps({"version": 1, "fields": [field]}))
    with pytest.raises(InputError, match=message):
        q.read_schema(path)


def test_a_field_listed_twice_or_no_field_is_refused() -> None:
    twice = [{"name": "x", "type": "boolean"}] * 2
    with pytest.raises(InputError, match="'x' appears twice"):
        q.parse_schema({"fields": twice})
    with pytest.raises(InputError, match="at least one field"):
        q.parse_schema({"fields": []})
