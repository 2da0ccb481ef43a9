"""TTA against plain, from one dump; and why there is nothing to compare."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import polars as pl
import pytest
from scorecard_worlds import answering

from dagster_project.lib.probability_table import ProbabilityTable
from dagster_project.lib.scorecard.tta import PLAIN, tta_gain

LABELS = pl.DataFrame({"image_uuid": ["i1", "i2", "i3", "i4"], "label": ["a", "b", "a", None]})
DUMP = ProbabilityTable(
    ("a", "b"),
    # rows are not in the order of their ids, and one could not be read
    pl.DataFrame(
        {
            "image_uuid": ["i3", "i2", "i1", "i4", "i5"],
            "patient_id": ["p3", "p2", "p1", "p4", "p5"],
            "error": [None, None, None, None, "cut off"],
        }
    ),
    {
        "probs": np.vstack([answering([0, 1, 0, 0], 2), [[np.nan, np.nan]]]),
        PLAIN: np.vstack([answering([0, 0, 1, 0], 2), [[np.nan, np.nan]]]),
    },
    {"tta": "true"},
)


def test_the_gain_is_tta_minus_plain_on_the_same_images() -> None:
    found = tta_gain(DUMP, LABELS)
    assert (found["plain"]["top1"], found["tta"]["top1"]) == (1 / 3, 1.0)
    top1 = found["comparison"]["differences"]["top1"]
    assert top1["estimate"] == pytest.approx(2 / 3)
    assert top1["p"] == 0.5  # two patients, both won
    assert [c["n"] for c in found["comparison"]["per_class"]] == [2, 1]
    assert (found["comparison"]["baseline"], found["comparison"]["config"]) == ("plain", "tta")
    assert found["reason"] is None
    assert json.loads(json.dumps(found, allow_nan=False)) == found


@pytest.mark.parametrize(
    ("dump", "says"),
    [
        pytest.param(
            dataclasses.replace(DUMP, metadata={"tta": "false"}), "made without TTA", id="plain"
        ),
        pytest.param(
            dataclasses.replace(DUMP, metadata={}), "does not say", id="brought_from_elsewhere"
        ),
        pytest.param(
            dataclasses.replace(DUMP, views={"probs": DUMP.probs}),
            f"no view {PLAIN}",
            id="one_view",
        ),
    ],
)
def test_without_two_views_there_is_a_reason_and_no_number(
    dump: ProbabilityTable, says: str
) -> None:
    found = tta_gain(dump, LABELS)
    assert found["plain"] is found["tta"] is found["comparison"] is None
    assert says in found["reason"]
