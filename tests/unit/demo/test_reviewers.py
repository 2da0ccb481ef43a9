import polars as pl
import pytest

from dagster_project.lib.demo.classes import CLASSES, look_alikes
from dagster_project.lib.demo.population import FULL, population
from dagster_project.lib.demo.reviewers import COLUMNS, REVIEWERS, simulate_reviews
from dagster_project.lib.errors import InputError


@pytest.fixture(scope="module")
def people() -> pl.DataFrame:
    return population(FULL, 20261122)


@pytest.fixture(scope="module")
def reviews(people: pl.DataFrame) -> dict[str, pl.DataFrame]:
    return simulate_reviews(people, people["image_uuid"].to_list(), CLASSES, seed=1)


def named_right(review: pl.DataFrame, people: pl.DataFrame) -> float:
    joined = review.join(people, on="image_uuid").filter(pl.col("label").is_in(CLASSES))
    return float((joined["label"] == joined["true_label"]).mean())  # type: ignore[arg-type]


def test_every_reader_answers_every_image_in_the_columns_of_the_contract(
    people: pl.DataFrame, reviews: dict[str, pl.DataFrame]
) -> None:
    assert set(reviews) == {"reader_a", "reader_b", "reader_c"}
    for name, review in reviews.items():
        assert tuple(review.columns) == COLUMNS
        assert review["image_uuid"].equals(people["image_uuid"])
        assert review["reviewer"].unique().to_list() == [name]
        assert review["label"].is_in([*CLASSES, "unsure", "not_usable"]).all()
        assert review["confidence"].cast(pl.Float64).drop_nulls().is_between(0, 1).all()


def test_readers_differ_in_care_by_the_stated_shares(
    people: pl.DataFrame, reviews: dict[str, pl.DataFrame]
) -> None:
    for reader in REVIEWERS:
        assert named_right(reviews[reader.name], people) == pytest.approx(reader.right, abs=0.02)
        unsure = (reviews[reader.name]["label"] == "unsure").mean()
        assert unsure == pytest.approx(reader.unsure, abs=0.012)


def test_garbage_and_broken_files_are_not_usable_and_nothing_else_is(
    people: pl.DataFrame, reviews: dict[str, pl.DataFrame]
) -> None:
    useless = people["is_garbage"] | people["is_unreadable"]
    for review in reviews.values():
        assert ((review["label"] == "not_usable") == useless).all()


def test_mistakes_run_along_look_alikes(
    people: pl.DataFrame, reviews: dict[str, pl.DataFrame]
) -> None:
    joined = reviews["reader_c"].join(people, on="image_uuid")
    wrong = joined.filter(pl.col("label").is_in(CLASSES), pl.col("label") != pl.col("true_label"))
    along = [
        label in look_alikes(t) for label, t in wrong.select("label", "true_label").iter_rows()
    ]
    assert wrong.height > 100
    assert sum(along) / len(along) > 0.75


def test_an_answer_does_not_depend_on_the_packet(
    people: pl.DataFrame, reviews: dict[str, pl.DataFrame]
) -> None:
    few = people["image_uuid"][10:20].to_list()[::-1]
    again = simulate_reviews(people, few, CLASSES, seed=1)["reader_b"]
    assert again.rows() == reviews["reader_b"][10:20].reverse().rows()


def test_an_image_of_another_world_is_refused(people: pl.DataFrame) -> None:
    with pytest.raises(InputError, match="does not know 'nobody'"):
        simulate_reviews(people, ["nobody"], CLASSES, seed=1)
