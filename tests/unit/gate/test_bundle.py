"""A bundle is what was chosen, or it is refused."""

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dagster_project.lib import sums
from dagster_project.lib.config_file import config_sha256
from dagster_project.lib.environment import environment
from dagster_project.lib.errors import InputError, RefusedError
from dagster_project.lib.gate import bundle, split
from dagster_project.lib.gate.apply import FAULT, MIXED, SEMANTIC, apply_gate
from dagster_project.lib.gate.config import GateConfig, parse_config
from dagster_project.lib.gate.gray_zone import rates
from dagster_project.lib.gate.scores import GateScores, make_scores
from dagster_project.lib.gate.sweep import sweep, taus_of


def config_of(accept: str = "high", **more: Any) -> GateConfig:
    gauge = {"head": "q", "magnitude": "abs", "normalisation": "none", "accept": accept}
    return parse_config({"gauge": gauge, "identity": {"model_family": "rational"}, **more})


def scores_of(config: GateConfig) -> GateScores:
    rng = np.random.default_rng(3)
    found = make_scores(rng.random(40, dtype=np.float32), rng.random(40) < 0.7, config)
    found.source["sha256"] = "ab" * 32
    return found


def points_of(
    scores: GateScores, *, tau: float = 0.25, train: float | None = 0.5, status: str = "backed"
) -> dict[str, Any]:
    """What ``points.operating_points`` says of one point, in the file's units."""
    point = {
        "status": status,
        "reason": None if status == "backed" else "the smallest bound is 0.2, above 0.05",
        "tau": tau,
        "tau_train": train,
        "no_gray_zone": None,
        "rule": {"choose": "smallest", "bound": {"fp_cens": 0.05}, "order": []},
        "certified": True,
        "bounds": {"fp_cens": {"target": 0.05, "upper": 0.04, "observed": 0.01}},
        "calibration": {"fp_cens": 0.01},
        "evaluation": {"fp_cens": {"rate": 0.02, "low": 0.0, "high": 0.1, "n": 9, "n_groups": 9}},
    }
    return {
        "points": {"safety_first": point},
        "split": split.recipe(scores),
        "terms": {"delta": 0.05},
    }


def frozen_of(accept: str = "high", **more: Any) -> dict[str, Any]:
    config = config_of(accept)
    scores = scores_of(config)
    return bundle.freeze(points_of(scores, **more), scores, config)


@pytest.fixture(scope="module")
def frozen() -> dict[str, Any]:
    return frozen_of()


