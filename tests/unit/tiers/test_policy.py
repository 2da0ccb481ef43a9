from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from dagster_project.lib.errors import InputError
from dagster_project.lib.tiers.policy import (
    DEFAULT_POLICY,
    parse_policy,
    policy_sha256,
    read_policy,
)

CONTRACT: dict[str, Any] = {
    "confident": {"rule": "confident_wrong_share", "target": 0.041},
    "refer": {"rule": "share", "target": 0.13},
    "possible_item": {"cut": 0.25, "floor": 1, "cap": 3},
    "certify": {"delta": 0.05},
}


def with_part(key: str, **part: Any) -> dict[str, Any]:
    return {**CONTRACT, key: {**CONTRACT.get(key, {}), **part}}


def test_the_default_is_the_policy_of_the_contract(tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    path.write_text(json.dumps(CONTRACT))
    assert read_policy(path) == DEFAULT_POLICY


def test_all_further_keys_of_the_contract_are_read() -> None:
    certify = {"start": 0.99, "min_coverage": 0.3, "max_images_per_patient": 3, "enforce": False}
    policy = parse_policy(
        {
            **with_part("certify", **certify),
            "allowed": {"confident": [0.7, 0.9], "refer": [0.3, 0.5]},
            "accept": {"kept_top3": 0.94},
        }
    )
    assert policy.certify.max_images_per_patient == 3
    assert policy.allowed.confident == (0.7, 0.9)
    assert policy.accept.kept_top3 == 0.94


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param(
            with_part("confident", target=1.5),
            r"key confident.target: got 1.5, allowed: less than or equal to 1",
            id="above_range",
        ),
        pytest.param(
            with_part("confident", target="0.04"), "got '0.04', allowed: a valid number", id="text"
        ),
        pytest.param(with_part("confident", target=float("nan")), "got nan", id="nan"),
        pytest.param(
            with_part("refer", rule="shares"), "got 'shares', allowed: 'share'", id="rule"
        ),
        pytest.param(
            with_part("refer", tarket=0.1), "key refer.tarket: unknown, nearest target", id="typo"
        ),
        pytest.param({"confident": CONTRACT["confident"]}, "key refer: missing", id="missing"),
        pytest.param(with_part("possible_item", floor=3, cap=1), "floor 3 is above", id="floor"),
        pytest.param(with_part("certify", models=0), "greater than or equal to 1", id="models"),
        pytest.param(
            {**CONTRACT, "accept": {"covered_top2": 0.9}}, "nearest covered_top1", id="accept"
        ),
        pytest.param(
            {**CONTRACT, "allowed": {"refer": [0.5, 0.3]}}, "range .* is empty", id="allowed"
        ),
        pytest.param(
            {
                "confident": {"rule": "fixed", "target": 0.4},
                "refer": {"rule": "fixed", "target": 0.5},
            },
            "refer is fixed at 0.5, above confident 0.4",
            id="fixed_crossed",
        ),
        pytest.param([], "key the policy", id="not_an_object"),
    ],
)
def test_a_bad_policy_is_refused_in_one_line(value: object, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        parse_policy(value, "policy.json")
    assert str(caught.value).startswith("policy.json: ")
    assert "\n" not in str(caught.value)


def test_all_faults_are_named_at_once() -> None:
    value = {"confident": {"rule": "best", "target": 2}, "refer": CONTRACT["refer"]}
    with pytest.raises(InputError, match=r"confident.rule.*confident.target"):
        parse_policy(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("{", "not JSON", id="cut_off"),
        pytest.param('{"refer": 1, "refer": 2}', "key refer appears twice", id="repeated_key"),
    ],
)
def test_a_malformed_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "policy.json"
    path.write_text(text)
    with pytest.raises(InputError, match=f"policy.json: {message}"):
        read_policy(path)


def test_the_hash_ignores_spelling_and_sees_every_value() -> None:
    short = {key: CONTRACT[key] for key in ("refer", "confident")}
    assert policy_sha256(parse_policy(short)) == policy_sha256(DEFAULT_POLICY)
    certify = {"enforce": False, "models": 1, "max_images_per_patient": 5, "subgroups": []}
    whole = {**with_part("certify", **certify), "allowed": {}, "accept": {"certified": False}}
    whole["possible_item"] = {**whole["possible_item"], "sweep": [0.15, 0.2, 0.25, 0.3, 0.35, 0.4]}
    text = json.dumps(whole, sort_keys=True, separators=(",", ":"))
    assert policy_sha256(DEFAULT_POLICY) == hashlib.sha256(text.encode()).hexdigest()
    changed = parse_policy(with_part("certify", delta=0.01))
    assert policy_sha256(changed) != policy_sha256(DEFAULT_POLICY)


def test_a_policy_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        setattr(DEFAULT_POLICY, "accept", {})  # noqa: B010


@pytest.mark.parametrize("name", ["gone.json", "."], ids=["missing", "folder"])
def test_a_path_that_is_no_file_is_named_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"^{name}: no such policy file$"):
        read_policy(Path(name))
