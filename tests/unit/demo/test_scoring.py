import polars as pl
import pytest

from dagster_project.lib.demo.scoring import (
    score_cleaning,
    score_flags,
    score_labels,
    score_pictures,
)
from dagster_project.lib.errors import InputError

# six images counted by hand: c and d have wrong labels, e is a page of text
TRUTH = pl.DataFrame(
    {
        "image_uuid": ["a", "b", "c", "d", "e", "f"],
        "true_label": ["acne", "acne", "acne", "tinea", None, "tinea"],
        "given_label": ["acne", "acne", "tinea", "acne", "acne", "tinea"],
        "is_noise": [False, False, True, True, False, False],
        "is_garbage": [False, False, False, False, True, False],
    }
)
GIVEN = TRUTH.select("image_uuid", label="given_label")


def test_flags_are_counted_as_by_hand() -> None:
    assert score_flags(["a", "c", "e"], TRUTH) == {
        "examined": 6,
        "flagged": 3,
        "noise_planted": 2,
        "noise_found": 1,
        "garbage_planted": 1,
        "garbage_flagged": 1,
        "noise_share": pytest.approx(1 / 3),
        "precision": pytest.approx(2 / 3),
        "noise_recall": 0.5,
        "naive_prune_wrongly_dropped": 1,
        "naive_prune_wrong_share": pytest.approx(1 / 3),
    }


def test_recall_counts_only_what_was_examined() -> None:
    score = score_flags(["c"], TRUTH, examined=["a", "b", "c"])
    assert (score["noise_planted"], score["noise_recall"]) == (1, 1.0)


def test_rates_without_a_denominator_are_none() -> None:
    score = score_flags([], TRUTH, examined=["a", "b"])
    assert score["flagged"] == 0
    assert score["precision"] is score["noise_recall"] is score["naive_prune_wrong_share"] is None


@pytest.mark.parametrize(
    ("flagged", "examined"),
    [
        pytest.param(["x"], None, id="nobody_knows_it"),
        pytest.param(["d"], ["a"], id="flagged_but_not_examined"),
        pytest.param([], ["x"], id="examined_elsewhere"),
    ],
)
def test_unknown_images_are_refused(flagged: list[str], examined: list[str] | None) -> None:
    with pytest.raises(InputError, match="unknown to the truth"):
        score_flags(flagged, TRUTH, examined=examined)


def test_label_accuracy_leaves_garbage_and_unlabelled_rows_out() -> None:
    assert score_labels(GIVEN, TRUTH) == {"n": 5, "wrong": 2, "accuracy": 0.6}
    blank = GIVEN.with_columns(label=pl.lit(None, dtype=pl.String))
    assert score_labels(blank, TRUTH) == {"n": 0, "wrong": 0, "accuracy": None}


def test_cleaning_is_counted_as_by_hand() -> None:
    # c corrected, b spoiled, e (garbage) and f (right) dropped
    after = pl.DataFrame(
        {"image_uuid": ["a", "b", "c", "d", "f"], "label": ["acne", "tinea", "acne", "acne", None]}
    )
    assert score_cleaning(GIVEN, after, TRUTH) == {
        "accuracy_before": 0.6,
        "accuracy_after": 0.5,
        "changed": 2,
        "corrected": 1,
        "spoiled": 1,
        "dropped": 2,
        "dropped_right": 1,
        "dropped_garbage": 1,
    }


def test_cleaning_does_not_depend_on_row_order() -> None:
    after = GIVEN.filter(pl.col("image_uuid") != "e")
    assert score_cleaning(GIVEN, after, TRUTH) == score_cleaning(
        GIVEN.reverse(), after.reverse(), TRUTH.reverse()
    )


PICTURES = TRUTH.with_columns(near_duplicate_of=pl.Series([None, "a", None, "a", None, "c"]))


def pictures(*found: tuple[str, str, str | None]) -> dict[str, int]:
    columns = {"kind": pl.String, "image_uuid": pl.String, "other_uuid": pl.String}
    return score_pictures(pl.DataFrame(found, schema=columns, orient="row"), PICTURES)


def test_pictures_are_counted_as_by_hand() -> None:
    """Of a there are two copies, b and d; f is one of c; e is garbage."""
    found = pictures(
        ("not_skin", "e", None),
        ("not_skin", "a", None),
        ("outlier", "c", None),
        ("near_duplicate", "b", "d"),  # two copies of one picture, without the picture
        ("near_duplicate", "a", "d"),
        ("exact_duplicate", "c", "d"),
    )
    assert found == {
        "garbage_planted": 1,
        "garbage_found": 1,
        "not_skin_wrongly": 1,
        "copies_planted": 3,
        "copies_found": 2,
        "pairs_wrongly": 1,
    }
    assert pictures() == {**dict.fromkeys(found, 0), "garbage_planted": 1, "copies_planted": 3}


@pytest.mark.parametrize("found", [("not_skin", "x", None), ("near_duplicate", "a", "x")])
def test_a_picture_that_the_truth_does_not_know_is_refused(
    found: tuple[str, str, str | None],
) -> None:
    with pytest.raises(InputError, match="named images unknown to the truth"):
        pictures(found)
