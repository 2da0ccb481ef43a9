"""Real label errors: MNIST and 20news with out-of-sample probabilities and human votes.

Skips where ``../shared/data/label_errors`` is absent. What came out is told in docs/mislabels.md.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from dagster_project.lib.labels.consensus import PLURALITY, clean_labels, label_summary
from dagster_project.lib.labels.drop import read_drop
from dagster_project.lib.mislabels.candidates import find_candidates
from dagster_project.lib.probability_table import ProbabilityTable

DATA = Path(__file__).parents[2] / ".." / "shared" / "data" / "label_errors"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="no label_errors data beside the project")

Votes = list[dict[str, Any]]


def load(name: str) -> tuple[ProbabilityTable, pl.DataFrame, Votes]:
    with np.load(DATA / f"{name}.npz") as arrays:
        probs, given = np.clip(arrays["probs"], 0, 1), arrays["given"]
    classes = tuple(f"c{k:02d}" for k in range(probs.shape[1]))
    labels = pl.DataFrame(
        {
            "image_uuid": [str(row) for row in range(len(given))],
            "label": [classes[k] for k in given],
        }
    )
    table = ProbabilityTable(classes, labels.select("image_uuid"), {"probs": probs})
    return table, labels, json.loads((DATA / f"{name}_mturk.json").read_text())


def write_reviews(folder: Path, votes: Votes) -> None:
    """One file for each simulated worker; "neither" and "both" become ``unsure``."""
    folder.mkdir()
    rows = []
    for item in votes:
        counts = dict(item["mturk"])
        said = [f"c{item['our_guessed_label']:02d}"] * counts.pop("guessed")
        said += [f"c{item['given_original_label']:02d}"] * counts.pop("given")
        said += ["unsure"] * sum(counts.values())
        rows += [(str(item["id"]), f"worker_{n}", label) for n, label in enumerate(said, 1)]
    frame = pl.DataFrame(rows, schema=["image_uuid", "reviewer", "label"], orient="row")
    for (reviewer,), sheet in frame.group_by("reviewer"):
        sheet.write_csv(folder / f"{reviewer}.csv")


@pytest.mark.parametrize(
    ("name", "flagged", "decided", "corrected"),
    [
        pytest.param("mnist", 15, 14, 5, id="mnist"),
        pytest.param("20news", 95, 50, 30, id="20news"),
    ],
)
def test_candidates_agree_with_human_votes_as_documented(
    tmp_path: Path, name: str, flagged: int, decided: int, corrected: int
) -> None:
    table, labels, votes = load(name)
    found = find_candidates(table, labels, in_sample=False)
    write_reviews(tmp_path / "drop", votes)
    drop = read_drop(
        str(tmp_path / "drop"), classes=table.classes, image_uuids=labels["image_uuid"]
    )
    assert drop.refusals == ()
    assert drop.reviews.height == sum(sum(item["mturk"].values()) for item in votes)
    cleaned = clean_labels(labels, drop.reviews, PLURALITY)
    assert label_summary(cleaned)["n_reviewed"] == len(votes)
    status = cleaned.join(found.issues, on="image_uuid", how="semi")["status"].to_list()
    assert found.summary["n_issues"] == flagged
    assert status.count("confirmed") + status.count("corrected") == decided
    assert status.count("corrected") == corrected