def resealed(made: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """A bundle that says something else, with the hash that goes with it."""
    other = {**copy.deepcopy(made), **changed}
    return {**other, "content_sha256": bundle.content_sha256(other)}


def written(folder: Path, made: dict[str, Any], beside: dict[str, bytes]) -> Path:
    contents = sums.with_sums(bundle.files_of(made, beside))
    sums.fill(folder, contents, {"host": "of one run", "at": "some time"})
    return folder


BESIDE = {"tau_sweep.json": b"{}\n", "operating_points.json": b"[]\n"}


def test_a_backed_point_is_frozen_with_all_that_it_was_chosen_on(frozen: dict[str, Any]) -> None:
    config = config_of()
    scores = scores_of(config)
    found = bundle.parse_bundle(frozen)
    assert (found.tau_infer, found.tau_train, found.use_gap) == (0.25, 0.5, True)
    assert found.gauge == config.gauge
    assert found.identity.model_family == "rational"
    assert found.point.name == "safety_first"
    assert frozen["scores"] == {"sha256": "ab" * 32, **scores.source}
    assert frozen["split"] == split.recipe(scores)
    assert found.config_sha256 == config_sha256(config)
    assert frozen["code"] == environment()["code"]
    assert found.packages["numpy"] == np.__version__


def test_a_point_that_is_not_backed_is_refused_with_its_reason() -> None:
    with pytest.raises(RefusedError, match="safety_first is unavailable: the smallest bound is"):
        frozen_of(status="unavailable", tau=None, train=None)


@pytest.mark.parametrize("key", ["split", "terms", "bounds", "evaluation", "rule"])
def test_points_without_a_part_that_is_needed_are_not_frozen(key: str) -> None:
    config = config_of()
    scores = scores_of(config)
    points = points_of(scores)
    (points if key in points else points["points"]["safety_first"]).pop(key)
    with pytest.raises(InputError, match=rf"key (point\.)?{key}: missing"):
        bundle.freeze(points, scores, config)


def test_without_a_gray_zone_no_gap_is_used() -> None:
    found = bundle.parse_bundle(frozen_of(train=None))
    assert (found.tau_train, found.use_gap) == (None, False)


def test_a_gauge_that_accepts_low_scores_turns_the_order_round() -> None:
    found = bundle.parse_bundle(frozen_of("low", tau=0.5, train=0.25))
    assert apply_gate([0.2, 0.4, 0.6], found).gap_mask.tolist() == [False, True, False]
    with pytest.raises(InputError, match=r"tau_train 0\.6 is not below tau_infer 0\.5"):
        frozen_of("low", tau=0.5, train=0.6)


def test_same_inputs_give_the_same_bytes_and_another_score_file_others() -> None:
    one, two = (bundle.files_of(frozen_of(), BESIDE) for _ in range(2))
    assert one == two
    config = config_of()
    scores = scores_of(config)
    scores.source["sha256"] = "cd" * 32
    other = bundle.freeze(points_of(scores), scores, config)
    assert bundle.files_of(other, BESIDE)["metadata.json"] != one["metadata.json"]


def test_what_was_written_reads_back_and_carries_its_neighbours(
    frozen: dict[str, Any], tmp_path: Path
) -> None:
    folder = written(tmp_path, frozen, BESIDE)
    found = bundle.read_bundle(folder)
    assert found == bundle.read_bundle(folder / "metadata.json")
    assert found.files == {name: hashlib.sha256(data).hexdigest() for name, data in BESIDE.items()}
    assert sums.verify(folder) == []
    assert found.as_json() == json.loads((folder / "metadata.json").read_bytes())


def test_arrays_of_a_notebook_have_no_file_and_say_so() -> None:
    config = config_of()
    scores = scores_of(config)
    del scores.source["sha256"]
    assert bundle.freeze(points_of(scores), scores, config)["scores"]["sha256"] is None


def test_reading_and_the_dictionary_itself_gate_alike(
    frozen: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "metadata.json").write_bytes(sums.json_bytes(frozen))
    values = np.array([0.1, 0.25, 0.4, 0.5, np.nan], dtype=np.float32)
    found = bundle.read_bundle(tmp_path)
    plain = json.loads((tmp_path / "metadata.json").read_bytes())
    for one, two in zip(apply_gate(values, found), apply_gate(values, plain), strict=True):
        assert np.array_equal(one, two)
    watched = rates(values, found)  # reads accept from the bundle, too
    assert watched["gap_rate"] == apply_gate(values, found).gap_mask.mean() == 0.4


@pytest.mark.parametrize("key", sorted(bundle.Bundle.model_fields))
def test_a_key_that_is_missing_is_named_with_the_mend(key: str, frozen: dict[str, Any]) -> None:
    made = {name: value for name, value in frozen.items() if name != key}
    with pytest.raises(InputError, match=rf"key {key}: missing.*tier-refit gate.*docs/gate\.md"):
        bundle.parse_bundle(made)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        pytest.param({"tau_infre": 1.0}, "tau_infre: unknown, nearest tau_infer", id="unknown"),
        pytest.param({"tau_infer": float("nan")}, "tau_infer: not a finite", id="nan"),
        pytest.param({"terms": {"a": [1.0, float("inf")]}}, r"terms\.a\.1: not a", id="nested"),
        pytest.param({"tau_infer": "0.25"}, "tau_infer: got '0.25'", id="text for a number"),
        pytest.param({"use_gap": 1}, "use_gap: got 1", id="number for a bool"),
        pytest.param({"use_gap": False}, "use_gap and tau_train go together", id="unused train"),
        pytest.param({"tau_train": None}, "use_gap and tau_train go together", id="gap of none"),
        pytest.param({"tau_train": 0.25}, "is not above tau_infer", id="empty gap"),
        pytest.param({"schema_version": 2}, "schema_version: got 2", id="version"),
        pytest.param({"format": "other"}, "format: got 'other'", id="format"),
        pytest.param({"config_sha256": "0" * 64}, "not that of config", id="config's hash"),
        pytest.param({"config_sha256": "0"}, "config_sha256: got '0'", id="no hash"),
        pytest.param({"split": {}}, "split", id="empty recipe"),
        pytest.param(
            {"gauge": {"head": "r", "magnitude": "abs", "normalisation": "none"}},
            "gauge and config.gauge differ",
            id="another head",
        ),
    ],
)
def test_a_bundle_that_contradicts_itself_is_refused(
    changed: dict[str, Any], told: str, frozen: dict[str, Any]
) -> None:
    made = {**frozen, **changed}
    if not {"tau_infer", "terms"} & changed.keys():  # else there is no hash of it
        made = resealed(frozen, **changed)
    with pytest.raises(InputError, match=told):
        bundle.parse_bundle(made)


