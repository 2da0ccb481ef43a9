import numpy as np
import pytest

from dagster_project.lib.demo import pretraining, world
from dagster_project.lib.demo.tower import SIZE


def test_a_drawing_and_its_soft_label_depend_on_its_number_only() -> None:
    (a, target), (b, _), (c, _) = (pretraining._drawing(n) for n in (0, 0, 1))
    assert a.shape == (SIZE, SIZE, 3)
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)
    assert target.sum() == pytest.approx(1)
    assert target.max() >= 0.5


def test_pretraining_draws_from_another_seed_than_any_demo_world() -> None:
    assert pretraining.SEED != world.SEED
