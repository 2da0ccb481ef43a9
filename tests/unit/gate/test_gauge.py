"""Gauges: what may be compared, and what asks for another sweep."""

from __future__ import annotations

import pytest

from dagster_project.lib.errors import InputError
from dagster_project.lib.gate.config import Gauge, Identity
from dagster_project.lib.gate.gauge import (
    check_same,
    differences,
    reasons_to_rerun,
    shown,
    unstated,
)

ONE = Gauge(head="q", magnitude="abs", normalisation="none")


@pytest.mark.parametrize("part", [*Gauge.model_fields])
def test_every_part_of_a_gauge_counts(part: str) -> None:
    other = ONE.model_copy(update={part: "low" if part == "accept" else "another"})
    assert [text.split()[0] for text in differences(ONE, other)] == [part]
    with pytest.raises(InputError, match=f"here and there: {part}.*relabel"):
        check_same(ONE, other, what="here and there")
    check_same(ONE, ONE, what="the same")


@pytest.mark.parametrize("part", [*Identity.model_fields])
def test_every_part_of_an_identity_asks_for_another_sweep(part: str) -> None:
    then, now = (Identity(**{part: text}) for text in ("v1", "v2"))
    name = part.replace("_", " ")
    assert reasons_to_rerun((ONE, then), (ONE, now)) == [f'{name} was "v1", is "v2"']
    assert name in unstated(Identity())
    assert name not in unstated(then)


def test_what_one_side_alone_states_is_no_change_and_a_gauge_is() -> None:
    assert reasons_to_rerun((ONE, Identity()), (ONE, Identity(dataset="d"))) == []
    other = ONE.model_copy(update={"normalisation": "layer"})
    assert reasons_to_rerun((ONE, Identity()), (other, Identity())) == [
        'normalisation was "none", is "layer"'
    ]


def test_taus_are_shown_in_the_units_of_the_file() -> None:
    low = ONE.model_copy(update={"magnitude": "distance", "accept": "low"})
    assert [shown(-3.0, low), shown(3.0, ONE), shown(0.0, low)] == [3.0, 3.0, 0.0]
    assert str(shown(0.0, low)) == "0.0"
