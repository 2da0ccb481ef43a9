"""What to review next: ties first, by cleanlab's scores, and nothing that is settled."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from cleanlab.multiannotator import get_active_learning_scores

from dagster_project.lib.labels.consensus import ConsensusPolicy, clean_labels
from dagster_project.lib.labels.next_reviews import SCHEMA, WHY, next_reviews
from dagster_project.lib.probability_table import ProbabilityTable

CLASSES = ("acne", "eczema", "tinea")
VOTES = {
    "tie": "acne tinea",
    "tie2": "acne eczema",
    "tie3": "eczema tinea",
    "one": "acne",
    "sure": "acne acne",
    "doubt": "tinea tinea",
    "open": "unsure",
    "gone": "not_usable not_usable",
    "proof": "acne",
}
IDS = [*VOTES, "new", "new2", "broken"]
PROBS = {
    "tie": (0.5, 0.1, 0.4),
    "tie2": (0.4, 0.4, 0.2),
    "doubt": (0.98, 0.01, 0.01),
    "new": (0.4, 0.3, 0.3),
    "new2": (0.5, 0.3, 0.2),
    "broken": (np.nan,) * 3,
}


@pytest.fixture
def reviews() -> pl.DataFrame:
    rows = [(i, f"r{n}", v) for i, s in VOTES.items() for n, v in enumerate(s.split())]
    rows += [("proof", "histology", "tinea")]
    # readers who mostly agree with each other and with the model: their votes have weight
    rows += [(f"x{n:02d}", f"r{r}", CLASSES[n % 3]) for n in range(12) for r in range(2)]
    return pl.DataFrame(rows, schema=["image_uuid", "reviewer", "label"], orient="row")


@pytest.fixture
def table() -> ProbabilityTable:
    ids = [*IDS, *(f"x{n:02d}" for n in range(12))]
    sure = {f"x{n:02d}": tuple(0.9 if k == n % 3 else 0.05 for k in range(3)) for n in range(12)}
    probs = np.array([{**PROBS, **sure}.get(i, (0.9, 0.05, 0.05)) for i in ids])
    return ProbabilityTable(CLASSES, pl.DataFrame({"image_uuid": ids}), {"probs": probs})


def cleaned(table: ProbabilityTable, reviews: pl.DataFrame) -> pl.DataFrame:
    given = table.frame.with_columns(label=pl.lit("acne"))
    return clean_labels(given, reviews, ConsensusPolicy(references=(("histology",),)))


def test_the_order_of_asking(table: ProbabilityTable, reviews: pl.DataFrame) -> None:
    found = next_reviews(cleaned(table, reviews), reviews, table)
    assert found.schema == SCHEMA
    why = dict(found.select("image_uuid", "why").rows())
    assert why == {
        "tie": "tie",
        "tie2": "tie",
        "tie3": "tie",
        "one": "single",
        "open": "unsure",
        "doubt": "low_quality",
        "new": "not_reviewed",
        "new2": "not_reviewed",
    }
    assert [WHY.index(w) for w in found["why"]] == sorted(WHY.index(w) for w in found["why"])
    for _, rows in found.group_by("why"):
        assert rows["score"].is_sorted()
    assert found["image_uuid"].to_list()[-2:] == ["new", "new2"], "the less certain one first"


def test_scores_are_those_of_cleanlab(table: ProbabilityTable, reviews: pl.DataFrame) -> None:
    found = next_reviews(cleaned(table, reviews), reviews, table)
    usable = [i for i in sorted(table.frame["image_uuid"]) if i != "broken"]
    votes = np.full((len(usable), 3), np.nan)
    for image, who, label in reviews.rows():
        if label in CLASSES:
            column = ("r0", "r1", "histology").index(who)
            votes[usable.index(image), column] = CLASSES.index(label)
    place = {i: n for n, i in enumerate(table.frame["image_uuid"])}
    probs = table.probs[[place[i] for i in usable]].astype(float)
    voted = ~np.isnan(votes).all(axis=1)
    labelled, pool = get_active_learning_scores(votes[voted], probs[voted], probs[~voted])
    expected = dict(zip(np.array(usable)[voted], labelled, strict=True))
    expected |= dict(zip(np.array(usable)[~voted], pool, strict=True))
    for image, score in found.select("image_uuid", "score").rows():
        assert score == pytest.approx(expected[image], abs=1e-6)


def test_the_order_of_rows_is_irrelevant_and_nothing_is_printed(
    table: ProbabilityTable, reviews: pl.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    found = next_reviews(cleaned(table, reviews), reviews, table)
    back = np.arange(table.frame.height)[::-1]
    turned = ProbabilityTable(CLASSES, table.frame.reverse(), {"probs": table.probs[back]})
    again = next_reviews(cleaned(turned, reviews), reviews.reverse(), turned)
    assert again.equals(found)
    assert capsys.readouterr() == ("", "")


def test_where_everything_ties_nothing_is_drawn_and_nothing_fails() -> None:
    """Two against two on classes equally frequent and probable: cleanlab draws, or fails."""
    votes = [("a", r, c) for r, c in zip("wxyz", ["acne", "acne", "tinea", "tinea"], strict=True)]
    votes += [("b", r, c) for r, c in zip("wxyz", ["tinea", "tinea", "acne", "acne"], strict=True)]
    reviews = pl.DataFrame(votes, schema=["image_uuid", "reviewer", "label"], orient="row")
    ids = pl.DataFrame({"image_uuid": ["a", "b"]})
    table = ProbabilityTable(CLASSES, ids, {"probs": np.full((2, 3), 1 / 3)})
    np.random.seed(1)
    state = np.random.get_state(legacy=False)["state"]["key"].tolist()
    found = next_reviews(cleaned(table, reviews), reviews, table)
    assert found["why"].to_list() == ["tie", "tie"]
    assert np.random.get_state(legacy=False)["state"]["key"].tolist() == state


@pytest.mark.parametrize("n_reviewers", [0, 1], ids=["nobody", "one_reader"])
def test_with_no_two_readers_there_is_still_an_order(
    table: ProbabilityTable, reviews: pl.DataFrame, n_reviewers: int
) -> None:
    few = reviews.filter(pl.col("reviewer") == "r0") if n_reviewers else reviews.clear()
    found = next_reviews(cleaned(table, few), few, table)
    assert "low_quality" not in found["why"]
    assert found["score"].is_between(0, 1).all()
    expected = {"not_reviewed", *(["single", "unsure"] if n_reviewers else [])}
    assert set(found["why"]) == expected
