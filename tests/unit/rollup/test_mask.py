"""Masks: by inclusion or exclusion, composed as sets, wrong in every way."""

from __future__ import annotations

import numpy as np
import pytest

from dagster_project.lib.errors import InputError
from dagster_project.lib.rollup.config import Mask
from dagster_project.lib.rollup.mask import allowed_classes

CLASSES = ("acne", "eczema", "tinea")


@pytest.mark.parametrize(
    ("mask", "kept"),
    [
        pytest.param(None, [True, True, True], id="none"),
        pytest.param(Mask(min_kept_mass=0.5), [True, True, True], id="no_list"),
        pytest.param(Mask(include=("tinea", "tinea")), [False, False, True], id="include"),
        pytest.param(Mask(exclude=("tinea",)), [True, True, False], id="exclude"),
        pytest.param(Mask(exclude=()), [True, True, True], id="exclude_nothing"),
    ],
)
def test_a_mask_keeps_what_it_lists_or_all_but_that(mask: Mask | None, kept: list[bool]) -> None:
    assert allowed_classes(mask, CLASSES).tolist() == kept


@pytest.mark.parametrize(
    ("mask", "says"),
    [
        pytest.param(Mask(exclude=("ezcema",)),
                     r'mask.exclude: unknown class "ezcema" \(3 known; nearest "eczema"\)',
                     id="unknown"),
        pytest.param(Mask(include=("Acne",)), 'mask.include: unknown class "Acne".*"acne"',
                     id="case"),
        pytest.param(Mask(exclude=CLASSES), "mask.exclude 'acne', 'eczema', 'tinea': excludes all",
                     id="all_excluded"),
        pytest.param(Mask(include=()), "mask.include is empty; keep at least one", id="empty"),
    ],
)  # fmt: skip
def test_a_mask_that_names_no_class_or_keeps_none_is_refused(mask: Mask, says: str) -> None:
    with pytest.raises(InputError, match=says):
        allowed_classes(mask, CLASSES)


def test_two_masks_one_after_the_other_keep_what_both_keep() -> None:
    first, second = Mask(exclude=("acne",)), Mask(include=("acne", "tinea"))
    both = allowed_classes(first, CLASSES) & allowed_classes(second, CLASSES)
    assert np.flatnonzero(both).tolist() == [2]
