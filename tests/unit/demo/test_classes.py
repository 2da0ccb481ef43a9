import pytest

from dagster_project.lib.demo.classes import CLASSES, LOOK_ALIKE_PAIRS, frequencies, look_alikes


def test_there_are_25_distinct_classes_with_a_long_tail() -> None:
    shares = frequencies()
    assert len(set(CLASSES)) == len(CLASSES) == len(shares) == 25
    assert shares.sum() == pytest.approx(1)
    assert CLASSES[shares.argmax()] == "eczema_uns"
    assert shares.max() > 10 * shares.min() > 0


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_has_a_look_alike_that_is_another_class(name: str) -> None:
    others = look_alikes(name)
    assert others
    assert name not in others
    assert set(others) <= set(CLASSES)
    assert all(name in look_alikes(other) for other in others)


def test_a_pair_stands_in_the_table_once() -> None:
    assert len({frozenset(pair) for pair in LOOK_ALIKE_PAIRS}) == len(LOOK_ALIKE_PAIRS)
