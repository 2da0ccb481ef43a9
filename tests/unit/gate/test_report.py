"""A gate's reports: plain JSON, counted on the rows that they say, frozen only where backed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gate_reports as made
import numpy as np
import pytest

from dagster_project.lib import sums
from dagster_project.lib.errors import RefusedError
from dagster_project.lib.gate import bundle, pictures, publish, sweep
from dagster_project.lib.gate.config import GateConfig, parse_config
from dagster_project.lib.gate.report import (
    GateInputs,
    GateReport,
    gate_report,
    points_report,
    sweep_report,
)
from dagster_project.lib.gate.scores import GateScores
from dagster_project.lib.gate.words import pinned


def config(**keys: Any) -> GateConfig:
    return parse_config({"gauge": made.GAUGE, **keys})


@pytest.fixture(scope="module")
def scores() -> GateScores:
    return made.scores()


@pytest.fixture(scope="module")
def report(scores: GateScores) -> GateReport:
    return gate_report(GateInputs(scores, config()))


def test_the_curves_are_of_all_rows_and_of_those_that_judge(scores: GateScores) -> None:
    taus = [0.05, 0.2, 0.7]
    found = sweep_report(scores, config(taus=taus))
    rows = {"curves": np.ones(len(scores), dtype=bool), "evaluation_curves": ~scores.first}
    for name, of in rows.items():
        curves = found[name]
        expected = made.curves(scores, np.array(curves["taus"]), of)
        assert set(taus) <= set(curves["taus"])
        for key in ("fn_in", "fp_cens", "bottom_rate"):
            assert curves[key] == pytest.approx(expected[key], abs=1e-15)


def test_a_thinned_report_judges_at_the_taus_that_it_writes_and_counts_them(
    scores: GateScores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "MAX_POINTS", 20)
    pin = float(np.sort(scores.score[~scores.fault])[7])
    found = sweep_report(scores, config(), pins=[pin])
    taus = found["curves"]["taus"]
    assert pin in taus
    assert found["evaluation_curves"]["taus"] == taus
    told = found["provenance"]
    assert told["taus_written"] == len(taus) <= 20 < told["taus"]


@pytest.mark.parametrize("accept", ["high", "low"])
def test_every_point_stands_on_the_curve_in_the_files_units(accept: str) -> None:
    rows = made.scores(accept=accept)
    gauge = {**made.GAUGE, "accept": accept}
    taus = {"quantiles": 201}  # of all rows for the sweep, of the judging ones for the points
    found = gate_report(GateInputs(rows, parse_config({"gauge": gauge, "taus": taus})))
    pins = pinned(found.points)
    assert pins
    assert set(pins.values()) <= set(found.sweep["curves"]["taus"])
    assert (min(pins.values()) > 0) and found.bundle is not None
    edges = found.sweep["distribution"]["edges"]
    assert edges[0] < min(pins.values()) < edges[-1]


def test_what_is_not_backed_is_named_once_by_report_and_by_bundle(scores: GateScores) -> None:
    never = config(points={"safety_first": {"target": 0.0}})
    alone = points_report(scores, never)["freeze"]["reason"]
    assert alone == gate_report(GateInputs(scores, never)).points["freeze"]["reason"]
    assert alone.startswith("safety_first is unavailable: fp_cens")


def test_a_bundle_that_is_refused_leaves_everything_else_and_the_reason(
    scores: GateScores, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> dict[str, Any]:
        raise RefusedError("not today")

    monkeypatch.setattr(bundle, "freeze", refuse)
    found = gate_report(GateInputs(scores, config()))
    assert found.bundle is None
    assert found.points["freeze"] == {
        "point": "safety_first", "frozen": False, "reason": "not today"
    }  # fmt: skip
    assert found.sweep["curves"]["taus"]


def test_reports_are_plain_json_and_the_steps_are_counted(scores: GateScores) -> None:
    seen: list[tuple[int, int, str]] = []

    def show(done: int, total: int, note: str = "") -> None:
        seen.append((done, total, note))

    found = gate_report(GateInputs(scores, config()), on_progress=show)
    assert [done for done, _, _ in seen] == [1, 2, 3, 4]
    for value in (found.sweep, found.points, found.bundle):
        assert json.loads(json.dumps(value, allow_nan=False)) == value


def test_an_earlier_bundle_does_not_stay_beside_a_report_that_froze_nothing(
    report: GateReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("sweep_png", "tradeoff_png", "distribution_png"):
        monkeypatch.setattr(pictures, name, lambda *_: b"picture")
    assert report.bundle is not None
    out = publish.write(report, tmp_path / "gate")
    assert {path.name for path in out.iterdir()} == {*publish.FILES, sums.SUMS}
    assert sums.verify(out) == []
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    publish.write(report, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == first
    publish.write(GateReport(report.sweep, report.points, None), out)
    assert publish.BUNDLE not in {path.name for path in out.iterdir()}
    assert sums.verify(out) == []
