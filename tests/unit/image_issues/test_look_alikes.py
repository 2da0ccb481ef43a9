"""Groups: transitive, bounded, and the same whatever the order of the pairs."""

from __future__ import annotations

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from dagster_project.lib.image_issues.conflicts import conflicting
from dagster_project.lib.image_issues.look_alikes import similar_groups


def frame(pairs: list[tuple[str, str, float]]) -> pl.DataFrame:
    schema = {"image_uuid": pl.String, "other_uuid": pl.String, "score": pl.Float64}
    return pl.DataFrame(pairs, schema=schema, orient="row")


def groups(pairs: list[tuple[str, str, float]], most: int = 50) -> list[set[str]]:
    found = similar_groups(frame(pairs), most=most)
    return [set(part["image_uuid"]) for part in found.partition_by("group")]


def test_a_chain_of_near_pairs_stops_at_the_bound_and_equal_pictures_do_not() -> None:
    chain = [(f"i{n:03d}", f"i{n + 1:03d}", 0.1) for n in range(100)]
    assert max(map(len, groups(chain, most=10))) == 10
    equal = [(a, b, 0.0) for a, b, _ in chain]
    assert groups(equal, most=10) == [{f"i{n:03d}" for n in range(101)}]


def test_the_nearest_are_joined_first() -> None:
    assert groups([("a", "b", 0.3), ("b", "c", 0.1), ("c", "d", 0.2)], most=2) == [{"b", "c"}]
    joined = groups([("a", "b", 0.3), ("b", "c", 0.1), ("c", "d", 0.2)], most=3)
    assert joined == [{"b", "c", "d"}]


def test_rows_without_a_partner_are_no_pairs() -> None:
    assert similar_groups(frame([("a", None, 0.1)])).is_empty()  # type: ignore[list-item]


NAMES = st.sampled_from("abcdefgh")
PAIRS = st.lists(
    st.tuples(NAMES, NAMES, st.sampled_from([0.0, 0.1, 0.2])).filter(lambda p: p[0] < p[1]),
    max_size=14,
)


@given(PAIRS, st.randoms(use_true_random=False))
def test_the_order_of_pairs_is_irrelevant_and_without_bound_groups_are_components(
    pairs: list[tuple[str, str, float]], random: object
) -> None:
    shuffled = list(pairs)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for most in (3, 100):
        assert groups(pairs, most) == groups(shuffled, most)
    found = groups(pairs, 100)
    for a, b, _ in pairs:
        assert sum({a, b} <= group for group in found) == 1
    assert len(set().union(*found)) == sum(map(len, found))


def test_only_two_different_labels_conflict() -> None:
    columns = {"relation": "equal bytes", "distance": 0.0, "same_patient": True}
    pairs = frame([("a", "b", 0.0), ("a", "c", 0.0), ("c", "d", 0.0), ("d", "e", 0.1)])
    pairs = pl.concat([pairs, frame([("a", None, 0.2)])])  # type: ignore[list-item]
    pairs = pairs.with_columns(**{k: pl.lit(v) for k, v in columns.items()}, across_splits=False)
    labels = pl.DataFrame({"image_uuid": list("abcd"), "label": ["acne", "acne", "tinea", None]})
    found = conflicting(pairs, labels)
    assert found.select("image_uuid", "other_uuid", "label", "other_label").rows() == [
        ("a", "c", "acne", "tinea")
    ]
