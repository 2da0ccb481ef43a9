"""Errors: whose fault it is, and messages that count, sample and suggest."""

from __future__ import annotations

import pytest

from dagster_project.lib.errors import (
    InputError,
    RefusedError,
    TierRefitError,
    some,
    unknown_class,
)


def test_input_and_refusal_are_told_apart_and_share_a_base() -> None:
    assert issubclass(InputError, TierRefitError)
    assert issubclass(RefusedError, TierRefitError)
    assert not issubclass(InputError, RefusedError)
    assert not issubclass(TierRefitError, ValueError)  # no stray `except ValueError` hides one


@pytest.mark.parametrize(
    ("values", "text"),
    [
        pytest.param(["a"], "'a'", id="one"),
        pytest.param(["a", "b", "c"], "'a', 'b', 'c'", id="as_many_as_fit"),
        pytest.param(["a", "b", "c", "d", "e"], "'a', 'b', 'c' and 2 more", id="more"),
        pytest.param([7, None], "'7', 'None'", id="not_text"),
        pytest.param(["two\nlines"], r"'two\nlines'", id="stays_on_one_line"),
    ],
)
def test_a_sample_counts_what_it_leaves_out(values: list[object], text: str) -> None:
    assert some(values) == text


def test_an_unknown_class_is_answered_with_the_nearest_one() -> None:
    assert unknown_class("Ezcema", ["acne", "Eczema"]).endswith('nearest "Eczema")')


def test_without_classes_there_is_no_nearest_one() -> None:
    assert unknown_class("acne", []) == 'unknown class "acne" (0 known)'
