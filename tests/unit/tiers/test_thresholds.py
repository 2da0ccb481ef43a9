from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dagster_project.lib.errors import InputError
from dagster_project.lib.tiers.thresholds import Thresholds, known_or_none, read_deployed, round_up

ENV = {
    "TIER_CONFIDENT_THRESHOLD": "0.815",
    "TIER_REFER_THRESHOLD": "0.444",
    "POSSIBLE_ITEM_THRESHOLD": "0.25",
}


def test_every_grid_value_is_left_where_it_is() -> None:
    assert [round_up(k / 1000) for k in range(1001)] == [k / 1000 for k in range(1001)]


def test_rounding_never_goes_down_even_by_one_bit() -> None:
    assert round_up(float(np.nextafter(0.815, 1))) == 0.816
    assert round_up(float(np.nextafter(0.815, 0))) == 0.815


def test_a_float32_score_is_rounded_as_it_is_stored() -> None:
    assert round_up(float(np.float32(0.8))) == 0.801  # stored as 0.80000001192
    assert round_up(float(np.float32(0.815))) == 0.815  # stored as 0.81499999762


def test_deployed_thresholds_come_from_the_environment_or_a_released_file(tmp_path: Path) -> None:
    expected = Thresholds(0.815, 0.444, 0.25)
    path = tmp_path / "thresholds.json"
    path.write_text(json.dumps({**expected.as_dict(), "tta": None}))
    assert read_deployed(ENV) == read_deployed(path) == expected


def test_nothing_deployed_is_none() -> None:
    assert read_deployed({}) is None
    assert known_or_none(None, None, None) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"TIER_REFER_THRESHOLD": ""}, "refer is missing", id="one_missing"),
        pytest.param({"TIER_REFER_THRESHOLD": "0,4"}, "got '0,4'", id="not_a_number"),
        pytest.param({"TIER_REFER_THRESHOLD": "nan"}, "refer: got nan", id="nan"),
        pytest.param({"TIER_REFER_THRESHOLD": "44"}, r"allowed: a number in \[0, 1\]", id="big"),
        pytest.param({"TIER_REFER_THRESHOLD": "0.9"}, "refer 0.9 is above", id="out_of_order"),
    ],
)
def test_a_bad_environment_is_named(change: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_deployed({**ENV, **change})
