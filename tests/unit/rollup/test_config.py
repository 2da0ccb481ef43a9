"""The configuration file: everything that can be wrong is named, on one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dagster_project.lib.config_file import config_sha256
from dagster_project.lib.errors import InputError
from dagster_project.lib.rollup.config import (
    FitThresholds,
    Mask,
    RollupConfig,
    parse_config,
    read_config,
)


def test_every_key_of_the_documentation_is_read(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    value = {
        "mask": {"exclude": ["scabies"], "reweight": False, "min_kept_mass": 0.3},
        "normalisation": "odds",
        "rule": "distribution",
        "thresholds": {"class": 0.8, "family": 2},
        "parameter": None,
        "skip_trivial_nodes": False,
    }
    path.write_text(json.dumps(value))
    assert read_config(path) == RollupConfig(
        mask=Mask(exclude=("scabies",), reweight=False, min_kept_mass=0.3),
        normalisation="odds",
        rule="distribution",
        thresholds={"class": 0.8, "family": 2.0},
        skip_trivial_nodes=False,
    )


def test_a_lone_target_is_a_fit_and_no_rank_called_target() -> None:
    found = parse_config({"thresholds": {"target": 0.1}}).thresholds
    assert found == FitThresholds(target=0.1)
    assert parse_config({"thresholds": {"family": 0.1}}).thresholds == {"family": 0.1}


def test_keys_left_out_are_their_defaults_and_name_the_same_configuration() -> None:
    whole = RollupConfig().model_dump(mode="json")
    assert config_sha256(parse_config({})) == config_sha256(parse_config(whole))
    assert config_sha256(parse_config({"rule": "antenna"})) != config_sha256(parse_config({}))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param({"rule": "linage"}, "key rule: got 'linage', allowed: 'lineage'", id="rule"),
        pytest.param(
            {"normalization": "l1"}, "normalization: unknown, nearest normalisation", id="typo"
        ),
        pytest.param(
            {"thresholds": {"class": "0.8"}}, "key thresholds.class: got '0.8'", id="text"
        ),
        pytest.param(
            {"thresholds": {"target": 0.1, "acuracy": {}}},
            "key thresholds.acuracy: unknown, nearest accuracy",
            id="typo_in_the_fit",
        ),
        pytest.param(
            {"thresholds": {"accuracy": {"class": 2}}},
            "key thresholds.accuracy.class: got 2, allowed: less than or equal to 1",
            id="range",
        ),
        pytest.param(
            {"mask": {"include": ["a"], "exclude": ["b"]}},
            "key mask: give include or exclude, not both",
            id="both_lists",
        ),
        pytest.param({"skip_trivial_nodes": "yes"}, "got 'yes'", id="no_boolean"),
        pytest.param({"parameter": float("inf")}, "not JSON", id="infinite"),
        pytest.param([], "key the configuration: got ", id="a_list"),
    ],
)
def test_a_fault_is_named_with_key_value_and_mend(value: Any, message: str) -> None:
    with pytest.raises(InputError, match=rf"^c.json: .*{message}") as told:
        parse_config(value, "c.json")
    assert "\n" not in str(told.value)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(InputError, match=r"key rule: .*; key mask\.min_kept_mass: |key mask.*rule"):
        parse_config({"rule": 3, "mask": {"min_kept_mass": 2}})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param('{"rule": "lineage", "rule": "darts"}', "rule appears twice", id="twice"),
        pytest.param("{", "c.json: not JSON .* docs/rollup-report.md", id="cut_short"),
        pytest.param("[" * 100_000, "not JSON", id="too_deep"),
        pytest.param('{"parameter": NaN}', "not JSON", id="nan"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_config(tmp_path / "c.json")
    with pytest.raises(InputError, match="no such roll-up configuration"):
        read_config(tmp_path / "d.json")
