"""The join that every comparison stands on: by id, and refused where rows are not the same."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from dagster_project.lib.errors import InputError
from dagster_project.lib.probability_table import ProbabilityTable
from dagster_project.lib.scorecard.answers import relabelled, same_rows

CLASSES = ("a", "b")
LABELS = pl.DataFrame({"image_uuid": ["i1", "i2", "i3"], "label": ["a", "b", None]})


def table(
    ids: list[str], values: list[list[float]], classes: tuple[str, ...] = CLASSES
) -> ProbabilityTable:
    frame = pl.DataFrame({"image_uuid": ids, "patient_id": [f"p{i[-1]}" for i in ids]})
    return ProbabilityTable(classes, frame, {"probs": np.array(values)})


ONE = table(["i2", "i1", "i3"], [[0.2, 0.8], [0.1, 0.9], [0.3, 0.7]])


def test_rows_are_joined_by_id_whatever_their_order_and_the_order_of_classes() -> None:
    turned = table(["i3", "i1", "i2"], [[0.7, 0.3], [0.9, 0.1], [0.8, 0.2]], ("b", "a"))
    found = same_rows({"one": ONE, "turned": turned}, LABELS)
    assert found.image_uuid.to_list() == ["i1", "i2"]
    assert found.true.tolist() == [0, 1]
    assert found.probs["one"].tolist() == found.probs["turned"].tolist() == [[0.1, 0.9], [0.2, 0.8]]
    assert (len(found), found.n_without_label, found.patients_known) == (2, 1, True)


def test_another_row_set_is_an_error_that_names_both_sides() -> None:
    other = table(["i1", "i2", "i4"], [[0.1, 0.9]] * 3)
    with pytest.raises(
        InputError, match=r"focal: other images than one \(1 missing: 'i3'; 1 more: 'i4'\)"
    ):
        same_rows({"one": ONE, "focal": other}, LABELS)


def test_an_image_that_only_one_configuration_could_score_is_an_error() -> None:
    frame = ONE.frame.with_columns(error=pl.Series(["cut off", None, None]))
    values = {"probs": np.array([[np.nan, np.nan], [0.1, 0.9], [0.3, 0.7]])}
    with pytest.raises(InputError, match="focal: other images with probabilities than one"):
        same_rows({"one": ONE, "focal": ProbabilityTable(CLASSES, frame, values)}, LABELS)


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        pytest.param(LABELS.with_columns(label=pl.lit("c")), "unknown class", id="class"),
        pytest.param(pl.concat([LABELS, LABELS]), "on more than one row", id="twice"),
        pytest.param(LABELS.with_columns(image_uuid=pl.lit("x").repeat_by(1).list.first() + "1")
                     .head(1), "none of the 3 images has a label", id="strangers"),
    ],
)  # fmt: skip
def test_labels_that_do_not_fit_are_refused(labels: pl.DataFrame, says: str) -> None:
    with pytest.raises(InputError, match=says):
        same_rows({"one": ONE}, labels)


def test_other_classes_are_refused() -> None:
    other = table(["i1", "i2", "i3"], [[0.1, 0.9]] * 3, ("a", "c"))
    with pytest.raises(InputError, match="other classes than one: 'b', 'c'"):
        same_rows({"one": ONE, "focal": other}, LABELS)


def test_other_labels_leave_out_what_they_do_not_have() -> None:
    found = relabelled(
        same_rows({"one": ONE}, LABELS), pl.DataFrame({"image_uuid": ["i2"], "label": ["a"]})
    )
    assert (found.image_uuid.to_list(), found.true.tolist(), found.n_patients) == (["i2"], [0], 1)
    assert found.probs["one"].tolist() == [[0.2, 0.8]]
    assert found.n_without_label == 2
