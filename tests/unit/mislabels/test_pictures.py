"""Pictures of rates: odd tables draw, equal input gives equal bytes."""

from __future__ import annotations

from functools import partial

import polars as pl
import pytest

from dagster_project.lib.mislabels import pictures

issue_rate_picture = partial(pictures.issue_rate_picture, in_sample=True)
confusion_picture = partial(pictures.confusion_picture, in_sample=None)

PER_CLASS = pl.DataFrame(
    {
        "class": ["acne", "eczema", "tinea"],
        "n": [40, 0, 8],
        "n_issues": [3, 0, 8],
        "issue_rate": [0.075, None, 1.0],
        "issue_rate_low": [0.03, None, None],
        "issue_rate_high": [0.2, None, None],
    }
)
CONFUSIONS = pl.DataFrame({"given": ["acne"], "predicted": ["tinea"], "n": [3], "share": [1.0]})


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(PER_CLASS, id="a_class_without_rows"),
        pytest.param(PER_CLASS.filter(pl.col("n") == 0), id="no_rows_at_all"),
        pytest.param(pl.concat([PER_CLASS] * 15), id="more_classes_than_fit"),
    ],
)
def test_issue_rates_draw_the_same_bytes_twice(frame: pl.DataFrame) -> None:
    assert issue_rate_picture(frame) == issue_rate_picture(frame)


def test_confusions_draw_also_when_there_are_none() -> None:
    assert confusion_picture(CONFUSIONS) != confusion_picture(CONFUSIONS.clear())
    assert confusion_picture(CONFUSIONS) == confusion_picture(CONFUSIONS)


def test_titles_say_whether_the_model_saw_these_rows() -> None:
    for draw, frame in (
        (pictures.issue_rate_picture, PER_CLASS),
        (pictures.confusion_picture, CONFUSIONS),
    ):
        assert len({draw(frame, in_sample=known) for known in (True, False, None)}) == 3
