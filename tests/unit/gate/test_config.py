"""The configuration: one grammar for every operating point, every fault on one line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from dagster_project.lib.config_file import config_sha256
from dagster_project.lib.errors import InputError
from dagster_project.lib.gate import config as module
from dagster_project.lib.gate.config import PRESETS, parse_config, read_config, rules_of

GAUGE = {"head": "q", "magnitude": "abs", "normalisation": "none"}


def test_only_the_gauge_is_needed_and_defaults_count_as_written_out() -> None:
    short = parse_config({"gauge": GAUGE})
    assert [*rules_of(short)] == [*PRESETS]
    assert config_sha256(short) == config_sha256(parse_config(short.model_dump(mode="json")))


def test_presets_and_a_user_s_rule_are_of_one_grammar() -> None:
    rule = {"choose": "smallest", "bound": {"accepted_censored": 0.04}}
    found = rules_of(
        parse_config(
            {"gauge": GAUGE, "points": {"safety_first": {"target": 0.01}, "rules": {"few": rule}}}
        )
    )
    assert found["safety_first"].bound == {"fp_cens": 0.01}
    assert found["few"].model_dump()["bound"] == rule["bound"]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        pytest.param({"gauge": {"head": "q"}}, "gauge.magnitude: missing", id="gauge_in_part"),
        pytest.param({"tau": 1}, "key tau: unknown, nearest taus", id="unknown_key"),
        pytest.param({"freeze": "best"}, "best is no operating point; known are", id="no_point"),
        pytest.param({"taus": [0.1, "0.2"]}, "got '0.2'", id="text_for_a_number"),
        pytest.param(
            {"taus": "all"},
            re.escape("""got 'all', allowed: "distinct", {"quantiles": n} or a list of numbers"""),
            id="no_such_taus",
        ),
        pytest.param({"taus": []}, r"got \[\], allowed: 1 to 100,000 numbers$", id="no_taus"),
        pytest.param({"taus": {"quantiles": 1}}, r"key taus.quantiles: got 1, [^;]*$", id="one"),
        pytest.param({"directions": ["a", "a"]}, "1 to 10 names, none of them twice", id="twice"),
        pytest.param(
            {"gauge": {**GAUGE, "head": "a\n| b"}}, "gauge.head: .*one line", id="two_lines"
        ),
        pytest.param({"gauge": {**GAUGE, "head": "q "}}, "gauge.head: .*blanks", id="blank"),
        pytest.param({"gray_zone": {}}, "give tau_train or multiple", id="empty_gray_zone"),
        pytest.param({"gray_zone": {"multiple": 1}}, "greater than 1", id="no_multiple"),
        pytest.param({"certify": {"delta": 0}}, "greater than 0", id="no_delta"),
        pytest.param(
            {"points": {"rules": {"a": {"choose": "smallest"}}}}, "needs a bound", id="any_tau"
        ),
        pytest.param(
            {"points": {"rules": {"a": {"choose": "best", "order": ["speed"]}}}},
            "speed is no measure",
            id="no_measure",
        ),
        pytest.param(
            {"points": {"rules": {"balanced": {"choose": "best", "order": ["cost"]}}}},
            "balanced is built in",
            id="taken_name",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, keys: dict[str, Any], said: str) -> None:
    path = tmp_path / "gate.json"
    path.write_text(json.dumps({"gauge": GAUGE, **keys}))
    with pytest.raises(InputError, match=said) as error:
        read_config(path)
    assert str(error.value).startswith("gate.json: ")
    assert "\n" not in str(error.value)


def test_the_documentation_names_every_key_and_its_example_is_read() -> None:
    text = (Path(__file__).parents[3] / "docs/gate.md").read_text(encoding="utf-8")
    for part in vars(module).values():
        if isinstance(part, type) and issubclass(part, BaseModel):
            assert [name for name in part.model_fields if f"`{name}`" not in text] == [], part
    example = re.search(r"```json\n(\{\n  \"gauge\".*?)```", text, re.DOTALL)
    assert example is not None
    parse_config(json.loads(example[1]))
