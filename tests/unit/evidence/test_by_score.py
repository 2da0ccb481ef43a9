"""Counting by score: one sort for any float, packed or not, ties whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dagster_project.lib.evidence.by_score import counts_by_score


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "spread",
    [
        pytest.param((0.0, 1.0), id="packed"),
        pytest.param((0.0, 9.0), id="above_two"),
        pytest.param((-3.0, 1.0), id="negative"),
    ],
)
@pytest.mark.parametrize("n_flags", [1, 2, 3])
def test_counts_are_those_of_a_mask_at_every_distinct_score(
    dtype: Any, spread: tuple[float, float], n_flags: int
) -> None:
    rng = np.random.default_rng(3)
    score = rng.choice(np.linspace(*spread, 40), 50_000).astype(dtype)  # several blocks, many ties
    flags = [rng.random(score.size) < 0.3 for _ in range(n_flags)]
    found = counts_by_score(score, flags)
    assert found.threshold.tolist() == sorted(set(score.astype(float).tolist()), reverse=True)
    assert len(found.hits) == n_flags
    for at in (0, 17, -1):
        inside = score >= found.threshold[at]
        assert found.n[at] == inside.sum()
        assert [hit[at] for hit in found.hits] == [(inside & flag).sum() for flag in flags]


def test_minus_zero_is_zero_and_no_row_gives_no_count() -> None:
    for score in (np.array([-0.0, 0.0, 1.0]), np.array([-0.0, 0.0, 5.0])):
        found = counts_by_score(score, [np.array([True, False, True])])
        assert found.n.tolist() == [1, 3]
        assert not np.signbit(found.threshold[-1])
        assert found.hits[0].tolist() == [1, 2]
    assert counts_by_score(np.empty(0), [np.empty(0, dtype=bool)]).n.size == 0
