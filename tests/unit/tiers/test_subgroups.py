from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from dagster_project.lib.errors import InputError
from dagster_project.lib.tiers import failure_pictures
from dagster_project.lib.tiers.reports import tier_report
from dagster_project.lib.tiers.subgroups import MAX_GROUPS, groupable, subgroup_table
from dagster_project.lib.tiers.thresholds import Thresholds

AT = Thresholds(0.815, 0.444, 0.25)
N = 60


@pytest.fixture
def scored() -> pl.DataFrame:
    """60 images of 60 patients: 30 confident (6 of them wrong), 15 possible, 15 refer."""
    i = np.arange(N)
    return pl.DataFrame(
        {
            "image_uuid": [f"i{k:02d}" for k in i],
            "patient_id": [f"p{k:02d}" for k in i],
            "score": np.repeat([0.9, 0.6, 0.1], [30, 15, 15]),
            "top1": (i % 5 != 0) | (i >= 30),
        }
    )


def groups(scored: pl.DataFrame, **columns: object) -> pl.DataFrame:
    return scored.select("image_uuid").with_columns(
        **{name: pl.Series(values) for name, values in columns.items()}  # type: ignore[arg-type]
    )


def test_a_group_is_counted_by_hand(scored: pl.DataFrame) -> None:
    sex = ["f"] * 20 + ["m"] * 40
    f, m = subgroup_table(scored, groups(scored, sex=sex), AT, ["sex"]).to_dicts()
    assert (f["column"], f["group"], f["n"], f["n_patients"]) == ("sex", "f", 20, 20)
    assert (f["coverage"], f["covered_top1"], f["confident_wrong"]) == (1.0, 0.8, 0.2)
    assert f["refer_share"] == 0
    assert (m["coverage"], m["covered_top1"]) == (0.25, 0.8)
    assert (m["confident_wrong"], m["refer_share"]) == (2 / 40, 15 / 40)
    assert [f["too_few"], m["too_few"]] == [True, False]
    for name in ("coverage", "covered_top1", "confident_wrong", "refer_share"):
        assert 0 <= m[f"{name}_low"] <= m[name] <= m[f"{name}_high"] <= 1


def test_rows_are_joined_by_id_and_what_is_missing_is_unknown(scored: pl.DataFrame) -> None:
    table = groups(scored, sex=["f"] * 20 + ["m"] * 40)
    expected = subgroup_table(scored, table, AT, ["sex"])
    stranger = pl.DataFrame({"image_uuid": ["nobody"], "sex": ["x"]})
    mixed = pl.concat([table.sample(fraction=1, shuffle=True, seed=1), stranger])
    assert subgroup_table(scored.reverse(), mixed, AT, ["sex"]).equals(expected)
    part = subgroup_table(scored, mixed.filter(pl.col("sex") != "m"), AT, ["sex"])
    assert part["group"].to_list() == ["f", "unknown"]
    assert part.drop("group").equals(expected.drop("group"))


def test_null_empty_and_unknown_are_one_group_and_come_last(scored: pl.DataFrame) -> None:
    site = ([None, "", "unknown", " ", "arm", "zoster"] * 10)[:N]
    table = subgroup_table(scored, groups(scored, site=site), AT, ["site"])
    assert table.select("group", "n").rows() == [("arm", 10), ("zoster", 10), ("unknown", 40)]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([True, False, None] * 20, ["false", "true", "unknown"], id="boolean"),
        pytest.param([3, 1, 20] * 20, ["1", "3", "20"], id="few_numbers_sorted_as_numbers"),
        pytest.param(
            [float(i) for i in range(59)] + [float("nan")],
            ["up to 14", "15 to 28", "29 to 43", "from 44", "unknown"],
            id="many_numbers_and_nan",
        ),
        pytest.param(
            [0] * 40 + list(range(1, 21)), ["up to 0", "1 to 5", "from 6"], id="ties_are_not_split"
        ),
        pytest.param([None] * N, ["unknown"], id="all_null"),
        pytest.param(
            [date(2026, 1, 1) + timedelta(days=i) for i in range(N)],
            [
                "up to 2026-01-15",
                "2026-01-16 to 2026-01-30",
                "2026-01-31 to 2026-02-14",
                "from 2026-02-15",
            ],
            id="dates",
        ),
    ],
)
def test_any_column_makes_groups(
    scored: pl.DataFrame, values: list[object], expected: list[str]
) -> None:
    table = subgroup_table(scored, groups(scored, it=values), AT, ["it"])
    assert table["group"].to_list() == expected
    assert table["n"].sum() == N


