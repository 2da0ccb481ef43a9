from __future__ import annotations

from io import BytesIO
from itertools import combinations

import numpy as np
import polars as pl
import pytest
from matplotlib.figure import Figure
from PIL import Image

from dagster_project.lib import pictures as house
from dagster_project.lib.tiers import pictures
from dagster_project.lib.tiers.curve import coverage_curve
from dagster_project.lib.tiers.policy import DEFAULT_POLICY, PossibleItem, TierPolicy, parse_policy
from dagster_project.lib.tiers.reports import possible_item_sweep, refer_candidates
from dagster_project.lib.tiers.selection import fit_thresholds
from dagster_project.lib.tiers.thresholds import Thresholds

AT = Thresholds(0.815, 0.444, 0.25)
FIXED = parse_policy(
    {"confident": {"rule": "fixed", "target": 1.0}, "refer": {"rule": "fixed", "target": 1.0}}
)


def colours(png: bytes) -> set[tuple[int, ...]]:
    pixels = np.asarray(Image.open(BytesIO(png)).convert("RGB")).reshape(-1, 3)
    return {tuple(int(v) for v in row) for row in np.unique(pixels, axis=0)}


@pytest.mark.parametrize("policy", [DEFAULT_POLICY, FIXED], ids=["fitted", "everyone_is_referred"])
def test_the_curve_is_small_the_same_twice_and_shows_wrong_answers(
    original: pl.DataFrame, policy: TierPolicy
) -> None:
    fit = fit_thresholds(original, policy)
    curve = coverage_curve(original)
    png = pictures.curve_png(curve, fit, deployed=AT)
    assert png == pictures.curve_png(curve, fit, deployed=AT)
    assert png != pictures.curve_png(curve, fit)
    assert len(png) <= 90_000
    assert (0xD5, 0x5E, 0x00) in colours(png)


def test_one_row_can_be_drawn() -> None:
    one = pl.DataFrame(
        {"image_uuid": ["a"], "patient_id": ["p"], "score": [0.5], "top1": [True], "top3": [True]}
    )
    fit = fit_thresholds(one, DEFAULT_POLICY)
    assert pictures.curve_png(coverage_curve(one), fit).startswith(b"\x89PNG")


def test_the_histogram_is_small_and_shows_all_tiers(original: pl.DataFrame) -> None:
    png = pictures.histogram_png(original, AT)
    assert len(png) <= 90_000
    assert {(0x00, 0x72, 0xB2), (0xE6, 0x9F, 0x00), (0x99, 0x99, 0x99)} <= colours(png)


def test_the_sweep_is_drawn_with_and_without_possible_rows(original: pl.DataFrame) -> None:
    full = possible_item_sweep(original, AT, PossibleItem())
    empty = possible_item_sweep(original, Thresholds(0.5, 0.5, 0.25), PossibleItem())
    drawn, blank = pictures.sweep_png(full, 0.25), pictures.sweep_png(empty, 0.25)
    assert len(drawn) <= 90_000
    assert drawn != blank


def test_a_curve_without_a_fit_marks_nothing(original: pl.DataFrame) -> None:
    curve = coverage_curve(original)
    bare = pictures.curve_png(curve)
    assert bare == pictures.curve_png(curve)
    assert bare != pictures.curve_png(curve, fit_thresholds(original, DEFAULT_POLICY))
    blue = tuple(bytes.fromhex(house.CONFIDENT[1:]))
    assert blue not in colours(bare)
    assert blue in colours(pictures.curve_png(curve, deployed=AT))


SATURATED = pl.DataFrame(
    {
        "threshold": [0.998, 0.999, 1.0],
        "refer_share": [0.065, 0.066, 0.547],
        "n_refer": [650, 660, 5470],
        "kept_top1": [0.999, 1.0, None],
        "kept_top3": [0.9999, 1.0, None],
    }
)


def drawn(candidates: pl.DataFrame, monkeypatch: pytest.MonkeyPatch) -> Figure:
    """The figure of ``refer_png``."""
    figures: list[Figure] = []

    def keep(figure: Figure) -> bytes:
        figures.append(figure)
        figure.canvas.draw()
        return b""

    monkeypatch.setattr(house, "png", keep)
    pictures.refer_png(candidates)
    return figures[0]


@pytest.mark.parametrize("saturated", [False, True], ids=["original_run", "saturated"])
def test_the_labels_of_the_candidates_overlap_neither_each_other_nor_the_points(
    original: pl.DataFrame, monkeypatch: pytest.MonkeyPatch, saturated: bool
) -> None:
    candidates = SATURATED if saturated else refer_candidates(original, 0.13)
    axes = drawn(candidates, monkeypatch).axes[0]
    labels = [text.get_window_extent() for text in axes.texts]
    assert [text.get_text() for text in axes.texts] == [
        f"refer < {threshold:.3f}" for threshold in candidates["threshold"]
    ]
    assert not any(a.overlaps(b) for a, b in combinations(labels, 2))
    rates = candidates.select("kept_top1", "kept_top3").drop_nulls().to_numpy()
    lowest = axes.transData.transform((0, rates.min()))[1]
    assert lowest > max(label.y1 for label in labels)


def test_the_candidates_are_small_the_same_twice_and_drawn_even_if_nobody_is_kept(
    original: pl.DataFrame,
) -> None:
    candidates = refer_candidates(original, 0.13)
    png = pictures.refer_png(candidates)
    assert png == pictures.refer_png(candidates)
    assert len(png) <= 90_000
    nobody = SATURATED[2:]
    assert pictures.refer_png(nobody) != pictures.refer_png(nobody.with_columns(kept_top1=0.9))
