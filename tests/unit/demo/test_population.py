import uuid

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from dagster_project.lib.demo.classes import CLASSES, look_alikes
from dagster_project.lib.demo.population import FULL, SMALL, WorldSize, population

SEED = 20261122


@pytest.fixture(scope="module", params=[SMALL, FULL], ids=lambda size: size.name)
def people(request: pytest.FixtureRequest) -> pl.DataFrame:
    return population(request.param, SEED)


def test_equal_seeds_give_equal_populations_and_others_do_not() -> None:
    assert_frame_equal(population(SMALL, 1), population(SMALL, 1))
    assert set(population(SMALL, 1)["image_uuid"]).isdisjoint(population(SMALL, 2)["image_uuid"])


def test_no_patient_is_in_two_splits(people: pl.DataFrame) -> None:
    assert people.group_by("patient_id").agg(pl.col("split").n_unique())["split"].max() == 1


def test_both_splits_have_patients_of_every_class(people: pl.DataFrame) -> None:
    for _, part in people.group_by("split"):
        assert set(part["disease"]) == set(CLASSES)


def test_full_world_has_the_size_that_the_demo_promises() -> None:
    people = population(FULL, SEED)
    assert 3_800 <= people.height <= 4_300
    assert 1_600 <= people.filter(split="test").height <= 1_900
    per_patient = people.group_by("patient_id").len()["len"]
    assert 2.7 <= float(per_patient.mean()) <= 3.4  # type: ignore[arg-type]


def test_noise_is_a_twelfth_to_a_seventh_and_runs_along_look_alikes(people: pl.DataFrame) -> None:
    real = people.filter(~pl.col("is_garbage"))
    wrong = real.filter("is_noise")
    assert 0.10 <= wrong.height / real.height <= 0.14
    along = [g in look_alikes(t) for t, g in wrong.select("true_label", "given_label").iter_rows()]
    assert sum(along) / len(along) > 0.85


def test_noise_means_exactly_that_the_given_label_is_wrong(people: pl.DataFrame) -> None:
    real = people.filter(~pl.col("is_garbage"))
    assert ((real["given_label"] != real["true_label"]) == real["is_noise"]).all()
    assert not people.filter("is_garbage")["is_noise"].any()


def test_noise_is_in_both_splits_and_likelier_where_images_are_ambiguous() -> None:
    people = population(FULL, SEED).filter(~pl.col("is_garbage"))
    for _, part in people.group_by("split"):
        assert 0.08 <= part["is_noise"].sum() / part.height <= 0.16
    by_noise = people.group_by("is_noise").agg(pl.col("ambiguity").mean()).sort("is_noise")
    assert by_noise["ambiguity"][1] > 1.5 * by_noise["ambiguity"][0]


def test_garbage_has_a_label_but_no_truth(people: pl.DataFrame) -> None:
    garbage = people.filter("is_garbage")
    assert 0.005 <= garbage.height / people.height <= 0.02
    assert garbage["true_label"].null_count() == garbage.height
    assert people["given_label"].is_in(CLASSES).all()
    assert people.filter(~pl.col("is_garbage"))["true_label"].null_count() == 0


def test_a_few_files_are_broken_and_none_of_them_is_garbage(people: pl.DataFrame) -> None:
    broken = people.filter("is_unreadable")
    assert 3 <= broken.height <= 10
    assert not broken["is_garbage"].any()


def test_copies_are_of_readable_skin_in_the_same_split_and_some_change_the_patient() -> None:
    people = population(FULL, SEED)
    copies = people.filter(pl.col("near_duplicate_of").is_not_null())
    assert 0.015 <= copies.height / people.height <= 0.025
    both = copies.join(people, left_on="near_duplicate_of", right_on="image_uuid", suffix="_source")
    assert both.height == copies.height
    assert (both["split"] == both["split_source"]).all()
    assert (both["true_label"] == both["true_label_source"]).all()
    assert not both["is_garbage_source"].any()
    assert not both["is_unreadable_source"].any()
    moved = (both["patient_id"] != both["patient_id_source"]).sum()
    assert 0 < moved < both.height


def test_ids_are_random_uuids_whose_order_says_nothing_about_the_class() -> None:
    people = population(FULL, SEED)
    assert people["image_uuid"].is_unique().all()
    assert all(str(uuid.UUID(i)) == i and uuid.UUID(i).version == 4 for i in people["image_uuid"])
    # a class that stood in a run would make equal neighbours frequent
    label = people["true_label"]
    equal = float((label == label.shift()).mean())  # type: ignore[arg-type]
    chance = float((label.value_counts()["count"] / label.len()).pow(2).sum())
    assert equal == pytest.approx(chance, abs=0.02)


def test_patient_numbers_say_nothing_about_disease_or_split() -> None:
    people = population(FULL, SEED).unique("patient_id").sort("patient_id")
    for column in ("disease", "split"):
        values = people[column]
        equal = float((values == values.shift()).mean())  # type: ignore[arg-type]
        chance = float((values.value_counts()["count"] / values.len()).pow(2).sum())
        assert equal == pytest.approx(chance, abs=0.04)


def test_a_tiny_world_still_has_every_class_in_both_splits() -> None:
    people = population(WorldSize("tiny", 10), 3)
    assert people.filter(pl.col("split") == "test")["disease"].n_unique() == 25
