"""Candidates: cleanlab's flags on the right rows, worst first, with nothing lost or shifted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dagster_project.lib.errors import InputError
from dagster_project.lib.mislabels.candidates import (
    ISSUE_COLUMNS,
    METHODS,
    find_candidates,
    write_candidates,
)

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
    assert found.per_class.rows() == [
        ("acne", 9, 0, 0.0),
        ("eczema", 10, 1, 0.1),
        ("tinea", 11, 1, pytest.approx(1 / 11)),
    ]
    assert found.confusions.rows() == [("eczema", "acne", 1), ("tinea", "eczema", 1)]
    assert found.summary == {
        "n": 30,
        "n_issues": 2,
        "issue_rate": pytest.approx(2 / 30),
        "in_sample": False,
        "method": "prune_by_noise_rate",
        "n_without_label": 0,
        "n_without_probs": 0,
    }


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
        pytest.param(labels(None), METHODS[0], "0 rows have both", id="no_label"),
        pytest.param(labels(*["acne"] * 9), METHODS[0], "9 rows .* in 1 classes", id="one_class"),
    ],
)
def test_bad_input_is_refused(given: pl.DataFrame, method: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_candidates(planted()[0], given, in_sample=None, method=method)


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
