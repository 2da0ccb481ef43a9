import numpy as np
import pytest

from dagster_project.lib.demo.drawing import draw, jpeg, noise
from dagster_project.lib.demo.looks import LOOKS
from dagster_project.lib.inference.preprocess import decode


@pytest.mark.parametrize("name", sorted(LOOKS))
@pytest.mark.parametrize("shape", [(96, 96), (96, 112), (40, 30)], ids=str)
def test_every_look_draws_as_finite_colours_of_the_shape_asked(
    name: str, shape: tuple[int, int]
) -> None:
    picture = draw(LOOKS[name], 2.5, shape, np.random.default_rng(0))
    assert picture.shape == (*shape, 3)
    assert np.isfinite(picture).all()
    assert picture.min() >= 0
    assert picture.max() <= 1
    assert picture.std() > 0.02


def test_equal_generators_draw_equal_pixels_and_others_do_not() -> None:
    a, b, c = (draw(LOOKS["tinea"], 1, (96, 96), np.random.default_rng(s)) for s in (1, 1, 2))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_darker_tones_are_darker() -> None:
    brightness = [
        np.mean([draw(LOOKS["acne"], t, (48, 48), np.random.default_rng(s)) for s in range(8)])
        for t in (0, 2, 4, 5)
    ]
    assert brightness == sorted(brightness, reverse=True)
    assert brightness[0] > 1.8 * brightness[-1]


def test_red_lesions_redden_and_pale_ones_do_not() -> None:
    def redness(name: str) -> float:
        drawn = [draw(LOOKS[name], 2, (48, 48), np.random.default_rng(s)) for s in range(12)]
        return float(np.mean([p[..., 0].mean() / p[..., 1].mean() for p in drawn]))

    assert redness("cellulitis") > redness("urticaria") > redness("vitiligo")


def test_noise_is_smooth_of_the_asked_scale() -> None:
    def roughness(knots: int) -> float:
        field = noise((96, 96), knots, np.random.default_rng(0))
        return float(np.abs(np.diff(field)).mean() / field.std())

    assert roughness(3) < roughness(9) < roughness(30)


@pytest.mark.parametrize("name", ["acne", "vitiligo"])
def test_a_file_opens_as_the_picture_it_was_made_of(name: str) -> None:
    picture = draw(LOOKS[name], 2, (96, 112), np.random.default_rng(0))
    found = decode(jpeg(picture, np.random.default_rng(0)))
    assert found.shape == (96, 112, 3)
    assert np.abs(found / 255 - picture).mean() < 0.03
