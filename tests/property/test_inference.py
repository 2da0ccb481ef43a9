"""Properties of the questionnaire's encoding and of the resize."""

from __future__ import annotations

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_project.lib.inference import preprocess as pre
from dagster_project.lib.inference import questionnaire as q

SCHEMA = q.parse_schema(
    {
        "fields": [
            {"name": "age", "type": "numeric", "range": [-5, 120]},
            {"name": "cough", "type": "boolean"},
            {"name": "side", "type": "categorical", "values": ["left", "right", "both"]},
        ]
    }
)
UNKNOWN = st.sampled_from([None, "", "unknown", "UNK"])
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "age": UNKNOWN | st.floats(-5, 120).map(str),
            "cough": UNKNOWN | st.sampled_from(["true", "No", "1", "0"]),
            "side": UNKNOWN | st.sampled_from(["left", "right", "both"]),
        }
    ),
    min_size=1,
    max_size=8,
)


def frame(rows: list[dict[str, str | None]]) -> pl.DataFrame:
    schema = dict.fromkeys(SCHEMA.names, pl.String)
    return pl.DataFrame(rows, schema=schema).with_row_index("image_uuid")


@settings(derandomize=True, deadline=None)
@given(rows=ROWS)
def test_each_field_has_exactly_one_slot_set_and_a_number_is_a_share_of_its_range(
    rows: list[dict[str, str | None]],
) -> None:
    got = q.encode(SCHEMA, frame(rows))
    assert got.shape == (len(rows), 2 + 3 + 4)
    assert ((got >= 0) & (got <= 1)).all()
    assert (got[:, 2:5].sum(axis=1) == 1).all()
    assert (got[:, 5:9].sum(axis=1) == 1).all()
    for row, answers in zip(got, rows, strict=True):
        text = (answers["age"] or "").lower()
        if text in ("", "unknown", "unk"):
            assert row[:2].tolist() == [0, 1]
        else:
            assert abs(row[0] * 125 - 5 - float(text)) < 1e-4
            assert row[1] == 0


@settings(derandomize=True, deadline=None)
@given(rows=ROWS, seed=st.integers(0, 99))
def test_rows_are_encoded_independently_of_their_neighbours(
    rows: list[dict[str, str | None]], seed: int
) -> None:
    order = np.random.default_rng(seed).permutation(len(rows))
    whole = q.encode(SCHEMA, frame(rows))
    assert np.array_equal(q.encode(SCHEMA, frame([rows[i] for i in order])), whole[order])
    alone = [q.encode(SCHEMA, frame([row]))[0] for row in rows]
    assert np.array_equal(np.stack(alone), whole)


@settings(derandomize=True, deadline=None)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    shade=st.integers(0, 255),
    resample=st.sampled_from(["bilinear", "bicubic"]),
    antialias=st.booleans(),
)
def test_a_plain_surface_stays_plain_at_any_size(
    height: int, width: int, shade: int, resample: str, antialias: bool
) -> None:
    recipe = {"size": 16, "resize": "squash", "resample": resample, "antialias": antialias}
    recipe |= {"mean": [0, 0, 0], "std": [1, 1, 1]}
    image = np.full((height, width, 3), shade, dtype=np.uint8)
    got = pre.resize(image, pre.parse_preprocess({"preprocess": recipe}))
    assert (got == shade).all()
