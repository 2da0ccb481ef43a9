"""What a packet taught, counted by hand on 24 images of two splits."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from frozen_packet import JUDGED, cleaned, frame_of, packet, returned

from dagster_project.lib.evidence.strata import Share
from dagster_project.lib.review.findings import (
    ENOUGH,
    recall,
    review_findings,
    split_findings,
)
from dagster_project.lib.review.sample import Packet


def row(found: dict[str, Any], kind: str) -> dict[str, Any]:
    (only,) = [item for item in found["precision"] if item["kind"] == kind]
    assert isinstance(only, dict)
    return only


def test_a_hand_counted_packet() -> None:
    found = split_findings(packet(), cleaned())
    assert (found["n_frame"], found["n_asked"], found["n_returned"]) == (20, 10, 10)
    # 2 + 4 x 1/2 + 10 x 1/4 + 0 wrong labels
    assert found["noise"]["estimate"] == pytest.approx(6.5 / 20)
    assert found["noise"]["undecided"] == pytest.approx([6.5 / 20] * 2)
    assert row(found, "flagged")["estimate"] == pytest.approx((2 + 2) / 6)
    assert row(found, "certain")["ci95"] == [1.0, 1.0]
    assert row(found, "not flagged")["estimate"] == pytest.approx(2.5 / 14)
    assert row(found, "label and model agree, confident")["estimate"] == pytest.approx(1 / 4)
    assert row(found, "flagged, possible")["estimate"] is None
    assert found["recall"]["estimate"] == pytest.approx(4 / 6.5)
    low, high = found["recall"]["ci95"]
    assert 0 < low < 4 / 6.5 < high < 1
    assert found["recall"]["expected"] == {"expected": 0.5, "half_width": 0.15}
    assert found["noise"]["expected"] is None


def test_what_is_not_usable_leaves_and_what_is_undecided_leaves_a_range() -> None:
    found = split_findings(packet(), cleaned(i06="not_usable", i03="tie", i19="unsure"))
    assert (found["n_not_usable"], found["n_undecided"], found["n_decided"]) == (1, 1, 8)
    # 10 rows that agree: of four answers one useless and one wrong label, each for 2.5 rows; of the
    # flagged stratum one of one right, one open
    assert found["noise"]["estimate"] == pytest.approx((2 + 0 + 2.5) / (20 - 2.5))
    assert found["noise"]["undecided"] == pytest.approx([4.5 / 17.5, (4.5 + 2) / 17.5])


def test_useless_photographs_nobody_has_found_do_not_count_with_their_stratum() -> None:
    """Where they sit among wrong labels, the rate would otherwise come out too high."""
    strata = ["possible/differs/flagged", "possible/agrees/unflagged"]
    frame = frame_of(
        [
            {"image_uuid": f"{h}{i:02d}", "stratum": name, "inclusion_probability": 0.5}
            for h, name in enumerate(strata)
            for i in range(100)
        ]
    ).with_columns(asked=pl.col("image_uuid").str.slice(1).cast(pl.Int64) < 50)
    # of the first stratum's 50 answers 20 useless, 24 wrong; of the second's none
    status = ["not_usable"] * 20 + ["corrected"] * 24 + ["confirmed"] * 6 + ["given"] * 50
    label = [None] * 20 + ["tinea"] * 24 + ["acne"] * 56
    answers = pl.DataFrame(
        {
            "image_uuid": frame["image_uuid"],
            "label": [*label, *["acne"] * 100],
            "status": [*status, *["confirmed"] * 50, *["given"] * 50],
        }
    )
    found = split_findings(Packet("f00d", frame), answers)
    # 48 wrong of 60 usable in the one, none of 100 in the other; not 80 x 24 / 30 of 180
    assert found["noise"]["estimate"] == pytest.approx(48 / 160)
    assert found["precision"][0]["estimate"] == pytest.approx(24 / 30)
    assert found["recall"]["estimate"] == 1.0


def test_a_class_without_thirty_decided_images_has_too_few() -> None:
    found = split_findings(packet(), cleaned())
    (only,) = found["per_class"]
    assert (only["class"], only["n"], only["n_decided"], only["too_few"]) == ("acne", 20, 10, True)
    assert (only["estimate"], only["ci95"]) == (None, None)
    (pair,) = found["confusions"]
    assert (pair["given"], pair["judged"], pair["n_flagged"]) == ("acne", "tinea", 6)
    assert pair["estimate"] is None


def large(n: int = 200) -> tuple[Packet, pl.DataFrame]:
    """One stratum, half asked; of 100 decided rows 20 are judged tinea and 10 wart."""
    rows = [
        {"image_uuid": f"i{i:03d}", "stratum": "possible/differs/flagged",
         "inclusion_probability": 0.5}
        for i in range(n)
    ]  # fmt: skip
    frame = frame_of(rows).with_columns(asked=pl.Series(np.arange(n) < n // 2))
    label = ["tinea"] * 20 + ["wart"] * 10 + ["acne"] * (n - 30)
    status = ["corrected"] * 30 + ["confirmed"] * (n // 2 - 30) + ["given"] * (n // 2)
    answers = pl.DataFrame({"image_uuid": frame["image_uuid"], "label": label, "status": status})
    return Packet("f00d", frame), answers


def test_a_class_with_enough_has_a_rate_and_its_named_confusion_only() -> None:
    made, answers = large()
    found = split_findings(made, answers)
    (only,) = found["per_class"]
    assert (only["estimate"], only["too_few"]) == (pytest.approx(0.3), False)
    (pair,) = found["confusions"]  # wart was not named
    assert (pair["judged"], pair["estimate"]) == ("tinea", pytest.approx(0.2))
    assert pair["n_decided"] == 100 >= ENOUGH


def test_image_issues_are_judged_by_what_they_claim() -> None:
    kinds = pl.DataFrame(
        {"image_uuid": ["i06", "i07", "i02", "i03"], "kind": ["not_skin"] * 2 + ["conflict"] * 2}
    )
    found = split_findings(packet(), cleaned(i06="not_usable"), kinds)
    assert (row(found, "not_skin")["what"], row(found, "not_skin")["estimate"]) == (
        "picture not usable",
        pytest.approx(0.5),
    )
    conflict = row(found, "conflict")
    assert (conflict["what"], conflict["n"]) == ("label wrong", 2)
    assert conflict["estimate"] == pytest.approx(0.5)


def test_a_stratum_without_answers_and_neighbours_is_named() -> None:
    changes = {f"i{i:02d}": "given" for i in (0, 1)}
    found = split_findings(packet(), cleaned(**changes))
    assert "nothing can be estimated" in found["reason"]
    assert "noise" not in found


def test_each_split_has_its_packet_or_the_reason_why_not() -> None:
    found = review_findings(returned(packet("train")))
    assert found["splits"]["test"] == {
        "packet": None,
        "reason": "no packet asks about the test split",
    }
    assert found["splits"]["train"]["noise"]["estimate"] == pytest.approx(6.5 / 20)
    nobody = dict.fromkeys(JUDGED, "given")
    waiting = review_findings(returned(packet("test"), **nobody))
    assert waiting["splits"]["test"]["reason"] == "no packet of the test split has come back"
    assert waiting["thresholds"] is None


def share(n: int, estimate: float, low: float, high: float) -> Share:
    return Share(n, n, n, 0, estimate, 0.1, low, high, 0)


def inside(r: float, flagged: Share, rest: Share) -> bool:
    """Whether A (1 - r) - B r = 0 is inside its MOVER interval, as the docstring words it."""
    a, b = (
        part.n * np.array([part.estimate, part.low, part.high], float) for part in (flagged, rest)
    )
    middle = a[0] * (1 - r) - b[0] * r
    down = np.hypot((1 - r) * (a[0] - a[1]), r * (b[2] - b[0]))
    up = np.hypot((1 - r) * (a[2] - a[0]), r * (b[0] - b[1]))
    return bool(middle - down <= 0 <= middle + up)


@pytest.mark.parametrize(
    ("flagged", "rest"),
    [
        pytest.param(share(100, 0.8, 0.7, 0.87), share(900, 0.03, 0.01, 0.06), id="usual"),
        pytest.param(share(100, 0.8, 0.8, 0.8), share(900, 0.0, 0.0, 0.02), id="none_missed"),
        pytest.param(share(100, 0.1, 0.0, 0.9), share(900, 0.5, 0.4, 0.6), id="few_flags"),
        pytest.param(share(100, 0.0, 0.0, 0.04), share(900, 0.5, 0.4, 0.6), id="none_found"),
        pytest.param(share(10, 0.3, 0.2, 0.9), share(10, 0.3, 0.1, 0.9), id="little_known"),
    ],
)
def test_the_interval_of_recall_holds_what_its_definition_does(flagged: Share, rest: Share) -> None:
    found = recall(flagged, rest)
    low, high = found["ci95"]
    assert 0 <= low <= found["estimate"] <= high <= 1
    for r in np.linspace(0.0005, 0.9995, 400):
        assert (
            inside(r, flagged, rest) == (low <= r <= high)
            or min(abs(r - low), abs(r - high)) < 1e-6
        )


def test_recall_is_not_known_without_a_wrong_label_or_a_part() -> None:
    nothing = share(100, 0.0, 0.0, 0.1)
    assert recall(nothing, nothing) == {"estimate": None, "ci95": None}
    unknown = Share(100, 0, 0, 0, None, None, None, None, 0)
    assert recall(unknown, nothing) == {"estimate": None, "ci95": None}
    empty = Share(0, 0, 0, 0, None, None, None, None, 0)
    assert recall(share(100, 0.8, 0.7, 0.9), empty) == {"estimate": 1.0, "ci95": [1.0, 1.0]}
