"""A small synthetic set of |Q| scores: a model that divides, and should sometimes not answer.

Belongs: drawing the rows, their files, and the configuration that is declared for them.
Does not: the gate (``lib.gate``); anything about the images of the world (``world``).
Concept: an assay's values are censored on two sides, below what it can quantify and above where it
saturates; a rational model's denominator comes near zero there. What is planted is written here as
constants, so that a walk-through can say planted beside found. N = rows.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dagster_project.lib.demo.seeds import stream
from dagster_project.lib.files import make_folder, write_json
from dagster_project.lib.tables import with_metadata, write_arrow

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

SEED = 20261122
CASES = 1500
ROWS_A_CASE = (0.25, 0.35, 0.25, 0.15)
"""Chances of one to four readings of a case; they share which side they are on, and half a look."""

SIDES = ("in_range", "below", "above")
SHARES = (0.70, 0.18, 0.12)
LOG10_Q = {"in_range": (-0.4, 0.45), "below": (-2.6, 0.70), "above": (-2.2, 0.70)}
"""Mean and spread of log10 |Q|: decades apart, and overlapping."""

OF_THE_CASE = 0.5
"""Share of that variance which the readings of a case have in common."""

SIDE_IS_RIGHT = 0.85
"""How often the model, asked for a side, says the true one; of rows in range it says any."""

NOT_A_NUMBER = 0.004
FLAGGED = 0.003

GAUGE = {
    "head": "denominator",
    "magnitude": "abs",
    "normalisation": "unit leading coefficient",
    "accept": "high",
}
IDENTITY = {
    "model_family": "rational, degree 3 over 2",
    "model_tree_hash": None,
    "preprocessing": "log dose, centred",
    "dataset": "synthetic assay",
}
STRICTER = "one_in_a_thousand"
"""A rule that so few cases cannot back."""


def write_demo_gate(folder: Path, *, seed: int = SEED) -> tuple[Path, Path]:
    """Draw the set: same seed, same bytes.

    Returns
    -------
    ``gate_scores.parquet`` (``score`` float32, ``in_range``, ``fault``, ``group``,
    ``direction_true``, ``direction_pred``; gauge and identity in its metadata) and ``gate.json``.
    """
    make_folder(folder)
    scores, config = folder / "gate_scores.parquet", folder / "gate.json"
    texts = {"gauge": GAUGE, "identity": IDENTITY}
    metadata = {name: json.dumps(value, sort_keys=True) for name, value in texts.items()}
    write_arrow(scores, with_metadata(_rows(seed), metadata))
    write_json(config, demo_config())
    return scores, config


def demo_config() -> dict[str, Any]:
    """What is declared, before a label is seen, of a gate on these scores."""
    return {
        "gauge": GAUGE,
        "identity": IDENTITY,
        "certify": {"delta": 0.05, "max_rows_per_group": 4},
        "points": {
            "safety_first": {"target": 0.05},
            "accuracy_first": {"target": 0.05},
            "rules": {
                "few_wrong_answers": {
                    "choose": "best",
                    "bound": {"accepted_censored": 0.02},
                    "order": ["fn_in", "cost"],
                },
                STRICTER: {"choose": "smallest", "bound": {"fp_cens": 0.001}},
            },
        },
        "gray_zone": {"multiple": 2.0, "tau_infer": {"quantile": 0.05, "of": "in_range"}},
        "freeze": "safety_first",
    }


def planted(folder: Path) -> dict[str, Any]:
    """What was planted in the file that :func:`write_demo_gate` wrote, counted."""
    import polars as pl

    rows = pl.read_parquet(folder / "gate_scores.parquet")
    return {
        "rows": rows.height,
        "cases": rows["group"].n_unique(),
        "in_range": int(rows["in_range"].sum()),
        **{side: int((rows["direction_true"] == side).sum()) for side in SIDES[1:]},
        "not_a_number": int(rows["score"].is_nan().sum()),
        "flagged": int(rows["fault"].sum()),
    }


def _rows(seed: int) -> pa.Table:
    """(N,) rows, by case and reading; a generator for every purpose."""
    import pyarrow as pa

    sizes = 1 + stream(seed, "gate", "readings").choice(len(ROWS_A_CASE), CASES, p=ROWS_A_CASE)
    of_case = stream(seed, "gate", "side").choice(len(SIDES), CASES, p=SHARES)
    case = np.repeat(np.arange(CASES), sizes)
    side = of_case[case]
    n = case.size
    broken = stream(seed, "gate", "faults").random(n)
    score = _denominators(seed, case, side)
    score[broken < NOT_A_NUMBER] = np.nan
    names = np.array(["", *SIDES[1:]], dtype=object)
    said = _sides_said(seed, side)
    return pa.table(
        {
            "score": pa.array(score, pa.float32()),
            "in_range": pa.array(side == 0),
            "fault": pa.array((broken >= NOT_A_NUMBER) & (broken < NOT_A_NUMBER + FLAGGED)),
            "group": pa.array([f"case-{number:04d}" for number in case]),
            "direction_true": pa.array(names[side], pa.string(), mask=side == 0),
            "direction_pred": pa.array(names[said], pa.string()),
        }
    )


def _denominators(
    seed: int, case: npt.NDArray[np.int64], side: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """(N,) |Q|, log-normal by side; readings of a case are alike."""
    mean, spread = (np.array([LOG10_Q[name][part] for name in SIDES])[side] for part in (0, 1))
    shared = stream(seed, "gate", "case").standard_normal(CASES)[case]
    own = stream(seed, "gate", "reading").standard_normal(case.size)
    z = np.sqrt(OF_THE_CASE) * shared + np.sqrt(1 - OF_THE_CASE) * own
    # exact in float32 on every machine: the last digits of a power are the library's
    found: npt.NDArray[np.float32] = np.round(10.0 ** (mean + spread * z), 6).astype(np.float32)
    return found


def _sides_said(seed: int, side: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(N,) 1 or 2: the side that the model names when it is asked for one."""
    draw = stream(seed, "gate", "said")
    right = draw.random(side.size) < SIDE_IS_RIGHT
    anything = draw.integers(1, 3, side.size)
    said: npt.NDArray[np.int64] = np.where(side == 0, anything, np.where(right, side, 3 - side))
    return said
