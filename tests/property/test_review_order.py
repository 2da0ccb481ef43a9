"""Orders of any packet: complete, apart whenever that is possible, repeats after first showings."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_project.lib.review.order import presentation_order

steady = settings(derandomize=True, deadline=None, max_examples=100)


@steady
@given(st.lists(st.integers(0, 5), min_size=1, max_size=24), st.integers(0, 999))
def test_no_two_of_a_group_are_neighbours_unless_one_group_is_more_than_half(
    group: list[int], seed: int
) -> None:
    order = presentation_order(np.array(group), (), np.random.default_rng(seed))
    assert sorted(order.shown) == list(range(len(group)))
    largest = max(Counter(group).values())
    assert order.n_adjacent == max(0, 2 * largest - len(group) - 1)


@steady
@given(st.data())
def test_a_repeat_comes_after_its_image_and_never_beside_its_group(data: st.DataObject) -> None:
    n = data.draw(st.integers(9, 60))
    group = np.array(data.draw(st.lists(st.integers(0, n), min_size=n, max_size=n)))
    repeated = data.draw(st.lists(st.integers(0, n - 1), unique=True, max_size=n // 5))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    order = presentation_order(group, repeated, rng)
    assert sorted(order.shown) == list(range(n + len(repeated)))
    if repeated:
        assert order.smallest_gap is not None
        places = {item: at for at, item in enumerate(order.shown)}
        gaps = [places[n + k] - places[i] for k, i in enumerate(repeated)]
        assert order.smallest_gap == min(gaps)
    if max(Counter(group.tolist()).values()) <= 2:
        assert order.n_adjacent == 0
        if repeated:
            assert min(gaps) > 0
