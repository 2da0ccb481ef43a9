"""Files beside the weights are hostile too: each is refused in one line, never with a traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dagster_project.lib.inference import model_check

HUGE = 10**400


def config(**change: Any) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        value = json.loads((folder / "config.json").read_text())
        for path, new in change.items():
            *above, last = path.split("__")
            at = value
            for key in above:
                at = at[key]
            at[last] = new
        (folder / "config.json").write_text(json.dumps(value))

    return write


def text(name: str, content: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).write_text(content)

    return write


def golden(**change: Any) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        value = json.loads((folder / "golden.json").read_text()) | change
        (folder / "golden.json").write_text(json.dumps(value))

    return write


DEEP = "[" * 200_000


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        pytest.param(text("config.json", DEEP), "config.json: not JSON", id="deep config"),
        pytest.param(text("golden.json", DEEP), "golden.json: not JSON", id="deep golden"),
        pytest.param(golden(tolerance=HUGE), "golden.json: not of", id="huge tolerance"),
        pytest.param(config(preprocess__mean=[HUGE, 0, 0]), "preprocess.mean", id="huge mean"),
        pytest.param(
            config(preprocess__mean=[float("nan"), 0, 0]), "preprocess.mean", id="NaN in mean"
        ),
        pytest.param(config(architecture=[]), "architecture: unknown name", id="list as name"),
        pytest.param(config(architecture={}), "architecture: unknown name", id="object as name"),
        pytest.param(config(head__hidden=10**12), "head.hidden: describes", id="huge head"),
        pytest.param(config(head__hidden=10**30), "head.hidden: describes", id="astronomic head"),
        pytest.param(
            config(vision__hidden_size=65536, vision__intermediate_size=65536),
            "vision: describes a weight",
            id="huge tower",
        ),
        pytest.param(config(vision__torch_dtype="foo"), "config.json, vision", id="dtype"),
        pytest.param(config(vision__id2label={"x": 1}), "config.json, vision", id="id2label"),
        pytest.param(config(vision__layer_norm_eps=HUGE), "config.json, vision", id="huge eps"),
        pytest.param(
            text(
                "feature_schema.json",
                json.dumps({"fields": [{"name": "a", "type": "numeric", "range": [0, HUGE]}]}),
            ),
            "range must be",
            id="huge range",
        ),
    ],
)
def test_a_hostile_file_beside_the_weights_is_one_line(
    artifact: Path, damage: Callable[[Path], None], reason: str
) -> None:
    (artifact / "manifest.json").unlink()
    damage(artifact)
    verdict = model_check.check_model(artifact)
    assert verdict.reason is not None
    assert reason in verdict.reason
    assert "\n" not in verdict.line()
    assert len(verdict.line()) < 1000
