from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from dagster_project.lib.evidence.bootstrap import ratio_intervals

RNG = np.random.default_rng(4)
COUNTS = pl.DataFrame({"n": RNG.integers(1, 4, 600), "k": np.zeros(600, dtype=np.int64)})
COUNTS = COUNTS.with_columns(k=pl.Series(RNG.binomial(COUNTS["n"].to_numpy(), 0.3)))


def test_the_interval_equals_that_of_resampling_patients_one_by_one() -> None:
    found = ratio_intervals(COUNTS, {"rate": ("k", "n")}, draws=4000)["rate"]
    n, k = COUNTS["n"].to_numpy(), COUNTS["k"].to_numpy()
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, 600, (4000, 600))
    expected = np.quantile(k[drawn].sum(axis=1) / n[drawn].sum(axis=1), [0.025, 0.975])
    # two simulations of 4,000: their ends differ by about a fiftieth of the width
    assert found == pytest.approx(expected.tolist(), abs=0.05 * (expected[1] - expected[0]))


def test_the_same_seed_gives_the_same_interval_in_any_order_of_patients() -> None:
    ratios = {"rate": ("k", "n")}
    assert ratio_intervals(COUNTS, ratios) == ratio_intervals(COUNTS.reverse(), ratios)
    assert ratio_intervals(COUNTS, ratios) != ratio_intervals(COUNTS, ratios, seed=1)


@pytest.mark.parametrize(
    "counts",
    [
        pytest.param(COUNTS[:1], id="one_patient"),
        pytest.param(COUNTS.with_columns(n=pl.lit(0)), id="nothing_to_divide_by"),
        # in a third of all resamples the only patient with rows is missing
        pytest.param(pl.DataFrame({"k": [1, 0, 0], "n": [1, 0, 0]}), id="mostly_undefined"),
    ],
)
def test_an_undefined_interval_is_null(counts: pl.DataFrame) -> None:
    assert ratio_intervals(counts, {"rate": ("k", "n")}) == {"rate": None}
