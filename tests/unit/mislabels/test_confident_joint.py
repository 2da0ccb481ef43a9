"""The confident joint is cleanlab's own, bit for bit, and so is what it flags."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_project.lib.mislabels.confident_joint import BLOCK, confident_joint


def check(probs: np.ndarray, labels: np.ndarray) -> None:
    from cleanlab.count import compute_confident_joint

    own = probs[np.arange(len(labels)), labels]
    expected = compute_confident_joint(labels, probs)
    assert (confident_joint(labels, probs, own) == expected).all()


@pytest.mark.parametrize("scale", [0.2, 1.0, 5.0])
def test_many_rows_are_counted_as_by_cleanlab(scale: float) -> None:
    rng = np.random.default_rng(3)
    probs = rng.dirichlet(np.full(6, scale), 2 * BLOCK + 5)
    labels = np.array([rng.choice(6, p=p) for p in probs])
    check(probs, labels)


row = st.lists(st.sampled_from([0.0, 1.0, 1.0, 2.0, 5.0]), min_size=4, max_size=4).filter(any)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.lists(st.tuples(row, st.integers(0, 2)), min_size=2, max_size=20))
def test_ties_and_classes_nobody_was_given_are_counted_as_by_cleanlab(
    cells: list[tuple[list[float], int]],
) -> None:
    values = np.array([values for values, _ in cells])
    labels = np.array([label for _, label in cells])
    if np.unique(labels).size > 1:
        check(values / values.sum(axis=1, keepdims=True), labels)
