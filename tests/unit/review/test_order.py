"""The order of presentation: random, look-alikes apart, repeats far away, ids that look alike."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from dagster_project.lib.errors import InputError
from dagster_project.lib.review.order import groups, made_up_ids, presentation_order

N, DRAWS = 30, 1500


def test_images_of_a_patient_and_look_alikes_are_one_group() -> None:
    rows = pl.DataFrame({"image_uuid": list("abcdef"), "patient": ["p", "p", "q", "r", "s", "t"]})
    assert len(set(groups(rows).tolist())) == 5
    similar = pl.DataFrame({"image_uuid": ["b", "c", "e", "x"], "group": [7, 7, 9, 9]})
    found = groups(rows, similar).tolist()
    assert found[0] == found[1] == found[2]
    assert len(set(found)) == 4


def test_without_groups_the_order_is_a_plain_permutation() -> None:
    order = presentation_order(np.arange(50), (), np.random.default_rng(4))
    assert order.shown == tuple(np.random.default_rng(4).permutation(50).tolist())
    assert (order.n_adjacent, order.smallest_gap) == (0, None)


def test_every_image_is_early_as_often_as_any_other() -> None:
    """Half of the images in pairs: places of 1,500 seeded orders, chi-square by image and third.

    Repeats are drawn anew each time, as they are for each packet. A bias of one place in thirty
    would be seen; 90 standardised counts beyond 4.5 have a probability of 0.0006.
    """
    group = np.array([k // 2 if k < N // 2 else k for k in range(N)])
    counts = np.zeros((N, 3))
    for seed in range(DRAWS):
        rng = np.random.default_rng([9, seed])
        repeated = rng.choice(N, 2, replace=False).tolist()
        shown = [k for k in presentation_order(group, repeated, rng).shown if k < N]
        for third in range(3):
            counts[shown[third * 10 : third * 10 + 10], third] += 1
    error = np.sqrt(DRAWS / 3 * 2 / 3)
    assert np.abs(counts - DRAWS / 3).max() <= 4.5 * error


def test_repeats_are_at_least_a_third_of_the_packet_later() -> None:
    rng = np.random.default_rng(1)
    group = np.arange(200) // 2
    for seed in range(20):
        repeated = rng.choice(200, 10, replace=False).tolist()
        order = presentation_order(group, repeated, np.random.default_rng(seed))
        assert sorted(order.shown) == list(range(210))
        assert order.n_adjacent == 0
        assert order.smallest_gap is not None
        assert order.smallest_gap >= 70


def test_a_group_of_more_than_half_is_kept_apart_as_far_as_it_goes() -> None:
    group = np.array([0] * 7 + [1, 2, 3])
    for seed in range(20):
        order = presentation_order(group, (), np.random.default_rng(seed))
        assert order.n_adjacent == 3  # 7 of a group around 3 others: 4 islands, 3 neighbours


@pytest.mark.parametrize(
    "known",
    [
        pytest.param([f"img-{k:03d}-{s}" for k in range(60) for s in (0, 1)], id="counted"),
        pytest.param(
            [f"{k * 2654435761 % 2**32:08x}-4{k:03x}-a{k:03x}" for k in range(200)], id="uuid"
        ),
        pytest.param([f"{k:02d}" for k in range(90)], id="numbers"),
    ],
)
def test_made_up_ids_have_the_shape_of_known_ones_and_are_none_of_them(known: list[str]) -> None:
    made = made_up_ids(pl.Series(known), 10, np.random.default_rng(0))
    assert len(set(made) - set(known)) == 10
    for name in made:
        assert len(name) == len(known[0])
        for at, letter in enumerate(name):
            alphabet = {other[at] for other in known}
            assert letter in alphabet or (letter.isalnum() and any(map(str.isalnum, alphabet)))
    assert made == made_up_ids(pl.Series(known[::-1]), 10, np.random.default_rng(0))


def test_made_up_ids_keep_signs_where_some_known_id_has_them() -> None:
    known = [f"PAT_{k * k}_{7 * k}_{900 - k}" for k in range(3, 400)]
    made = made_up_ids(pl.Series(known), 20, np.random.default_rng(0))
    widths = {tuple(map(len, name.split("_"))) for name in known}
    assert {tuple(map(len, name.split("_"))) for name in made} <= widths
    assert all(name.startswith("PAT_") for name in made)


def test_where_a_shape_is_used_up_made_up_ids_are_longer() -> None:
    known = pl.Series([str(k) for k in range(10)])
    made = made_up_ids(known, 3, np.random.default_rng(0))
    assert [len(name) for name in made] == [2, 2, 2]
    with pytest.raises(InputError, match="no image ids"):
        made_up_ids(pl.Series([], dtype=pl.String), 1, np.random.default_rng(0))
