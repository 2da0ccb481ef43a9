import numpy as np
import pytest

from dagster_project.lib.demo.classes import CLASSES
from dagster_project.lib.demo.looks import LOOKS, mixed, varied


def test_every_class_has_a_look_of_its_own() -> None:
    assert set(LOOKS) == set(CLASSES)
    assert len(set(LOOKS.values())) == len(CLASSES)


def test_a_mixture_lies_between_its_parts() -> None:
    a, b = LOOKS["eczema_uns"], LOOKS["psoriasis"]
    half = mixed(a, b, 0.25, np.random.default_rng(0))
    assert half.red == pytest.approx(0.75 * a.red + 0.25 * b.red)
    assert half.scale == pytest.approx(0.75 * a.scale + 0.25 * b.scale)


@pytest.mark.parametrize(("share", "scene"), [(0.0, "nail"), (1.0, "plain")])
def test_a_mixture_of_nothing_or_all_has_the_scene_of_that_part(share: float, scene: str) -> None:
    nail, plain = LOOKS["onychomycosis"], LOOKS["psoriasis"]
    assert mixed(nail, plain, share, np.random.default_rng(0)).scene == scene


def test_variation_never_changes_a_sign_or_a_word() -> None:
    look = LOOKS["vitiligo"]
    other = varied(look, 0.5, np.random.default_rng(0))
    assert other.brown < 0 < other.size
    assert (other.place, other.scene) == (look.place, look.scene)
    assert other.size != look.size
