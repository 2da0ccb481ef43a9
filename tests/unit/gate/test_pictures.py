"""A gate's pictures: every point named, none hidden, in the scores' own units."""

from __future__ import annotations

from copy import deepcopy
from itertools import combinations
from typing import Any

import gate_reports as made
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dagster_project.lib import pictures as house
from dagster_project.lib.gate import pictures
from dagster_project.lib.gate.distribution import BINS, distribution
from dagster_project.lib.gate.scores import GateScores

CLOSE = {"safety_first": 0.12, "accuracy_first": 0.09, "balanced": 0.1, "direction_aware": 0.1,
         "a_rule_with_a_long_name_of_forty_letters_": 0.11, "far": 40.0}  # fmt: skip


@pytest.fixture(scope="module")
def found() -> GateScores:
    return made.scores()


@pytest.fixture(scope="module")
def sweep(found: GateScores) -> dict[str, Any]:
    return made.sweep(found)


@pytest.fixture(scope="module")
def points(found: GateScores) -> dict[str, Any]:
    return made.points(found, CLOSE, "safety_first")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that become PNGs."""
    figures: list[Figure] = []

    def keep(figure: Figure) -> bytes:
        figures.append(figure)
        return b""

    monkeypatch.setattr(house, "png", keep)
    return figures


def words_of(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts if text.get_text()]


def test_points_that_lie_together_are_all_named_and_no_name_hides_another(
    sweep: dict[str, Any], points: dict[str, Any], drawn: list[Figure]
) -> None:
    pictures.sweep_png(sweep, points)
    [figure] = drawn
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    renderer = canvas.renderer
    [axes] = figure.axes
    labels = [text for text in axes.texts if text.get_text()]
    assert sorted(text.get_text() for text in labels) == sorted([
        "safety_first 0.12 (frozen)", "accuracy_first 0.09", "balanced = direction_aware 0.1",
        "a_rule_with_a_long_name_of_forty_letters_ 0.11", "far 40",
    ])  # fmt: skip
    boxes = [text.get_window_extent(renderer) for text in labels]
    assert not [1 for a, b in combinations(boxes, 2) if a.overlaps(b)]
    assert all(box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1 for box in boxes)
    lines = {line.get_label(): line for line in axes.lines}
    assert axes.get_xscale() == "log"
    assert len({line.get_linestyle() for name, line in lines.items() if ":" in str(name)}) == 3


def test_points_stand_where_the_evaluation_cases_put_them_with_their_bounds(
    sweep: dict[str, Any], points: dict[str, Any], drawn: list[Figure]
) -> None:
    third = made.bound(0.04, 0.02)
    points = deepcopy(points)
    points["points"]["safety_first"]["bounds"]["accepted_censored"] = third
    pictures.tradeoff_png(sweep, points)
    [axes] = drawn[0].axes
    lines = {str(line.get_label()).split(";")[0]: line for line in axes.lines}
    rates = points["points"]["safety_first"]["evaluation"]
    x, y = (np.asarray(data).item() for data in lines["safety_first (frozen)"].get_data())
    assert (x, y) == (rates["fn_in"]["rate"], rates["fp_cens"]["rate"])
    target = points["points"]["safety_first"]["bounds"]["fp_cens"]["target"]
    assert any(np.array_equal(line.get_ydata(), [y, target]) for line in axes.lines)
    assert f"fp_cens certified at {100 * target:g} % or less (bar)" in " ".join(
        str(line.get_label()) for line in axes.lines
    )
    assert "accepted_censored certified at 4 % or less;" in " ".join(
        f"{line.get_label()};" for line in axes.lines
    ), "no bar is drawn for it"
    judged = points["split"]["evaluation"]
    assert (
        drawn[0]
        .get_suptitle()
        .endswith(
            f"{judged['in_range']:,} evaluation cases in range, {judged['censored']:,} out of range"
        )
    )
    markers = [
        line.get_marker() for name, line in lines.items() if not name.startswith(("_", "all"))
    ]
    assert len({*markers}) == len(markers) == 5


def test_the_scores_own_units_and_sides_are_shown(drawn: list[Figure]) -> None:
    found = made.scores(accept="low")
    sweep = made.sweep(found)
    points = made.points(found, {"safety_first": -5.0}, "safety_first")
    pictures.distribution_png(sweep, points)
    [axes] = drawn[0].axes
    assert "score > tau" in axes.get_xlabel()
    assert "tau_infer 5" in words_of(axes)
    assert {"\u2190 answered", "no answer \u2192"} <= {*words_of(axes)}
    assert axes.get_xlim()[0] > 0


def test_many_points_do_not_squeeze_the_axes(
    found: GateScores, sweep: dict[str, Any], drawn: list[Figure]
) -> None:
    few = made.points(found, {"safety_first": 0.2}, "safety_first")
    taus = {"safety_first": 0.2, **{f"a_rule_{i}": 0.1 + i / 1000 for i in range(10)}}
    many = made.points(found, taus, "safety_first")
    for points in (few, many):
        pictures.sweep_png(sweep, points)
        pictures.tradeoff_png(sweep, points)
    heights = []
    for figure in drawn:
        figure.draw_without_rendering()
        heights.append(figure.axes[0].get_window_extent().height)
    assert min(heights[2] / heights[0], heights[3] / heights[1]) > 0.8


def test_few_taus_are_marked_as_what_is_known(
    sweep: dict[str, Any], points: dict[str, Any], drawn: list[Figure]
) -> None:
    few = {
        **sweep,
        **{of: {key: values[::10] for key, values in sweep[of].items()}
           for of in ("curves", "evaluation_curves")},
    }  # fmt: skip
    for curves in (sweep, few):
        pictures.sweep_png(curves, points)
        pictures.tradeoff_png(curves, points)
    marks = [figure.axes[0].lines[0].get_marker() for figure in drawn]
    assert marks == ["", "", ".", "."]


def test_a_gray_zone_is_shaded_from_tau_infer_to_tau_train(
    sweep: dict[str, Any], points: dict[str, Any], drawn: list[Figure]
) -> None:
    pictures.distribution_png(sweep, points)
    pictures.sweep_png(sweep, points)
    for figure in drawn:
        [span] = [p for p in figure.axes[0].patches if "gray zone" in str(p.get_label())]
        box = span.get_extents().transformed(figure.axes[0].transData.inverted())
        assert (box.x0, box.x1) == pytest.approx((0.12, 0.24))
    assert {"tau_infer 0.12", "tau_train 0.24"} <= {*words_of(drawn[0].axes[0])}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ["faults", "constant", "one_kind", "negative"])
def test_odd_scores_are_drawn_too(kind: str, drawn: list[Figure]) -> None:
    found = made.scores(64)
    if kind == "faults":
        found.fault[:] = True
    elif kind == "constant":
        found.score[:] = 0.0
    elif kind == "negative":
        found.score[:] = np.log(np.abs(found.score))
    else:
        found.in_range[:] = True
    if kind == "faults":
        curves: dict[str, Any] = {key: [] for key in ("taus", *made.RATES)}
        sweep = {"curves": curves, "evaluation_curves": curves,
                 "distribution": distribution(found),
                 "provenance": {"gauge": found.gauge.model_dump()}}  # fmt: skip
        points = made.points(found, {"safety_first": None}, "safety_first")
    else:
        sweep = made.sweep(found)
        points = made.points(found, {"safety_first": 0.0}, "safety_first")
    for draw in (pictures.sweep_png, pictures.tradeoff_png, pictures.distribution_png):
        draw(sweep, points)
    for figure in drawn:
        figure.draw_without_rendering()
    if kind != "faults":
        assert any(text.startswith("safety_first 0") for text in words_of(drawn[0].axes[0]))


def test_the_same_report_is_the_same_picture(sweep: dict[str, Any], points: dict[str, Any]) -> None:
    assert pictures.distribution_png(sweep, points) == pictures.distribution_png(sweep, points)


# distribution


def test_every_row_is_in_a_bin_or_counted_beside_them(found: GateScores) -> None:
    told = distribution(found)
    assert told["scale"] == "log"
    assert len(told["edges"]) == BINS + 1
    for name, of in (("in_range", found.in_range), ("censored", ~found.in_range)):
        kind = told[name]
        total = sum(kind["counts"]) + kind["below"] + kind["above"] + kind["faults"]
        assert total == kind["n"] == int(of.sum())
    low, high = told["edges"][3:5]
    inside = found.in_range & (found.score >= low) & (found.score < high)
    assert told["in_range"]["counts"][3] == int(inside.sum())


def test_a_zero_among_magnitudes_does_not_end_the_logarithm(found: GateScores) -> None:
    score = found.score.copy()
    score[1::10] = 0.0
    told = distribution(GateScores(**{**vars(found), "score": score}))
    assert told["scale"] == "log"
    assert told["edges"][0] > 1e-4
    assert told["in_range"]["below"] + told["censored"]["below"] >= 400


def test_scores_of_one_decade_or_below_zero_are_binned_as_they_are(found: GateScores) -> None:
    for score in (np.linspace(0.5, 1.0, len(found)), np.linspace(-2.0, 900.0, len(found))):
        rows = GateScores(**{**vars(found), "score": score})
        assert distribution(rows)["scale"] == "linear"
