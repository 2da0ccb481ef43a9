"""Candidates: cleanlab's flags on the right rows, worst first, with nothing lost or shifted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from dagster_project.lib.errors import InputError
from dagster_project.lib.evidence.proportion import clustered_interval, wilson
from dagster_project.lib.mislabels.candidates import (
    IN_SAMPLE_MEANS,
    ISSUE_COLUMNS,
    METHODS,
    QUALITIES,
    WILSON,
    find_candidates,
    write_candidates,
)
from dagster_project.lib.mislabels.confident_joint import BLOCK
from dagster_project.lib.probability_table import ProbabilityTable

from .conftest import CLASSES, labels, planted, table


def noisy(n: int = 400, k: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    probs = rng.dirichlet(np.full(k, 0.4), n) * rng.uniform(0.3, 1, (n, 1))
    given = np.array([rng.choice(k, p=p / p.sum()) for p in probs])
    flip = rng.random(n) < 0.1
    given[flip] = rng.integers(0, k, flip.sum())
    return probs, given


def test_planted_errors_are_found_worst_first() -> None:
    found = find_candidates(*planted(), in_sample=False)
    assert found.issues.columns == list(ISSUE_COLUMNS)
    assert found.issues.select("image_uuid", "given_label", "predicted_label").rows() == [
        ("r00", "eczema", "acne"),
        ("r04", "tinea", "eczema"),
    ]
    first = found.issues.row(0, named=True)
    assert first["given_prob"] == pytest.approx(0.05)
    assert first["predicted_prob"] == pytest.approx(0.95)
    assert first["quality"] == pytest.approx(0.05 / (0.05 + 0.05 + 0.95))
    assert first["patient_id"] is first["image_path"] is None


def test_the_counts_add_up() -> None:
    found = find_candidates(*planted(), in_sample=False)
    assert found.per_class.select("class", "n", "n_issues", "issue_rate").rows() == [
        ("acne", 9, 0, 0.0),
        ("eczema", 10, 1, 0.1),
        ("tinea", 11, 1, pytest.approx(1 / 11)),
    ]
    assert found.confusions.rows() == [("eczema", "acne", 1, 0.5), ("tinea", "eczema", 1, 0.5)]
    low, high = wilson(np.array([2 / 30]), 30)
    assert found.summary == {
        "n": 30,
        "n_patients": None,
        "n_issues": 2,
        "issue_rate": pytest.approx(2 / 30),
        "issue_rate_low": low[0],
        "issue_rate_high": high[0],
        "interval": WILSON,
        "in_sample": False,
        "in_sample_means": IN_SAMPLE_MEANS[False],
        "method": "prune_by_noise_rate",
        "quality": "self_confidence",
        "n_without_label": 0,
        "n_without_probs": 0,
    }


def test_every_judged_row_is_there_worst_first_and_the_flagged_ones_are_the_issues() -> None:
    probs, given = noisy()
    found = find_candidates(
        table(probs.tolist()), labels(*[CLASSES[g] for g in given]), in_sample=None
    )
    assert found.rows.columns == [*ISSUE_COLUMNS, "flagged"]
    assert found.rows.height == found.summary["n"] == len(given)
    assert found.rows["flagged"].sum() == found.summary["n_issues"]
    assert found.rows.filter("flagged").drop("flagged").equals(found.issues)
    assert found.rows.equals(found.rows.sort("quality", "image_uuid"))


def test_equal_quality_stands_in_the_order_of_ids_in_all_rows() -> None:
    probs = np.tile([[0.9, 0.1, 0.1], [0.1, 0.9, 0.1], [0.1, 0.1, 0.9]], (40, 1))
    given = np.tile([0, 1, 2], 40)
    given[::7] = 1
    ids = np.random.default_rng(0).permutation([f"r{i:03d}" for i in range(120)])
    made = ProbabilityTable(CLASSES, pl.DataFrame({"image_uuid": ids}), {"probs": probs})
    said = pl.DataFrame({"image_uuid": ids, "label": [CLASSES[g] for g in given]})
    rows = find_candidates(made, said, in_sample=False).rows
    assert rows["quality"].n_unique() == 2
    assert rows.equals(rows.sort("quality", "image_uuid"))


@pytest.mark.parametrize("quality", QUALITIES)
def test_quality_is_cleanlabs_own_in_0_1_and_low_is_bad(quality: str) -> None:
    from cleanlab.rank import get_label_quality_scores

    probs, given = noisy()
    normalised = probs / probs.sum(axis=1, keepdims=True)
    expected = get_label_quality_scores(given, normalised, method=quality)
    found = find_candidates(
        table(probs.tolist()),
        labels(*[CLASSES[g] for g in given]),
        in_sample=None,
        quality=quality,
    )
    at = found.rows["image_uuid"].str.slice(1).cast(pl.Int64).to_numpy()
    assert (found.rows["quality"].to_numpy() == expected[at]).all()
    assert found.rows["quality"].is_between(0, 1).all()
    assert found.summary["quality"] == quality
    flagged = found.rows.group_by("flagged").agg(pl.col("quality").mean()).sort("flagged")
    assert flagged["quality"][1] < flagged["quality"][0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("method", METHODS)
def test_more_rows_than_a_block_are_flagged_as_by_the_bare_call(
    method: str, dtype: type[np.floating[Any]]
) -> None:
    from cleanlab.filter import find_label_issues

    n = BLOCK + 700
    probs, given = noisy(n, 5)
    probs = probs.astype(dtype)
    wide = probs.astype(np.float64)
    normalised = wide / wide.sum(axis=1, keepdims=True)
    mask = find_label_issues(given, normalised, filter_by=method, n_jobs=1)
    names = tuple("abcde")
    ids = pl.DataFrame({"image_uuid": [f"{i:05d}" for i in range(n)]})
    said = ids.with_columns(label=pl.Series(names).gather(given))
    found = find_candidates(
        ProbabilityTable(names, ids, {"probs": probs}), said, in_sample=None, method=method
    )
    rows = found.rows.sort("image_uuid")
    assert (rows["flagged"].to_numpy() == mask).all()
    assert (rows["quality"].to_numpy() == normalised[np.arange(n), given]).all()
    assert rows["predicted_label"].to_list() == [names[k] for k in probs.argmax(axis=1)]


def test_rates_have_intervals_by_patient_where_patients_are_known() -> None:
    probs, given = noisy()
    said = labels(*[CLASSES[g] for g in given])
    patients: list[str | None] = [f"p{i // 4}" for i in range(len(given))]
    alone = find_candidates(table(probs.tolist()), said, in_sample=False)
    known = find_candidates(table(probs.tolist(), patient_id=patients), said, in_sample=False)
    assert known.summary["n_patients"] == 100
    rows = known.rows.sort("image_uuid")
    code = np.arange(len(given)) // 4
    expected = clustered_interval(
        rows["flagged"].to_numpy(), code[_at(rows)], given[_at(rows)], n_groups=3
    )
    assert known.per_class["issue_rate_low"].to_list() == expected.low.tolist()
    assert known.per_class["issue_rate_high"].to_list() == expected.high.tolist()
    assert known.per_class["n_patients"].to_list() == expected.n_patients.tolist()
    low, high = wilson(alone.per_class["issue_rate"].to_numpy(), alone.per_class["n"].to_numpy())
    assert alone.per_class["issue_rate_low"].to_list() == low.tolist()
    assert alone.per_class["issue_rate_high"].to_list() == high.tolist()
    assert alone.per_class["n_patients"].null_count() == 3


def _at(rows: pl.DataFrame) -> np.ndarray:
    return rows["image_uuid"].str.slice(1).cast(pl.Int64).to_numpy()


def test_an_image_of_nobody_is_a_patient_of_its_own() -> None:
    probs, given = planted()
    patients = ["p0"] * 20 + [None] * 10
    found = find_candidates(table(probs.probs.tolist(), patient_id=patients), given, in_sample=None)
    assert found.summary["n_patients"] == 11


def test_a_rate_of_one_patient_has_no_interval() -> None:
    probs, given = planted()
    of_one: list[str | None] = ["p0"] * 30
    found = find_candidates(table(probs.probs.tolist(), patient_id=of_one), given, in_sample=None)
    assert found.summary["issue_rate"] == pytest.approx(2 / 30)
    assert found.summary["issue_rate_low"] is None
    assert found.per_class["issue_rate_high"].null_count() == 3


@pytest.mark.parametrize(
    ("known", "words"),
    [
        pytest.param(True, "was trained on these rows", id="in"),
        pytest.param(False, "was not trained on these rows", id="out"),
        pytest.param(None, "not known", id="unknown"),
    ],
)
def test_what_in_sample_means_is_said(known: bool | None, words: str) -> None:
    assert words in str(find_candidates(*planted(), in_sample=known).summary["in_sample_means"])


def test_a_copy_of_all_rows_is_not_left_in_a_global_of_cleanlab() -> None:
    from cleanlab import filter as cleanlab_filter

    find_candidates(*planted(), in_sample=None, method="both")
    assert not hasattr(cleanlab_filter, "pred_probs_by_class")


@pytest.mark.parametrize("method", METHODS)
def test_flags_are_those_of_the_bare_call(method: str) -> None:
    from cleanlab.filter import find_label_issues

    probs, given = noisy()
    normalised = probs / probs.sum(axis=1, keepdims=True)
    mask = find_label_issues(given, normalised, filter_by=method, n_jobs=1)
    found = find_candidates(
        table([[*p] for p in probs.tolist()]),
        labels(*[CLASSES[g] for g in given]),
        in_sample=None,
        method=method,
    )
    expected = {f"r{i:02d}" for i in np.flatnonzero(mask)}
    assert set(found.issues["image_uuid"]) == expected
    assert len(expected) > 5


def test_labels_are_joined_by_id_not_by_position() -> None:
    probs, given = planted()
    straight = find_candidates(probs, given, in_sample=False)
    others = pl.concat([given.reverse(), pl.DataFrame({"image_uuid": ["z"], "label": ["acne"]})])
    assert find_candidates(probs, others, in_sample=False).issues.equals(straight.issues)


def test_equal_quality_is_ordered_by_id() -> None:
    probs = [[0.9, 0.1, 0.1], [0.1, 0.9, 0.1], [0.1, 0.1, 0.9]] * 8
    given = [*CLASSES] * 8
    given[9], given[3], given[0] = "eczema", "eczema", "eczema"
    found = find_candidates(table(probs), labels(*given), in_sample=False)
    assert found.issues["image_uuid"].to_list() == ["r00", "r03", "r09"]


def test_patients_and_paths_travel_with_the_row() -> None:
    probs, given = planted()
    patients: list[str | None] = [f"p{i}" for i in range(30)]
    with_patients = table(probs.probs.tolist(), patient_id=patients)
    paths = pl.DataFrame({"image_uuid": ["r00", "r99"], "image_path": ["0.jpg", "99.jpg"]})
    found = find_candidates(with_patients, given, in_sample=False, paths=paths)
    assert found.issues.select("image_uuid", "patient_id", "image_path").rows() == [
        ("r00", "p0", "0.jpg"),
        ("r04", "p4", None),
    ]


def test_rows_without_label_or_probabilities_are_counted_and_shift_nothing() -> None:
    probs, given = planted()
    values = probs.probs.copy()
    values[1] = np.nan
    values[2] = 0.0
    errors: list[str | None] = [None] * 30
    errors[1] = "unreadable"
    holes = table(values.tolist(), error=errors)
    given = given.with_columns(
        label=pl.when(pl.col("image_uuid") == "r03").then(None).otherwise("label")
    ).filter(pl.col("image_uuid") != "r05")
    found = find_candidates(holes, given, in_sample=True)
    assert found.issues["image_uuid"].to_list() == ["r00", "r04"]
    assert found.summary["n"] == 26
    assert found.summary["n_without_label"] == 2
    assert found.summary["n_without_probs"] == 2
    assert found.summary["in_sample"] is True


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "absent",
    [
        pytest.param({0}, id="first"),
        pytest.param({1}, id="middle"),
        pytest.param({2}, id="last"),
    ],
)
def test_classes_nobody_was_given_neither_crash_nor_shift(method: str, absent: set[int]) -> None:
    probs, given = noisy()
    keep = [i for i, g in enumerate(given) if g not in absent]
    found = find_candidates(
        table(probs[keep].tolist()),
        labels(*[CLASSES[given[i]] for i in keep]),
        in_sample=None,
        method=method,
    )
    by_class = {row["class"]: row for row in found.per_class.iter_rows(named=True)}
    assert list(by_class) == list(CLASSES)
    for k, name in enumerate(CLASSES):
        assert by_class[name]["n"] == (0 if k in absent else int((given == k).sum()))
        assert (by_class[name]["issue_rate"] is None) == (k in absent)
    assert not {CLASSES[k] for k in absent} & set(found.issues["given_label"])
    top = {f"r{row:02d}": CLASSES[probs[i].argmax()] for row, i in enumerate(keep)}
    for uuid, predicted in found.issues.select("image_uuid", "predicted_label").rows():
        assert predicted == top[uuid]


@pytest.mark.parametrize(
    ("given", "method", "message"),
    [
        pytest.param(labels("acne"), "magic", 'method "magic": expected one of \'prune', id="m"),
        pytest.param(labels("acme"), METHODS[0], 'unknown class "acme"', id="unknown_class"),
        pytest.param(labels(None), METHODS[0], "0 of 30 rows have both", id="no_label"),
        pytest.param(
            labels(*["acne"] * 9), METHODS[0], "9 of 30 rows .* labels: 1, at", id="one_class"
        ),
        pytest.param(
            pl.concat([planted()[1], labels("acne")]),
            METHODS[0],
            "'r00' on more than one",
            id="twice",
        ),
    ],
)
def test_bad_input_is_refused(given: pl.DataFrame, method: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_candidates(planted()[0], given, in_sample=None, method=method)


def test_rows_that_cannot_be_judged_are_counted_where_too_few_are_left() -> None:
    sure, given = planted()
    nothing = replace(sure, views={name: 0 * values for name, values in sure.views.items()})
    with pytest.raises(InputError, match=r"0 of 30 rows .*\(0 without a label, 30 without prob"):
        find_candidates(nothing, given, in_sample=None)


def test_an_unknown_quality_is_refused_with_those_there_are() -> None:
    with pytest.raises(InputError, match=r'quality "entropy": expected one of .*normalized_margin'):
        find_candidates(*planted(), in_sample=None, quality="entropy")


def test_the_contract_files_are_written_with_or_without_images(tmp_path: Path) -> None:
    found = find_candidates(*planted(), in_sample=None)
    write_candidates(found, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "issue_confusions.csv",
        "issues_per_class.csv",
        "label_issues.csv",
        "mislabel_candidates.png",
        "summary.json",
    ]
    assert json.loads((tmp_path / "summary.json").read_text())["in_sample"] is None
    header = (tmp_path / "label_issues.csv").read_text().splitlines()[0]
    assert header == ",".join(ISSUE_COLUMNS)
    assert (tmp_path / "mislabel_candidates.png").read_bytes().startswith(b"\x89PNG")
    write_candidates(found, tmp_path, b"montage")
    assert (tmp_path / "mislabel_candidates.png").read_bytes() == b"montage"


def test_no_candidate_at_all_is_a_result() -> None:
    probs, _ = planted()
    found = find_candidates(probs, labels(*[CLASSES[i % 3] for i in range(30)]), in_sample=False)
    assert found.summary["issue_rate"] == 0
    assert found.issues.columns == list(ISSUE_COLUMNS)
    assert found.confusions.is_empty()
