"""Scores from files nobody vouches for: what is read, and what is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from dagster_project.lib.errors import InputError
from dagster_project.lib.evidence.division import in_first
from dagster_project.lib.evidence.rows import hash_numbers
from dagster_project.lib.files import sha256_file
from dagster_project.lib.gate.config import GateConfig, parse_config
from dagster_project.lib.gate.scores import make_scores, read_scores
from dagster_project.lib.gate.split import divided, mixed
from dagster_project.lib.tables import read_arrow, with_metadata, write_arrow

GAUGE = {"head": "q", "magnitude": "abs", "normalisation": "none"}


def config(**keys: Any) -> GateConfig:
    return parse_config({"gauge": GAUGE, **keys})


def columns(**others: Any) -> dict[str, Any]:
    return {
        "score": pa.array([0.5, None, 0.1, float("nan"), float("inf"), 0.4]),
        "in_range": pa.array([True, True, False, False, True, False]),
        **others,
    }


def written(folder: Path, found: dict[str, Any], **metadata: dict[str, str]) -> Path:
    path = folder / "scores.parquet"
    text = {key: json.dumps(value) for key, value in metadata.items()}
    write_arrow(path, with_metadata(pa.table(found), text))
    return path


def test_what_is_not_finite_is_a_fault_and_is_counted(tmp_path: Path) -> None:
    path = written(tmp_path, columns(fault=[False] * 5 + [True]))
    found = read_scores(path, config())
    assert found.fault.tolist() == [False, True, False, True, True, True]
    told = {key: found.source[key] for key in ("rows", "nan", "infinite", "flagged_faults")}
    assert told == {"rows": 6, "nan": 2, "infinite": 1, "flagged_faults": 1}
    assert found.source["sha256"] == sha256_file(path)
    assert found.source["columns"] == ["fault", "in_range", "score"]


@pytest.mark.parametrize("dtype", [pa.float32(), pa.float64()], ids=str)
def test_both_float_types_are_kept_as_they_are(tmp_path: Path, dtype: pa.DataType) -> None:
    found = read_scores(written(tmp_path, columns(score=columns()["score"].cast(dtype))), config())
    assert str(found.score.dtype) == found.source["dtype"]
    assert found.score.dtype == dtype.to_pandas_dtype()


def test_low_scores_that_are_accepted_are_turned_round(tmp_path: Path) -> None:
    low = config(gauge={**GAUGE, "magnitude": "distance", "accept": "low"})
    found = read_scores(written(tmp_path, columns()), low)
    assert found.score[0] == -0.5


def test_rows_of_a_group_never_part_and_one_without_is_its_own(tmp_path: Path) -> None:
    groups = ["a", "a", None, None, "row:3", "b"]
    found = read_scores(written(tmp_path, columns(group=groups)), config())
    assert found.group is not None
    assert found.n_groups == 5  # a row without a group is not the group that has its name
    assert found.first[0] == found.first[1]


def test_whole_numbers_are_groups_too(tmp_path: Path) -> None:
    text = read_scores(written(tmp_path, columns(group=["1", "2", "3", "3", "4", "5"])), config())
    whole = read_scores(written(tmp_path, columns(group=[1, 2, 3, 3, 4, 5])), config())
    assert whole.group is not None
    assert text.group is not None
    assert whole.group.tolist() == text.group.tolist()


def test_directions_are_read_of_censored_rows(tmp_path: Path) -> None:
    found = read_scores(
        written(
            tmp_path,
            columns(
                direction_true=["odd", None, "low", "high", None, "low"],
                direction_pred=["low", "low", None, "low", "high", "low"],
            ),
        ),
        config(),
    )
    assert found.direction is not None
    assert found.direction.names == ("high", "low")
    assert found.direction.true.tolist() == [-1, -1, 1, 0, -1, 1]
    assert found.direction.pred.tolist() == [1, 1, -1, 1, 0, 1]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        pytest.param({"in_range": pa.array([True] * 6)}, "missing column 'score'", id="no_score"),
        pytest.param(columns(score=[1, 2, 3, 4, 5, 6]), "column score: int64", id="whole_numbers"),
        pytest.param(
            columns(score=pa.array([-0.5, 1, 1, 1, 1, 1.0])),
            "row 1, column score: -0.5 is negative",
            id="negative_magnitude",
        ),
        pytest.param(columns(in_range=["yes"] * 6), "column in_range: string", id="text_for_bool"),
        pytest.param(
            columns(in_range=[True, None, True, False, None, True]),
            r"row 2, column in_range: empty \(2 such\)",
            id="truth_missing",
        ),
        pytest.param(
            columns(fault=[None] + [False] * 5), "row 1, column fault: empty", id="fault_missing"
        ),
        pytest.param(columns(group=[0.5] * 6), "column group: Float64", id="group_of_floats"),
        pytest.param(
            columns(direction_true=["low"] * 6), "direction_true stands alone", id="one_direction"
        ),
        pytest.param(
            columns(direction_true=["low"] * 5 + [None], direction_pred=["low"] * 6),
            "row 6, column direction_true: empty in a censored row",
            id="side_missing",
        ),
        pytest.param(columns(group=["a"] * 6), "fall on one side", id="one_group"),
        pytest.param(
            columns(group=["a", "b", "", "c", "", "d"]),
            "row 3, column group: an empty name",
            id="empty_group",
        ),
        pytest.param(
            columns(direction_true=["low"] * 6, direction_pred=["low"] * 4 + ["lwo", "low"]),
            r"row 5, column direction_pred: unknown direction 'lwo' \(1 such\); known are 'low'",
            id="misspelt_side",
        ),
        pytest.param(
            {key: value[:0] for key, value in columns(in_range=pa.array([True])).items()},
            "no row",
            id="empty",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, found: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        read_scores(written(tmp_path, found), config())
    assert "\n" not in str(error.value)
    assert "scores.parquet" in str(error.value)


def test_a_side_for_every_row_is_no_direction(tmp_path: Path) -> None:
    many = pa.table(
        {
            "score": np.linspace(0, 1, 12),
            "in_range": [False] * 12,
            "direction_true": [*"abcdefghijkl"],
            "direction_pred": [*"abcdefghijkl"],
        }
    )
    write_arrow(tmp_path / "s.parquet", many)
    with pytest.raises(InputError, match=r"12 sides.*10 at most"):
        read_scores(tmp_path / "s.parquet", config())


def test_another_gauge_is_refused_unless_it_is_relabelled(tmp_path: Path) -> None:
    recorded = {**GAUGE, "normalisation": "layer norm"}
    path = written(tmp_path, columns(), gauge=recorded)
    with pytest.raises(InputError, match=r'normalisation "layer norm" and "none".*relabel'):
        read_scores(path, config())
    other = {"recorded": {**recorded, "head": "p"}, "reason": "typing error"}
    with pytest.raises(InputError, match="relabel"):
        read_scores(path, config(relabel=other))
    same = {"recorded": recorded, "reason": "the file names it by its layer"}
    assert read_scores(path, config(relabel=same)).gauge == config().gauge


def test_identities_of_file_and_configuration_are_joined_or_refused(tmp_path: Path) -> None:
    path = written(tmp_path, columns(), identity={"model_family": "rational"})
    assert read_scores(path, config()).identity.model_family == "rational"
    both = read_scores(path, config(identity={"preprocessing": "v2"})).identity
    assert (both.model_family, both.preprocessing) == ("rational", "v2")
    with pytest.raises(InputError, match=r'identity.model_family "rational".*"mlp"'):
        read_scores(path, config(identity={"model_family": "mlp"}))


def test_metadata_that_is_no_gauge_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, columns(), gauge={"head": "q"})
    with pytest.raises(InputError, match="metadata gauge: key magnitude: missing"):
        read_scores(path, config())


def test_a_notebook_gets_the_same_as_a_file(tmp_path: Path) -> None:
    read = read_scores(written(tmp_path, columns(group=list("abcdef"))), config())
    made = make_scores(
        np.array([0.5, np.nan, 0.1, np.nan, np.inf, 0.4]),
        np.array([True, True, False, False, True, False]),
        config(),
        group=pl.Series(list("abcdef")),
    )
    assert made.first.tolist() == read.first.tolist()
    assert made.fault.tolist() == read.fault.tolist()
    with pytest.raises(InputError, match=r"lengths \[2, 3\]"):
        make_scores(np.zeros(3), np.zeros(2, dtype=bool), config())


def test_a_side_that_no_row_has_may_be_said_once_it_is_declared(tmp_path: Path) -> None:
    sides = {"direction_true": ["low"] * 6, "direction_pred": ["low"] * 5 + ["high"]}
    path = written(tmp_path, columns(**sides))
    with pytest.raises(InputError, match="list all under key directions"):
        read_scores(path, config())
    found = read_scores(path, config(directions=["low", "high"])).direction
    assert found is not None
    assert (found.names, found.pred.tolist()) == (("high", "low"), [1, 1, 1, 1, 1, 0])
    with pytest.raises(InputError, match="row 3, column direction_true: unknown direction 'low'"):
        read_scores(path, config(directions=["high"]))


def test_a_cell_of_a_wrong_column_is_not_printed_whole(tmp_path: Path) -> None:
    note = "Mrs. Doe, born 1950, was seen on Monday with a lesion"
    sides = {"direction_true": ["low"] * 6, "direction_pred": ["low"] * 5 + [note]}
    with pytest.raises(InputError) as error:
        read_scores(written(tmp_path, columns(**sides)), config())
    assert note[:41] not in str(error.value)
    with pytest.raises(InputError, match="metadata gauge: 3002 characters") as error:
        read_scores(written(tmp_path, columns(), gauge="x" * 3000), config())  # type: ignore[arg-type]
    assert len(str(error.value)) < 200


def test_groups_and_sides_are_those_of_every_division_by_name() -> None:
    """A null is its row: three rows a name, and every tenth row without one."""
    names = [None if row % 10 == 0 else f"p{row // 3}" for row in range(300)]
    found = make_scores(
        np.linspace(0, 1, 300), np.arange(300) % 2 == 0, config(), group=pl.Series(names)
    )
    keys = pl.Series(
        [f"row:{row + 1}" if name is None else f"group:{name}" for row, name in enumerate(names)]
    )
    number, n_groups = hash_numbers(keys)
    assert found.group is not None
    assert (found.group.tolist(), found.n_groups) == (number.tolist(), n_groups)
    assert found.first.tolist() == in_first(keys, 0.5).tolist()
    assert found.source["rows_without_group"] == 30


def test_rows_fall_by_the_published_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    state, drawn, mask = 0, [], (1 << 64) - 1
    for _ in range(50):  # SplitMix64 from seed 0, step by step
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        drawn.append(z ^ (z >> 31))
    assert mixed(np.arange(50)).tolist() == drawn
    monkeypatch.setattr("dagster_project.lib.gate.split._BLOCK", 7)
    assert divided(50, 0.4).first.tolist() == [z < 0.4 * 2.0**64 for z in drawn]


def test_a_file_replaced_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, columns())

    def replaced(*args: Any) -> Any:
        found = read_arrow(*args)
        written(tmp_path, columns(score=[0.1] * 6))
        return found

    monkeypatch.setattr("dagster_project.lib.tables.read_arrow", replaced)
    with pytest.raises(InputError, match="changed while it was read"):
        read_scores(path, config())


def test_columns_without_any_entry_have_no_type_and_are_read_all_the_same(tmp_path: Path) -> None:
    nothing = pa.nulls(6)
    path = written(
        tmp_path, columns(group=nothing, direction_true=["low"] * 6, direction_pred=nothing)
    )
    found = read_scores(path, config())
    assert (found.n_groups, found.source["rows_without_group"]) == (6, 6)
    assert found.direction is not None
    assert found.direction.pred.tolist() == [-1] * 6
    nobody = columns(in_range=[True] * 6, direction_true=nothing, direction_pred=nothing)
    empty = read_scores(written(tmp_path, nobody), config()).direction
    assert empty is not None
    assert empty.names == ()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        pytest.param({"in_range": np.ones(8, dtype=int)}, "in_range: int64", id="in_range"),
        pytest.param({"in_range": [True] * 8}, "in_range: list", id="list"),
        pytest.param({"fault": np.zeros(8, dtype=int)}, "fault: int64", id="fault"),
        pytest.param({"score": np.zeros((8, 1))}, r"shape \(8, 1\)", id="two_dimensions"),
    ],
)
def test_arrays_that_would_be_miscounted_are_refused(given: dict[str, Any], said: str) -> None:
    arrays: dict[str, Any] = {"score": np.zeros(8), "in_range": np.ones(8, dtype=bool), **given}
    with pytest.raises(InputError, match=said):
        make_scores(config=config(), **arrays)
