"""The refit on real out-of-sample probabilities with human votes (not made here).

Needs ``../shared/data/label_errors``; skipped without it. docs/tiers.md holds the same numbers.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dagster_project.lib import sums
from dagster_project.lib.labels.consensus import PLURALITY, clean_labels
from dagster_project.lib.probability_table import ProbabilityTable
from dagster_project.lib.release import bundle
from dagster_project.lib.release.refit import refit, write_refit
from dagster_project.lib.tiers.evaluation import Context, LabelsInfo
from dagster_project.lib.tiers.policy import DEFAULT_POLICY, TierPolicy, parse_policy
from dagster_project.lib.tiers.scored_rows import score_counts, score_rows

DATA = Path(__file__).parents[2] / ".." / "shared" / "data" / "label_errors"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="shared/data/label_errors is not here")

STRICT = parse_policy(
    {
        "confident": {"rule": "confident_wrong_share", "target": 0.003},
        "refer": {"rule": "share", "target": 0.02},
    }
)
VOTES = {"given": "given_original_label", "guessed": "our_guessed_label"}


def load(name: str) -> tuple[ProbabilityTable, pl.DataFrame, pl.DataFrame]:
    """Probabilities, given labels and labels cleaned by the workers' votes."""
    arrays = np.load(DATA / f"{name}.npz")
    ids = [str(i) for i in range(len(arrays["given"]))]
    classes = tuple(f"class_{i}" for i in range(arrays["probs"].shape[1]))
    frame = pl.DataFrame({"image_uuid": ids})
    given = frame.with_columns(label=pl.Series([classes[g] for g in arrays["given"]]))
    reviews = [
        (str(item["id"]), f"{answer}_{i}", classes[item[VOTES[answer]]])
        for item in json.loads((DATA / f"{name}_mturk.json").read_text())
        for answer in VOTES
        for i in range(item["mturk"][answer])
    ]
    votes = pl.DataFrame(reviews, schema=["image_uuid", "reviewer", "label"], orient="row")
    probs = np.clip(arrays["probs"], 0, 1)
    table = ProbabilityTable(classes, frame, {"probs": probs})
    return table, given, clean_labels(given, votes, PLURALITY).select("image_uuid", "label")


@pytest.mark.parametrize(
    ("name", "policy", "kind", "thresholds", "tiers", "confident_wrong"),
    [
        pytest.param(
            "mnist", DEFAULT_POLICY, "given", (1.0, 1.0), (4533, 0, 5467), 0, id="mnist_default"
        ),
        pytest.param(
            "mnist", STRICT, "given", (0.893, 0.879), (9780, 17, 203), 29, id="mnist_strict"
        ),
        pytest.param(
            "mnist", STRICT, "cleaned", (0.879, 0.879), (9797, 0, 203), 25, id="mnist_cleaned"
        ),
        pytest.param(
            "20news",
            DEFAULT_POLICY,
            "given",
            (0.449, 0.449),
            (6552, 0, 980),
            218,
            id="news_default",
        ),
        pytest.param(
            "20news", STRICT, "given", (0.757, 0.263), (3862, 3518, 152), 22, id="news_strict"
        ),
        pytest.param(
            "20news", STRICT, "cleaned", (0.699, 0.263), (4525, 2855, 152), 21, id="news_cleaned"
        ),
    ],
)
def test_the_documented_numbers_come_out(
    name: str,
    policy: TierPolicy,
    kind: str,
    thresholds: tuple[float, float],
    tiers: tuple[int, int, int],
    confident_wrong: int,
    tmp_path: Path,
) -> None:
    table, given, cleaned = load(name)
    labels = given if kind == "given" else cleaned
    info = LabelsInfo(kind, provisional=kind == "given", n_reviewed=0)
    provenance = bundle.provenance_of(table, score_counts(table, labels))
    result = refit(score_rows(table, labels), policy, Context(info), provenance)
    out = write_refit(result, tmp_path / "out")
    assert sums.verify(out) == []
    report = json.loads((out / "tier_reports.json").read_text())
    assert (report["thresholds"]["confident"], report["thresholds"]["refer"]) == thresholds
    assert tuple(tier["n"] for tier in report["tiers"].values()) == tiers
    wrong = round(report["outcomes"]["confident_wrong"] * report["n"])
    assert wrong == confident_wrong
    warned = "three decimals" in (out / "report.md").read_text()
    assert warned == (name == "mnist" and policy is DEFAULT_POLICY)
