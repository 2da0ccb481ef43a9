"""A frozen gate says the same as the published reference, and needs numpy alone."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from zeroproof.inference.mode import InferenceConfig, strict_inference_numpy

from dagster_project.lib.gate import apply
from dagster_project.lib.gate.apply import FAULT, FINITE, MIXED, SEMANTIC, apply_gate

NAN, INF = np.nan, np.inf


def made(
    tau: float = 0.5, train: float | None = None, *, accept: str = "high", **changed: Any
) -> dict[str, Any]:
    gauge = {"head": "q", "magnitude": "abs", "normalisation": "none", "accept": accept}
    return {
        "format": apply.FORMAT,
        "schema_version": 1,
        "tau_infer": tau,
        "tau_train": train,
        "use_gap": train is not None,
        "gauge": gauge,
        **changed,
    }


def test_a_score_at_tau_is_answered_and_one_below_is_not() -> None:
    below, above = np.nextafter(0.5, 0), np.nextafter(0.5, 1)
    found = apply_gate(np.array([below, 0.5, above]), made(0.5, above))
    assert found.accepted.tolist() == [False, True, True]
    assert found.gap_mask.tolist() == [False, True, False]
    assert found.provenance.tolist() == [SEMANTIC, FINITE, FINITE]
    assert found.provenance.dtype == np.uint8


def test_what_is_not_finite_is_a_fault_and_a_flag_below_tau_is_mixed() -> None:
    scores = np.array([NAN, INF, -INF, 0.1, 0.9, 0.1, NAN])
    flags = np.array([False, False, False, True, True, False, True])
    found = apply_gate(scores, made(), fault=flags)
    assert found.provenance.tolist() == [FAULT, FAULT, FAULT, MIXED, FAULT, SEMANTIC, FAULT]
    assert found.bottom_mask.all()
    assert not found.accepted.any()


def test_where_low_scores_are_accepted_those_above_tau_get_no_answer() -> None:
    scores = np.array([0.1, 0.3, 0.4, 0.5, 0.6, INF])
    found = apply_gate(scores, made(0.5, 0.3, accept="low"))
    assert found.accepted.tolist() == [True, True, True, True, False, False]
    assert found.gap_mask.tolist() == [False, False, True, True, False, False]
    assert found.provenance.tolist() == [0, 0, 0, 0, SEMANTIC, FAULT]


def test_without_use_gap_nothing_is_marked() -> None:
    found = apply_gate([0.6], made(0.5, 0.9, use_gap=False))
    assert not found.gap_mask.any()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.dtype(">f4")])
def test_narrow_scores_are_widened_before_they_are_compared(dtype: Any) -> None:
    narrow = np.array([0.1], dtype=dtype)  # float32(0.1) > 0.1 > float16(0.1)
    found = apply_gate(narrow, made(0.1))
    assert found.accepted.tolist() == [float(narrow[0]) >= 0.1]
    assert apply_gate(narrow, made(float(narrow[0]))).accepted.all()


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 1)], ids=str)
def test_every_array_has_the_shape_of_the_scores(shape: tuple[int, ...]) -> None:
    scores = np.full(shape, 0.2, dtype=np.float32)
    for found in apply_gate(scores, made(0.5, 0.7), fault=np.zeros(shape, dtype=bool)):
        assert isinstance(found, np.ndarray)
        assert found.shape == shape


def test_a_plain_number_is_a_score() -> None:
    assert apply_gate(0.7, made()).accepted.item() is True
    assert apply_gate(NAN, made()).provenance.item() == FAULT


finite = st.floats(1e-30, 1e3)
scores64 = npst.arrays(
    np.float64,
    npst.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=6),
    elements=st.one_of(st.sampled_from([0.0, 0.5, 0.75, NAN, INF]), st.floats(0, 1)),
)


@given(scores64, st.one_of(st.just(0.5), finite), st.one_of(st.none(), st.floats(1.01, 8)))
def test_it_is_the_reference_s_strict_inference(
    scores: npt.NDArray[np.float64], tau: float, multiple: float | None
) -> None:
    train = None if multiple is None else multiple * tau
    config = InferenceConfig(tau_infer=tau, tau_train=train)
    # without a numerator that could fail by itself: 0 / Q is 0, and no quotient overflows
    theirs = strict_inference_numpy(np.zeros_like(scores), scores, config=config)
    ours = apply_gate(scores, made(tau, train))
    assert np.array_equal(ours.bottom_mask, theirs.bottom_mask)
    assert np.array_equal(ours.gap_mask, theirs.gap_mask)
    assert np.array_equal(ours.provenance, theirs.bottom_provenance)


def test_a_flagged_row_is_the_reference_s_numerator_that_is_not_finite() -> None:
    scores, flags = np.array([0.1, 0.9, 0.6, NAN]), np.array([True, True, False, True])
    numerator = np.where(flags, NAN, 0.0)
    theirs = strict_inference_numpy(numerator, scores, config=InferenceConfig(0.5, 0.7))
    ours = apply_gate(scores, made(0.5, 0.7), fault=flags)
    assert np.array_equal(ours.provenance, theirs.bottom_provenance)
    assert np.array_equal(ours.gap_mask, theirs.gap_mask)


def test_float32_scores_are_the_reference_s_where_tau_is_a_float32() -> None:
    scores = np.array([0.1, 0.2, 0.3, 0.05], dtype=np.float32)
    tau = float(np.float32(0.1))
    theirs = strict_inference_numpy(np.zeros_like(scores), scores, config=InferenceConfig(tau))
    assert np.array_equal(apply_gate(scores, made(tau)).bottom_mask, theirs.bottom_mask)
    # the reference rounds tau to the scores' type, and so accepts what lies below tau
    tau = float(np.nextafter(tau, 1))
    theirs = strict_inference_numpy(np.zeros_like(scores), scores, config=InferenceConfig(tau))
    assert theirs.bottom_mask.tolist() == [False, False, False, True]
    assert apply_gate(scores, made(tau)).bottom_mask.tolist() == [True, False, False, True]


def test_another_gauge_is_refused_and_its_own_is_not() -> None:
    own = made()["gauge"]
    apply_gate([0.7], made(), gauge=own)
    apply_gate([0.7], made(), gauge={k: v for k, v in own.items() if k != "accept"})
    with pytest.raises(ValueError, match="normalisation 'none' and 'layer'"):
        apply_gate([0.7], made(), gauge={**own, "normalisation": "layer"})
    with pytest.raises(ValueError, match="accept 'high' and 'low'"):
        apply_gate([0.7], made(), gauge={**own, "accept": "low"})


@pytest.mark.parametrize(
    ("scores", "fault", "told"),
    [
        pytest.param([1, 2], None, "int64; float16", id="whole numbers"),
        pytest.param([0.5 + 1j], None, "complex128", id="complex"),
        pytest.param(
            np.array([1], dtype=np.longdouble), None, "longdouble|float128", id="wider than float64"
        ),
        pytest.param(["0.5"], None, "<U3", id="text"),
        pytest.param([-0.1, 0.5], None, "absolute values", id="a signed magnitude"),
        pytest.param(np.ma.array([0.5], mask=[True]), None, "masked", id="masked"),
        pytest.param([0.5, 0.6], [True], "shape", id="another shape of fault"),
        pytest.param([0.5], [1], "bool", id="fault of numbers"),
    ],
)
def test_input_that_could_be_misread_is_refused(scores: Any, fault: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        apply_gate(scores, made(), fault=fault)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        pytest.param({"format": "other"}, "'other' version 1", id="format"),
        pytest.param({"schema_version": 2}, "version 2", id="version"),
        pytest.param({"tau_infer": NAN}, "tau_infer: nan", id="nan"),
        pytest.param({"tau_infer": 10**400}, "tau_infer: 1000", id="no float"),
        pytest.param({"tau_infer": True}, "tau_infer: True", id="bool"),
        pytest.param({"tau_infer": "0.5"}, "tau_infer: '0.5'", id="text"),
        pytest.param({"use_gap": True}, "tau_train: None", id="gap without tau_train"),
        pytest.param({"use_gap": True, "tau_train": 0.5}, "stricter", id="empty gap"),
        pytest.param({"use_gap": 1, "tau_train": 0.7}, "use_gap: 1", id="gap of a number"),
        pytest.param({"gauge": {"accept": "both"}}, "accept: 'both'", id="accept"),
    ],
)
def test_a_bundle_that_cannot_be_applied_is_refused(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        apply_gate([0.5], made(**changed))


@pytest.mark.parametrize("key", sorted(made()))
def test_a_key_that_is_needed_and_missing_is_named(key: str) -> None:
    bundle = made()
    del bundle[key]
    with pytest.raises(ValueError, match=f"key {key}: missing"):
        apply_gate([0.5], bundle)


ALONE = """
import importlib.abc, json, sys
class Only(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in {"numpy", "gate_alone"} and top not in sys.stdlib_module_names:
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Only())
import gate_alone
found = gate_alone.apply_gate([0.1, 0.6, float("nan")], json.load(open("metadata.json")))
print(found.provenance.tolist(), found.gap_mask.tolist())
"""


def test_the_file_works_copied_alone_with_numpy_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "gate_alone.py").write_bytes(Path(apply.__file__).read_bytes())
    (tmp_path / "metadata.json").write_text(json.dumps(made(0.5, 0.7)))
    done = subprocess.run(
        [sys.executable, "-c", ALONE],
        cwd=tmp_path,
        env={},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "[2, 0, 1] [False, True, False]\n", done.stderr
