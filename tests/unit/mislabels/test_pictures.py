"""Pictures of rates: the interval is Wilson's, odd tables draw, equal input gives equal bytes."""

from __future__ import annotations

import polars as pl
import pytest

from dagster_project.lib.mislabels.pictures import confusion_picture, issue_rate_picture

PER_CLASS = pl.DataFrame(
    {
        "class": ["acne", "eczema", "tinea"],
        "n": [40, 0, 8],
        "n_issues": [3, 0, 8],
        "issue_rate": [0.075, None, 1.0],
    }
)
CONFUSIONS = pl.DataFrame({"given": ["acne"], "predicted": ["tinea"], "n": [3]})


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(PER_CLASS, id="a_class_without_rows"),
        pytest.param(PER_CLASS.filter(pl.col("n") == 0), id="no_rows_at_all"),
        pytest.param(pl.concat([PER_CLASS] * 30), id="more_classes_than_fit"),
    ],
)
def test_issue_rates_draw_the_same_bytes_twice(frame: pl.DataFrame) -> None:
    assert issue_rate_picture(frame) == issue_rate_picture(frame)


def test_confusions_draw_also_when_there_are_none() -> None:
    assert confusion_picture(CONFUSIONS) != confusion_picture(CONFUSIONS.clear())
    assert confusion_picture(CONFUSIONS) == confusion_picture(CONFUSIONS)