def test_a_point_that_was_not_the_one_to_freeze_is_refused(frozen: dict[str, Any]) -> None:
    made = resealed(frozen, point={**frozen["point"], "name": "balanced"})
    with pytest.raises(InputError, match="point balanced was not the one to freeze"):
        bundle.parse_bundle(made)


def test_a_tau_edited_by_hand_is_refused_though_it_is_valid(frozen: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"changed after it was frozen.*declare a rule"):
        bundle.parse_bundle({**frozen, "tau_infer": 0.2})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param('{"tau_infer": 1, "tau_infer": 2}', "tau_infer appears twice", id="twice"),
        pytest.param('{"tau_infer": NaN}', "tau_infer: not a finite", id="nan"),
        pytest.param('{"tau_infer": 1e999}', "tau_infer: not a finite", id="overflow"),
        pytest.param("[" * 100_000, "not JSON", id="deep"),
        pytest.param("[" * 900 + "]" * 900, "nested too deep", id="deep enough for JSON"),
        pytest.param("[]", "key the bundle", id="list"),
        pytest.param("", "not JSON", id="empty"),
    ],
)
def test_text_that_is_no_bundle_is_refused(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "metadata.json").write_text(text)
    with pytest.raises(InputError, match=told):
        bundle.read_bundle(tmp_path)


def test_no_file_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="metadata"):
        bundle.read_bundle(tmp_path)


def test_a_neighbour_that_was_changed_is_said_so(frozen: dict[str, Any], tmp_path: Path) -> None:
    folder = written(tmp_path, frozen, BESIDE)
    (folder / "tau_sweep.json").write_bytes(b"{ }\n")
    with pytest.raises(InputError, match=r"tau_sweep\.json: its content is not what was released"):
        bundle.read_bundle(folder)
    (folder / "SHA256SUMS").unlink()  # its own hashes see it, too
    with pytest.raises(InputError, match=r"tau_sweep\.json: its content is not what was released"):
        bundle.read_bundle(folder)


def test_a_neighbour_that_is_gone_is_missed_by_the_sums_only(
    frozen: dict[str, Any], tmp_path: Path
) -> None:
    folder = written(tmp_path, frozen, BESIDE)
    (folder / "tau_sweep.json").unlink()
    with pytest.raises(InputError, match=r"tau_sweep\.json: missing"):
        bundle.read_bundle(folder)
    (folder / "SHA256SUMS").unlink()  # a copy that was taken without its folder
    assert bundle.read_bundle(folder).tau_infer == 0.25


def test_metadata_changed_with_its_own_hash_is_seen_by_the_folder(
    frozen: dict[str, Any], tmp_path: Path
) -> None:
    folder = written(tmp_path, frozen, BESIDE)
    made = json.loads((folder / "metadata.json").read_bytes())
    (folder / "metadata.json").write_bytes(sums.json_bytes(resealed(made, tau_infer=0.2)))
    with pytest.raises(InputError, match=r"metadata\.json: its content is not what was released"):
        bundle.read_bundle(folder)


@pytest.mark.parametrize("accept", ["high", "low"])
def test_served_rows_are_the_rows_that_were_swept(accept: str) -> None:
    rng = np.random.default_rng(5)
    config = config_of(accept)
    values = rng.integers(0, 12, 300).astype(np.float32) / 8  # ties everywhere
    values[::40] = np.nan
    flags = rng.random(300) < 0.1
    scores = make_scores(values, rng.random(300) < 0.7, config, fault=flags)
    tau, train = (0.5, 1.0) if accept == "high" else (1.0, 0.5)
    made = bundle.parse_bundle(
        bundle.freeze(points_of(scores, tau=tau, train=train), scores, config)
    )
    applied = apply_gate(values, made, fault=flags)
    swept = sweep(scores, taus_of(scores, (tau,)))
    assert applied.bottom_mask.sum() == (swept.bottom_in + swept.bottom_cens)[0]
    assert (applied.provenance >= SEMANTIC).sum() == swept.semantic[0]
    assert np.isin(applied.provenance, (FAULT, MIXED)).sum() == swept.n_fault
    watched = rates(values, made, fault=flags)
    assert watched["gap_rate"] == applied.gap_mask.mean()
    assert watched["bottom_rate"] == applied.bottom_mask.mean()