def test_a_categorical_is_text_and_a_decimal_is_a_number(scored: pl.DataFrame) -> None:
    frame = groups(scored, c=["b", "a"] * 30, d=[10, 9] * 30).with_columns(
        pl.col("c").cast(pl.Categorical), pl.col("d").cast(pl.Decimal(10, 1))
    )
    table = subgroup_table(scored, frame, AT, ["d", "c"])
    assert table["group"].to_list() == ["9", "10", "a", "b"]


def test_fewer_than_five_patients_are_listed_without_rates(scored: pl.DataFrame) -> None:
    site = ["scalp"] * 4 + ["arm"] * 52 + ["nail"] * 4
    table = subgroup_table(scored, groups(scored, site=site), AT, ["site"])
    scalp = table.filter(pl.col("group") == "scalp").row(0, named=True)
    assert (scalp["n"], scalp["n_patients"], scalp["too_few"]) == (4, 4, True)
    rates = [v for k, v in scalp.items() if k not in ("column", "group", "n", "n_patients")]
    assert rates == [None] * 12 + [True]
    # enough patients, of whom too few are confident: only the rate among those is hidden
    few = subgroup_table(scored, groups(scored, x=["a"] * 26 + ["b"] * 34), AT, ["x"])
    b = few.row(1, named=True)
    assert (b["coverage"], b["covered_top1"]) == (4 / 34, None)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        pytest.param({"note": [f"t{i}" for i in range(N)]}, "column note: 60 different", id="text"),
        pytest.param({"note": [[1]] * N}, "type List", id="lists"),
        pytest.param({"other": [1] * N}, "note", id="absent"),
    ],
)
def test_what_makes_no_groups_is_refused(
    scored: pl.DataFrame, columns: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        subgroup_table(scored, groups(scored, **columns), AT, ["note"])


def test_an_image_with_two_rows_is_refused(scored: pl.DataFrame) -> None:
    twice = pl.concat([groups(scored, a=["x"] * N)] * 2)
    with pytest.raises(InputError, match="more than one row"):
        subgroup_table(scored, twice, AT, ["a"])


def test_groupable_leaves_out_ids_free_text_and_constants(scored: pl.DataFrame) -> None:
    frame = groups(
        scored,
        patient_id=["p"] * 59 + ["q"],
        label=["a", "b"] * 30,
        note=[f"t{i % (MAX_GROUPS + 1)}" for i in range(N)],
        age=list(range(N)),
        site=["arm", "leg"] * 30,
        same=["x"] * N,
        items=[[1]] * N,
    )
    assert groupable(frame) == ["age", "site"]


def test_no_column_is_an_empty_table_of_the_same_shape(scored: pl.DataFrame) -> None:
    some = subgroup_table(scored, groups(scored, a=["x"] * N), AT, ["a"])
    none = subgroup_table(scored, groups(scored, a=["x"] * N), AT, [])
    assert none.schema == some.schema
    assert none.is_empty()


def test_the_groups_of_a_column_add_up_to_the_report(original: pl.DataFrame) -> None:
    at = np.arange(original.height)
    frame = groups(original, age=(at * 7) % 88)
    table = subgroup_table(original, frame, AT, ["age"])
    report = tier_report(original, AT)
    total = original.height
    assert table["group"].to_list() == ["up to 21", "22 to 43", "44 to 65", "from 66"]
    assert (table["n"] * table["confident_wrong"]).sum() / total == pytest.approx(
        report["outcomes"]["confident_wrong"]
    )
    assert (table["n"] * table["coverage"]).sum() == pytest.approx(7696)
    assert (table["n"] * table["refer_share"]).sum() == pytest.approx(2028)


def test_the_picture_is_the_same_twice_and_says_what_it_leaves_out(
    scored: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = subgroup_table(
        scored, groups(scored, a=["x"] * 57 + ["few"] * 3, b=[True, False] * 30), AT, ["a", "b"]
    )
    png = failure_pictures.subgroups_png(table)
    assert png == failure_pictures.subgroups_png(table)
    assert len(png) <= 90_000
    monkeypatch.setattr(failure_pictures, "MAX_ROWS", 2)
    # one more row that is not drawn, and still another picture: its number is in the title
    short = failure_pictures.subgroups_png(table.head(3))
    assert short != failure_pictures.subgroups_png(table)
