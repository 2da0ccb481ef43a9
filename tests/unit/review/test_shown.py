"""What may be shown beside a photograph: nothing that identifies, nothing that tells the label."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dagster_project.lib.errors import InputError
from dagster_project.lib.review.shown import (
    check_columns,
    check_ids,
    read_descriptions,
    shown_values,
)

CLASSES = ("acne", "contact_dermatitis", "tinea")
N = 300


@pytest.fixture
def frame() -> pl.DataFrame:
    label = [CLASSES[k % 3] for k in range(N)]
    return pl.DataFrame(
        {
            "image_uuid": [f"i{k:03d}" for k in range(N)],
            "given_label": label,
            "predicted_label": label[1:] + label[:1],
        }
    )


def column(name: str, values: list[str | None]) -> pl.DataFrame:
    ids = [f"i{k:03d}" for k in range(N)]
    return pl.DataFrame({"image_uuid": ids, name: values})


HARMLESS = [["yes", "no", None, "yes"][k % 4] for k in range(N)]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        pytest.param(name, "identifies a person", id=name)
        for name in ("patient_id", "PatientAge", "study ID", "surname", "e-mail", "date_of_birth")
    ]
    + [
        pytest.param(name, "a verdict on the image", id=name)
        for name in ("label", "diagnostic", "icd10", "biopsed", "model score", "flagged", "tier")
    ],
)
def test_a_column_is_refused_by_its_name(name: str, reason: str, frame: pl.DataFrame) -> None:
    with pytest.raises(InputError, match=f"{name} is named like .*{reason}"):
        check_columns((name,), column(name, HARMLESS), frame, CLASSES)


@pytest.mark.parametrize("name", ["age", "sex", "thyroid", "itch", "location_side", "profile"])
def test_a_harmless_column_may_be_shown(name: str, frame: pl.DataFrame) -> None:
    metadata = column(name, HARMLESS)
    check_columns((name,), metadata, frame, CLASSES)
    found = shown_values((name,), metadata, ["i001", "i002"])
    assert found == {"i001": {name: "no"}, "i002": {}}


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        pytest.param(["Contact Dermatitis", *HARMLESS[1:]], "a class name", id="class"),
        pytest.param(["seen 2024-03-01", *HARMLESS[1:]], "dates, mail", id="date"),
        pytest.param(["a@b.org", *HARMLESS[1:]], "dates, mail", id="mail"),
        pytest.param(["4711 0815 4711081", *HARMLESS[1:]], "long numbers", id="number"),
        pytest.param([f"text {k}" for k in range(N)], "300 different values", id="text"),
        pytest.param([f"L{k % 3}" for k in range(N)], "tells the given label of 100%", id="code"),
        pytest.param(
            [f"L{(k + 1) % 3}" for k in range(N)], "tells the .* label of 100%", id="prediction"
        ),
    ],
)
def test_a_column_is_refused_by_its_values(
    values: list[str | None], reason: str, frame: pl.DataFrame
) -> None:
    with pytest.raises(InputError, match=reason):
        check_columns(("remark",), column("remark", values), frame, CLASSES)


def test_a_code_of_the_label_is_seen_through_noise_and_a_weak_hint_is_not(
    frame: pl.DataFrame,
) -> None:
    rng = np.random.default_rng(0)
    shuffled = frame.with_columns(predicted_label=pl.Series(rng.permutation(CLASSES * 100)))
    for noise, refused in ((0.15, True), (0.6, False)):
        code = np.where(rng.random(N) < noise, rng.integers(0, 3, N), np.arange(N) % 3)
        metadata = column("remark", [f"c{k}" for k in code])
        if refused:
            with pytest.raises(InputError, match="a label in disguise"):
                check_columns(("remark",), metadata, shuffled, CLASSES)
        else:
            check_columns(("remark",), metadata, shuffled, CLASSES)


def test_a_measurement_with_a_value_of_its_own_for_each_image_is_no_label(
    frame: pl.DataFrame,
) -> None:
    few = frame.head(60)
    metadata = column("size", [f"{k}.5" for k in range(N)]).head(60)
    check_columns(("size",), metadata, few, CLASSES)


def test_where_nearly_all_labels_are_equal_a_harmless_column_stays_harmless() -> None:
    frame = pl.DataFrame(
        {
            "image_uuid": [f"i{k:03d}" for k in range(N)],
            "given_label": ["acne"] * (N - 9) + ["tinea"] * 9,
            "predicted_label": "acne",
        }
    )
    check_columns(("itch",), column("itch", HARMLESS), frame, CLASSES)


@pytest.mark.parametrize(
    ("uuid", "found"),
    [
        pytest.param("{n:08x}-4b", "", id="neutral"),
        pytest.param("Contact-Dermatitis_{n}", "300 image ids hold the given label", id="label"),
        pytest.param("PAT_{n}_17.png", "hold the id of the patient", id="patient"),
    ],
)
def test_ids_that_spell_the_label_are_refused_and_a_patient_in_them_is_said(
    uuid: str, found: str
) -> None:
    frame = pl.DataFrame(
        {
            "image_uuid": [uuid.format(n=n) for n in range(1000, 1000 + N)],
            "patient_id": [f"pat-{n}" for n in range(1000, 1000 + N)],
            "given_label": "contact_dermatitis",
        }
    )
    if "label" in found:
        with pytest.raises(InputError, match=found):
            check_ids(frame)
    else:
        assert found in "".join(check_ids(frame))
        assert bool(found) == bool(check_ids(frame))


def test_an_unknown_column_is_named_with_those_that_may_be_shown(frame: pl.DataFrame) -> None:
    metadata = column("itch", HARMLESS).with_columns(patient_id=pl.lit("p"))
    with pytest.raises(InputError, match="has no 'age'; it has 'itch'"):
        check_columns(("age",), metadata, frame, CLASSES)


def test_descriptions_are_read_by_class(tmp_path: Path) -> None:
    path = tmp_path / "words.csv"
    path.write_text('class,description\nacne,"spots,\n of the young"\n')
    assert read_descriptions(path, CLASSES) == {"acne": "spots, of the young"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        pytest.param("akne,x", 'unknown class "akne" .*nearest "acne"', id="class"),
        pytest.param("acne,x\nacne,y", "row 3, column class: .* second time", id="twice"),
        pytest.param("acne,", "row 2, column description: empty", id="empty"),
    ],
)
def test_bad_descriptions_are_refused(tmp_path: Path, rows: str, message: str) -> None:
    path = tmp_path / "words.csv"
    path.write_text(f"class,description\n{rows}\n")
    with pytest.raises(InputError, match=message):
        read_descriptions(path, CLASSES)
