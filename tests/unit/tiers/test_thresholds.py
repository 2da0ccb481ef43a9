from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dagster_project.lib.errors import InputError
from dagster_project.lib.tiers.thresholds import Thresholds, known_or_none, read_deployed, round_up


def test_every_grid_value_is_left_where_it_is() -> None:
    assert [round_up(k / 1000) for k in range(1001)] == [k / 1000 for k in range(1001)]


def test_rounding_never_goes_down_even_by_one_bit() -> None:
    assert round_up(float(np.nextafter(0.815, 1))) == 0.816
    assert round_up(float(np.nextafter(0.815, 0))) == 0.815


def test_a_float32_score_is_rounded_as_it_is_stored() -> None:
    assert round_up(float(np.float32(0.8))) == 0.801  # stored as 0.80000001192
    assert round_up(float(np.float32(0.815))) == 0.815  # stored as 0.81499999762


IN_SERVICE = {"confident": 0.815, "refer": 0.444, "possible_item": 0.25}


def test_deployed_thresholds_come_from_settings_or_a_released_file(tmp_path: Path) -> None:
    path = tmp_path / "thresholds.json"
    path.write_text(json.dumps({**IN_SERVICE, "tta": None}))
    assert known_or_none(**IN_SERVICE) == read_deployed(path) == Thresholds(0.815, 0.444, 0.25)


def test_nothing_deployed_is_none() -> None:
    assert known_or_none(None, None, None) is None


@pytest.mark.parametrize(
    ("refer", "message"),
    [
        pytest.param(None, "refer is missing", id="one_missing"),
        pytest.param("0.4", "refer: got '0.4', allowed: a number", id="text"),
        pytest.param(True, "refer: got True", id="boolean"),
        pytest.param(float("nan"), "refer: got nan", id="nan"),
        pytest.param(44, r"allowed: a number in \[0, 1\]", id="big"),
        pytest.param(0.9, "refer 0.9 is above", id="out_of_order"),
    ],
)
def test_a_bad_file_of_deployed_thresholds_is_named(
    tmp_path: Path, refer: object, message: str
) -> None:
    path = tmp_path / "old.json"
    path.write_text(json.dumps({**IN_SERVICE, "refer": refer}))
    with pytest.raises(InputError, match=f"old.json.*{message}"):
        read_deployed(path)


def test_a_bad_setting_of_deployed_thresholds_is_named() -> None:
    with pytest.raises(InputError, match="deployed thresholds: refer is missing"):
        known_or_none(0.8, None, 0.25)
