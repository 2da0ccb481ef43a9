"""Golden cases: what they find, in which dtype, and whether the cause they name is the cause."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dagster_project.lib.errors import InputError
from dagster_project.lib.inference import checkpoint, golden, precision


def change_config(folder: Path, **changes: Any) -> None:
    """Change keys of ``preprocess``, or ``pooling``."""
    config = json.loads((folder / "config.json").read_text())
    for key, value in changes.items():
        (config if key == "pooling" else config["preprocess"])[key] = value
    (folder / "config.json").write_text(json.dumps(config))


IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        pytest.param(
            {"resample": "bilinear"},
            r"; preprocess.resample: 'bicubic' \(config.json says 'bilinear'\) reproduces them",
            id="resample",
        ),
        pytest.param(
            {"antialias": False},
            r"; preprocess.antialias: True \(config.json says False\) reproduces them",
            id="antialias",
        ),
        pytest.param(
            {"resize": "pad"},
            r"; preprocess.resize: 'squash' \(config.json says 'pad'\) reproduces them",
            id="resize",
        ),
        pytest.param(
            IMAGENET,
            r"; preprocess.mean: \[0.5, 0.5, 0.5\] \(config.json says \[0.485, 0.456, 0.406\]\); "
            r"preprocess.std: \[0.5, 0.5, 0.5\] \(config.*reproduces them",
            id="mean_and_std",
        ),
        pytest.param(
            {"resample": "bilinear", "antialias": False},
            r"; preprocess.resample: 'bicubic' .*; preprocess.antialias: True .* reproduces them",
            id="two_at_once",
        ),
        pytest.param(
            {"pooling": "mean"},
            r"; pooling: 'pooler' \(config.json says 'mean'\) reproduces them",
            id="pooling",
        ),
    ],
)
def test_a_failure_names_what_would_reproduce_the_case(
    artifact: Path, changes: dict[str, Any], cause: str
) -> None:
    change_config(artifact, **changes)
    with pytest.raises(InputError, match=r"golden.json case \d: probabilities differ") as caught:
        checkpoint.load_model(artifact)
    assert re.search(cause, str(caught.value)), str(caught.value)
    assert "weights" not in str(caught.value)


def test_where_nothing_reproduces_the_case_the_weights_are_named(artifact: Path) -> None:
    state = torch.load(artifact / "best_model.pt", weights_only=True)
    state["vision.embeddings.position_embedding.weight"] *= -1
    torch.save(state, artifact / "best_model.pt")
    with pytest.raises(InputError, match=r"no other preprocessing or pooling .*: the weights \(or"):
        checkpoint.load_model(artifact)


def test_a_diagnosis_leaves_the_network_as_it_was(artifact: Path) -> None:
    model = checkpoint.load_model(artifact)
    cases = golden.parse_golden(json.loads((artifact / "golden.json").read_text()), 5)[1]
    wrong = [golden.Case(c.png, c.answers, 1 - c.expected) for c in cases]
    assert "the weights" in golden.diagnose(model, wrong, 0, 1e-4)
    assert model.module.pooling == "pooler"


def test_a_recipe_that_reproduces_one_case_only_is_not_named(artifact: Path) -> None:
    model = checkpoint.load_model(artifact)
    cases = golden.parse_golden(json.loads((artifact / "golden.json").read_text()), 5)[1]
    bilinear = replace(model.preprocess, resample="bilinear")
    first = golden.probabilities(model, cases[0].png, cases[0].answers, bilinear)
    mixed = [golden.Case(cases[0].png, cases[0].answers, first.astype(float)), *cases[1:]]
    assert "the weights" in golden.diagnose(model, mixed, 0, 1e-4)


# dtypes


@pytest.mark.parametrize("dtype", precision.DTYPES)
def test_every_dtype_loads_and_passes_its_own_golden_cases(artifact: Path, dtype: str) -> None:
    model = checkpoint.load_model(artifact, dtype=dtype)
    kept = precision.torch_dtype(dtype)
    assert {weight.dtype for weight in model.module.parameters()} == {kept}
    assert model.module.pooled_std.dtype == kept
    assert model.module.vision.embeddings.position_ids.dtype == torch.int64
    assert torch.get_float32_matmul_precision() == "highest"


def test_a_dtype_that_is_none_of_them_is_refused(artifact: Path) -> None:
    with pytest.raises(InputError, match="dtype: got 'int8'; allowed are 'float32', 'tf32'"):
        checkpoint.load_model(artifact, dtype="int8")


@pytest.mark.parametrize(
    ("dtype", "moved", "is_found"),
    [
        pytest.param("float32", 2e-4, True, id="float32 finds 2e-4"),
        pytest.param("bfloat16", 4e-3, False, id="bfloat16 does not find 4e-3"),
        pytest.param("bfloat16", 4e-2, True, id="bfloat16 finds 4e-2"),
    ],
)
def test_what_a_coarse_dtype_can_no_longer_find(
    artifact: Path, dtype: str, moved: float, is_found: bool
) -> None:
    model = checkpoint.load_model(artifact, dtype=dtype)
    # the network's own answers, moved: the least that any check in this dtype is asked to find
    value = json.loads((artifact / "golden.json").read_text())
    for case in value["cases"]:
        png = base64.b64decode(case["image_png_base64"])
        own = golden.probabilities(model, png, case["metadata"]).astype(float)
        case["probs"] = np.clip(own + np.where(own < 0.5, moved, -moved), 0, 1).tolist()
    if is_found:
        with pytest.raises(InputError, match=f"differ by {moved:.1g}.* in {dtype}"):
            golden.check_golden(model, value)
    else:
        golden.check_golden(model, value)


# the file


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda g: g.pop("tolerance"), "not of the documented form", id="no_tolerance"),
        pytest.param(lambda g: g.update(tolerance=0), "tolerance: got 0.0", id="zero"),
        pytest.param(lambda g: g.update(tolerance=1), "tolerance: got 1.0", id="anything_goes"),
        pytest.param(lambda g: g.update(tolerance=float("nan")), "got nan", id="nan_tolerance"),
        pytest.param(lambda g: g.update(cases=[]), "has no cases", id="no_cases"),
        pytest.param(lambda g: g.update(cases=3), "not of the documented form", id="number"),
        pytest.param(lambda g: g["cases"][1]["probs"].pop(), "case 2: 4 probs, 5", id="short"),
        pytest.param(
            lambda g: g["cases"][0].update(probs=[float("nan")] * 5), "from 0 to 1", id="nan"
        ),
        pytest.param(lambda g: g["cases"][0].update(probs=[2.0] * 5), "from 0 to 1", id="two"),
        pytest.param(
            lambda g: g["cases"][0].update(image_png_base64="@"), "documented form", id="base64"
        ),
        pytest.param(
            lambda g: g["cases"][0].update(image_png_base64="AAAA"), "cannot be used", id="picture"
        ),
    ],
)
def test_a_golden_file_that_says_nothing_is_refused(
    artifact: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    value = json.loads((artifact / "golden.json").read_text())
    change(value)
    (artifact / "golden.json").write_text(json.dumps(value))
    with pytest.raises(InputError, match=rf"golden.json.*{message}"):
        checkpoint.load_model(artifact)
