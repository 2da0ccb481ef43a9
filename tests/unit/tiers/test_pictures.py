from __future__ import annotations

from io import BytesIO

import numpy as np
import polars as pl
import pytest
from PIL import Image

from dagster_project.lib.tiers import pictures
from dagster_project.lib.tiers.curve import coverage_curve
from dagster_project.lib.tiers.policy import DEFAULT_POLICY, PossibleItem, TierPolicy, parse_policy
from dagster_project.lib.tiers.reports import possible_item_sweep
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
    fit = fit_thresholds(original, policy, bootstraps=0)
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
