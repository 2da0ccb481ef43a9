"""Labels: laws that hold for any drop and any votes."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from random import Random

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_project.lib.labels.consensus import clean_labels
from dagster_project.lib.labels.drop import Drop, read_drop
from dagster_project.lib.labels.given import given_version

CLASSES = ("acne", "eczema")
IMAGES = pl.Series("image_uuid", ["a", "b", "c"])
WORDS = [*CLASSES, "unsure", "not_usable"]

row = st.tuples(
    st.sampled_from(["a", "b", "c", "c", "zz"]),
    st.sampled_from(["Ada", "Kim"]),
    st.sampled_from([*WORDS, *WORDS, "", "", "wrong"]),
    st.sampled_from(["", "", "0.5", "2"]),
)
file_rows = st.lists(row, max_size=3)
drop_files = st.dictionaries(st.sampled_from(["1.csv", "2.csv", "3.csv"]), file_rows, max_size=3)


def read(content: dict[str, list[tuple[str, ...]]], in_force: pl.DataFrame | None) -> Drop:
    with tempfile.TemporaryDirectory() as folder:
        for name, rows in content.items():
            lines = ["image_uuid,reviewer,label,confidence", *map(",".join, rows)]
            (Path(folder) / name).write_text("\n".join(lines) + "\n")
        return read_drop(folder, classes=CLASSES, image_uuids=IMAGES, in_force=in_force)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(drop_files, drop_files)
def test_reading_again_after_a_snapshot_changes_nothing(
    before: dict[str, list[tuple[str, ...]]], now: dict[str, list[tuple[str, ...]]]
) -> None:
    # Else a level-triggered sensor would refit for ever.
    first = read(before, None)
    second = read(now, first.reviews)
    again = read(now, second.reviews)
    assert again.version == second.version
    assert again.reviews.equals(second.reviews)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(drop_files, drop_files)
def test_no_accepted_judgement_is_lost_while_a_file_is_refused(
    before: dict[str, list[tuple[str, ...]]], now: dict[str, list[tuple[str, ...]]]
) -> None:
    key = ["image_uuid", "reviewer"]
    first = read(before, None)
    second = read(now, first.reviews)
    if second.refusals:
        assert first.reviews.join(second.reviews, on=key, how="anti").is_empty()
        mine = {tuple(row[:3]) for rows in now.values() for row in rows}
        changed = second.reviews.join(first.reviews, on=[*key, "label"], how="anti")
        assert set(changed.select(*key, "label").rows()) <= mine


@settings(derandomize=True, max_examples=100, deadline=None)
@given(
    st.dictionaries(st.text(max_size=3), st.none() | st.sampled_from(CLASSES), max_size=8),
    st.randoms(use_true_random=False),
)
def test_the_version_of_given_labels_is_that_of_a_mapping(
    labels: dict[str, str | None], random: Random
) -> None:
    def version(rows: list[tuple[str, str | None]]) -> str:
        schema = {"image_uuid": pl.String, "label": pl.String}
        return given_version(pl.DataFrame(rows, schema=schema, orient="row"))

    shuffled = list(labels.items())
    random.shuffle(shuffled)
    assert version(shuffled) == version(list(labels.items()))
    for image, label in labels.items():
        other = labels | {image: "eczema" if label is None else None}
        assert version(list(other.items())) != version(shuffled)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(drop_files)
def test_only_whole_files_without_a_fault_count(content: dict[str, list[tuple[str, ...]]]) -> None:
    accepted: dict[tuple[str, str], str] = {}
    refused = []
    for name in sorted(content):
        mine: dict[tuple[str, str], str] = {}
        fault = False
        for image, reviewer, label, confidence in content[name]:
            if not label:
                continue
            said = {**accepted, **mine}.get((image, reviewer), label)
            fault |= image == "zz" or label == "wrong" or confidence == "2" or said != label
            mine[image, reviewer] = label
        if fault:
            refused.append(name)
        else:
            accepted.update(mine)
    drop = read(content, None)
    rows = drop.reviews.select("image_uuid", "reviewer", "label").rows()
    assert rows == [(*key, label) for key, label in sorted(accepted.items())]
    assert sorted({r.file for r in drop.refusals}) == refused


@settings(derandomize=True, max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(WORDS)), max_size=12))
def test_consensus_agrees_with_counting_by_hand(votes: list[tuple[str, str]]) -> None:
    reviews = pl.DataFrame(
        [(image, f"r{n}", label) for n, (image, label) in enumerate(votes)],
        schema=dict.fromkeys(("image_uuid", "reviewer", "label"), pl.String),
        orient="row",
    )
    labels = pl.DataFrame({"image_uuid": ["b", "a", "c"], "label": ["acne"] * 3})
    expected = []
    for image in ["b", "a", "c"]:
        counts = Counter(label for i, label in votes if i == image and label != "unsure")
        top = counts.most_common(2)
        won = bool(top) and (len(top) == 1 or top[0][1] > top[1][1])
        winner = top[0][0] if won else "acne"
        expected.append((image, None if winner == "not_usable" else winner))
    assert clean_labels(labels, reviews).select("image_uuid", "label").rows() == expected
    assert clean_labels(labels, reviews.reverse()).equals(clean_labels(labels, reviews))
