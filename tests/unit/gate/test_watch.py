"""Newer scores under a frozen gate: counted by hand, of one gauge, and why to sweep again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from gate_rows import frozen

from dagster_project.lib import files, tables
from dagster_project.lib.errors import InputError
from dagster_project.lib.files import sha256_file
from dagster_project.lib.gate.bundle import Bundle
from dagster_project.lib.gate.config import GateConfig, Gauge, Identity, Relabel, parse_config
from dagster_project.lib.gate.scores import observe, read_scores
from dagster_project.lib.gate.watch import watched
from dagster_project.lib.tables import with_metadata, write_arrow

GAUGE = {"head": "q", "magnitude": "abs", "normalisation": "none", "accept": "high"}
STATED = {"model_family": "rational", "preprocessing": "v1"}
SCORE = [0.05, 0.1, 0.15, 0.2, np.nan, np.inf, 0.3, 0.01]
"""Under 0.1 and 0.2: two below, two in the gap, two answered besides, two without a number."""


def bundle(**others: Any) -> Bundle:
    """What of a bundle is looked at."""
    made = {
        **frozen(0.1, 0.2, gauge=Gauge(**GAUGE)),
        "gauge": Gauge(**GAUGE),
        "relabel": None,
        "identity": Identity(**STATED),
        **others,
    }
    return Bundle.model_construct(**{**made, "use_gap": made["tau_train"] is not None})


def written(folder: Path, score: Any = SCORE, **texts: Any) -> Path:
    path = folder / "live.parquet"
    columns = {"score": pa.array(score), **texts.pop("columns", {})}
    metadata = {key: json.dumps(value) for key, value in texts.items()}
    write_arrow(path, with_metadata(pa.table(columns), metadata))
    return path


def config(**keys: Any) -> GateConfig:
    return parse_config({"gauge": GAUGE, **keys})


def test_rates_are_those_counted_by_hand_and_need_no_label(tmp_path: Path) -> None:
    path = written(tmp_path, gauge=GAUGE, identity=STATED)
    found = watched(path, bundle())
    assert found == {
        "n": 8,
        "bottom_rate": 4 / 8,
        "gap_rate": 2 / 8,
        "accept_rate": 4 / 8,
        "fault_rate": 2 / 8,
        "semantic_bottom_rate": 2 / 8,
        "sha256": sha256_file(path),
        "reasons": [],
        "unstated": ["dataset", "model tree hash"],
    }
    flags = pa.array([True, False, False, True, False, False, False, False])
    flagged = watched(written(tmp_path, columns={"fault": flags}, gauge=GAUGE), bundle())
    rates = [flagged[name] for name in ("fault_rate", "bottom_rate", "gap_rate")]
    assert rates == [4 / 8, 5 / 8, 2 / 8]
    assert flagged["unstated"] == ["dataset", "model family", "model tree hash", "preprocessing"]


def test_where_low_scores_are_accepted_the_far_side_is_no_answer(tmp_path: Path) -> None:
    gauge = {**GAUGE, "magnitude": "distance", "accept": "low"}
    low = bundle(tau_infer=0.2, tau_train=0.1, gauge=Gauge(**gauge))
    found = watched(written(tmp_path, gauge=gauge), low)
    rates = [found[name] for name in ("semantic_bottom_rate", "bottom_rate", "gap_rate")]
    assert rates == [1 / 8, 3 / 8, 2 / 8]


def test_of_what_the_scores_are_the_file_says_first_and_then_the_configuration(
    tmp_path: Path,
) -> None:
    other = config(identity={"preprocessing": "v2", "model_family": "rational"})
    silent = written(tmp_path)
    assert watched(silent, bundle())["unstated"][0] == "gauge"
    assert watched(silent, bundle(), other)["reasons"] == ['preprocessing was "v1", is "v2"']
    assert "gauge" not in watched(silent, bundle(), other)["unstated"]
    outspoken = written(tmp_path, identity={"preprocessing": "v3"})
    assert watched(outspoken, bundle(), other)["reasons"] == ['preprocessing was "v1", is "v3"']


def test_another_gauge_is_refused_unless_the_bundle_was_made_of_it(tmp_path: Path) -> None:
    recorded = {**GAUGE, "normalisation": "layer"}
    path = written(tmp_path, gauge=recorded)
    told = 'the bundle and live.parquet: normalisation "none" and "layer"'
    with pytest.raises(InputError, match=told):
        watched(path, bundle())
    with pytest.raises(InputError, match='the configuration: head "q" and "p"'):
        watched(written(tmp_path), bundle(), config(gauge={**GAUGE, "head": "p"}))
    path = written(tmp_path, gauge=recorded)
    relabelled = bundle(relabel=Relabel(recorded=Gauge(**recorded), reason="renamed"))
    assert watched(path, relabelled)["n"] == len(SCORE)


@pytest.mark.parametrize(
    ("score", "told"),
    [
        pytest.param([0.1, -0.2], "column score: a score is negative", id="negative"),
        pytest.param(pa.array([], pa.float64()), "no row", id="empty"),
        pytest.param([1, 2], "column score: int64", id="whole_numbers"),
    ],
)
def test_scores_that_cannot_be_watched_are_refused(tmp_path: Path, score: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        watched(written(tmp_path, score), bundle())
    assert watched(written(tmp_path, [0.3, -np.inf]), bundle())["fault_rate"] == 0.5


def test_an_observation_tells_content_and_counts_and_reads_no_score(tmp_path: Path) -> None:
    labels = {"in_range": pa.array([True] * 5 + [False] * 3)}
    path = written(tmp_path, ["text"] * 8, columns=labels, gauge=GAUGE)
    assert observe(path) == {
        "sha256": sha256_file(path),
        "rows": 8,
        "in_range": 5,
        "censored": 3,
        "gauge": GAUGE,
        "identity": None,
    }
    with pytest.raises(InputError, match="in_range"):
        observe(written(tmp_path))


def test_a_file_replaced_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = {"in_range": pa.array([True, False] * 4)}
    path = written(tmp_path, columns=labels)
    read = tables.read_arrow

    def then_replaced(*given: Any) -> pa.Table:
        table = read(*given)
        written(tmp_path, SCORE[::-1], columns=labels)
        return table

    monkeypatch.setattr(tables, "read_arrow", then_replaced)
    with pytest.raises(InputError, match=r"live\.parquet: changed while it was read"):
        read_scores(path, config())
    monkeypatch.undo()
    assert read_scores(path, config()).source["sha256"] == files.sha256_file(path)
