"""Cells of a review sheet: one spelling where it is certain, a named fault where it is not."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from dagster_project.lib.labels.drop import read_drop
from dagster_project.lib.labels.names import KnownNames, cleaned, folded

from .conftest import HEADER, Put, Read

CYRILLIC_E = "\N{CYRILLIC SMALL LETTER IE}"


@pytest.mark.parametrize(
    "spelling",
    [
        "Eczema ",
        "ECZEMA",
        "\u00a0eczema",
        "ec\u200bzema",
        "\ufeffeczema",
        "eczema\u202f",
        "eCzeMa\t",
    ],
)
def test_a_class_is_known_by_any_spelling_that_can_only_be_it(
    put: Put, read: Read, spelling: str
) -> None:
    put("r.csv", f"a,Ada,{spelling},,\n")
    assert read().reviews["label"].to_list() == ["eczema"]


@pytest.mark.parametrize("spelling", ["Not usable", "NOT-USABLE", "not_usable ", "Not\u00a0Usable"])
def test_words_for_no_class_are_spelt_as_freely(put: Put, read: Read, spelling: str) -> None:
    put("r.csv", f"a,Ada,{spelling},,\n")
    assert read().reviews["label"].to_list() == ["not_usable"]


@pytest.mark.parametrize(
    ("cells", "column", "kind", "nearest"),
    [
        pytest.param("a,Ada,ezcema,", "label", "unknown class", "eczema", id="typo"),
        pytest.param(
            f"a,Ada,{CYRILLIC_E}czema,", "label", "look-alike letters", "eczema", id="homoglyph"
        ),
        pytest.param("a,Ada,=B2,", "label", "formula", None, id="formula"),
        pytest.param("a,=ADA(),acne,", "reviewer", "formula", None, id="formula_reviewer"),
        pytest.param("a,,acne,", "reviewer", "empty", None, id="no_reviewer"),
        pytest.param("a,\u200b,acne,", "reviewer", "empty", None, id="an_invisible_reviewer"),
        pytest.param(
            "a,Ad\N{CYRILLIC SMALL LETTER A},acne,",
            "reviewer",
            "look-alike letters",
            None,
            id="two",
        ),
        pytest.param(f"a,{'x' * 101},acne,", "reviewer", "too long", None, id="a_long_name"),
        pytest.param("a,A\x07da,acne,", "reviewer", "control character", None, id="bell"),
        pytest.param(",Ada,acne,", "image_uuid", "empty", None, id="no_image"),
        pytest.param("zz,Ada,acne,", "image_uuid", "unknown image", None, id="no_such_image"),
        pytest.param("B,Ada,acne,", "image_uuid", "unknown image", "b", id="other_capitals"),
        pytest.param("=A1,Ada,acne,", "image_uuid", "formula", None, id="formula_id"),
        pytest.param("0007.0,Ada,acne,", "image_uuid", "unknown image", None, id="no_such_number"),
        pytest.param("12.0,Ada,acne,", "image_uuid", "id turned into a number", "0012", id="float"),
        pytest.param("1.2E+10,Ada,acne,", "image_uuid", "id turned into a number", None, id="e10"),
        pytest.param('"1,2E+10",Ada,acne,', "image_uuid", "id turned into a number", None, id="e"),
        pytest.param("345,Ada,acne,", "image_uuid", "leading zeros lost", "00345", id="zeros"),
        pytest.param("04-Mar,Ada,acne,", "image_uuid", "id turned into a date", None, id="date"),
        pytest.param("Summe,Ada,17,", "image_uuid", "total row", None, id="totals"),
        pytest.param("a,Ada,acne,1.2", "confidence", "not a number from 0 to 1", None, id="above"),
        pytest.param("a,Ada,acne,nan", "confidence", "not a number from 0 to 1", None, id="nan"),
        pytest.param("a,Ada,acne,-0.1", "confidence", "not a number from 0 to 1", None, id="below"),
        pytest.param('a,Ada,acne,"0,8"', "confidence", "decimal comma", None, id="comma"),
        pytest.param("a,Ada,acne,80 %", "confidence", "percentage", None, id="percent"),
    ],
)
def test_a_cell_that_is_not_certain_is_a_fault_with_its_name(
    drop_folder: Path, cells: str, column: str, kind: str, nearest: str | None
) -> None:
    images = pl.Series(["0012", "00345", "a", "b"])
    (drop_folder / "r.csv").write_text(f"{HEADER}{cells},\n", encoding="utf-8")
    drop = read_drop(str(drop_folder), classes=("acne", "eczema"), image_uuids=images)
    assert drop.reviews.is_empty()
    found = next(r for r in drop.refusals if r.column == column)
    assert (found.row, found.kind, found.nearest) == (2, kind, nearest)
    assert found.value is not None


def test_a_second_header_is_named(put: Put, read: Read) -> None:
    put("r.csv", "a,Ada,acne,,\n" + HEADER + "b,Ada,acne,,\n")
    assert [r.place for r in read().refusals] == ["r.csv row 3: second header"]


def test_two_classes_that_fold_to_one_are_told_apart_by_their_exact_spelling() -> None:
    names = KnownNames(("tinea pedis", "tinea_pedis"))
    assert names.match("tinea_pedis").name == "tinea_pedis"
    assert names.match(" tinea pedis ").name == "tinea pedis"
    found = names.match("Tinea-Pedis")
    assert (found.name, found.kind) == (None, "ambiguous class")


def test_composed_and_decomposed_letters_are_one(put: Put) -> None:
    composed, decomposed = "pa\u00f1al", "pan\u0303al"
    assert KnownNames((composed,)).match(decomposed).name == composed
    assert KnownNames((decomposed,)).match(composed).name == decomposed
    assert cleaned(decomposed) == cleaned(composed)
    assert folded(decomposed.upper()) == folded(composed)


def test_the_confidence_has_one_spelling_a_number(put: Put, read: Read) -> None:
    put("r.csv", "a,Ada,acne,.5,\nb,Ada,acne,0.50,\nc,Ada,acne,5e-1,\n")
    assert read().reviews["confidence"].to_list() == ["0.5"] * 3


def test_a_comment_is_text_and_decides_nothing(put: Put, read: Read) -> None:
    put("r.csv", 'a,Ada,acne,,=HYPERLINK()\nb,Ada,acne,,"two\nlines"\n')
    assert read().reviews["comment"].to_list() == ["=HYPERLINK()", "two lines"]


def test_what_is_told_of_a_giant_cell_is_short(put: Put, read: Read) -> None:
    put("r.csv", f"a,Ada,{'x' * 90_000},,\n")
    refusal = read().refusals[0]
    assert len(refusal.value or "") <= 200
    assert len(refusal.reason) <= 600
