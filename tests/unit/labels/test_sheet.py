"""A review sheet: who saved it does not matter; what a lenient reader would misread has a name."""

from __future__ import annotations

from pathlib import Path

import pytest

from dagster_project.lib.labels.drop import Refusal

from .conftest import HEADER, Read

ROWS = [
    ("0012", "Ada", "acne", "0.8", None),
    ("b", "Zo\N{LATIN SMALL LETTER E WITH DIAERESIS}", "eczema", None, "dark"),
]
TEXT = HEADER + "0012,Ada,acne,0.8,\nb,Zo\N{LATIN SMALL LETTER E WITH DIAERESIS},eczema,,dark\n"


def reviews(drop_folder: Path, read: Read, data: bytes) -> list[tuple[str | None, ...]]:
    (drop_folder / "r.csv").write_bytes(data)
    drop = read()
    assert drop.refusals == ()
    return drop.reviews.select(drop.reviews.columns[:5]).rows()


def refusal(drop_folder: Path, read: Read, data: bytes) -> Refusal:
    (drop_folder / "r.csv").write_bytes(data)
    drop = read()
    assert drop.reviews.is_empty(), "a refused file is refused whole"
    assert "\n" not in drop.refusals[0].place
    return drop.refusals[0]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(TEXT.encode(), id="utf_8"),
        pytest.param(TEXT.encode("utf-8-sig"), id="byte_order_mark"),
        pytest.param(TEXT.encode("utf-16"), id="utf_16_little_endian"),
        pytest.param(b"\xfe\xff" + TEXT.encode("utf-16-be"), id="utf_16_big_endian"),
        pytest.param(TEXT.replace(",", "\t").encode("utf-16"), id="excel_unicode_text"),
        pytest.param(TEXT.replace(",", ";").replace("0.8", "0,8").encode(), id="semicolons"),
        pytest.param(TEXT.replace("\n", "\r\n").encode(), id="windows_line_ends"),
        pytest.param(TEXT.replace("\n", "\r").encode(), id="old_mac_line_ends"),
        pytest.param(("\n\n" + TEXT.replace("\n", "\n\n")).encode(), id="blank_lines"),
        pytest.param(TEXT.rstrip("\n").encode(), id="no_last_line_end_after_a_comment"),
        pytest.param(
            TEXT.replace("image_uuid,reviewer", " Image UUID ,\u200bREVIEWER").encode(), id="header"
        ),
        pytest.param(
            "\n".join(line + ",," for line in TEXT.splitlines()).encode() + b"\n",
            id="empty_columns_without_a_name",
        ),
        pytest.param((TEXT + "c,,,,\na,\n").replace("\n", "\r\n").encode(), id="short_unjudged"),
        pytest.param(
            TEXT.replace("acne,0.8,", "acne,0.8").replace("\n", "\r\n").encode(),
            id="excel_leaves_out_empty_last_cells",
        ),
        pytest.param(
            (TEXT + '"c","","","","a ""quoted"", blank\nrow"\n').encode(), id="quoted_cells"
        ),
    ],
)
def test_what_is_unambiguous_is_read_whoever_saved_it(
    drop_folder: Path, read: Read, data: bytes
) -> None:
    assert reviews(drop_folder, read, data) == ROWS


def test_bytes_of_another_encoding_are_let_through_in_comments_only(
    drop_folder: Path, read: Read
) -> None:
    """What decides is plain ASCII then, in every encoding of Western spreadsheets."""
    text = (
        HEADER.replace(",", ";")
        + "a;Ada;acne;0,5;zu dunkel, \N{LATIN SMALL LETTER U WITH DIAERESIS}berall\n"
    )
    assert reviews(drop_folder, read, text.encode("cp1252")) == [
        ("a", "Ada", "acne", "0.5", "zu dunkel, \N{REPLACEMENT CHARACTER}berall")
    ]


COLUMNS = b"image_uuid,reviewer,label\n"


@pytest.mark.parametrize(
    ("data", "kind", "row"),
    [
        pytest.param(b"", "empty file", None, id="no_bytes"),
        pytest.param(b"\xef\xbb\xbf \n\n", "empty file", None, id="only_blanks"),
        pytest.param(b"\x1f\x8b\x08\x00rest", "gzip file", None, id="gzip"),
        pytest.param(b"PK\x03\x04rest", "Excel workbook", None, id="xlsx"),
        pytest.param(b"\xd0\xcf\x11\xe0\xa1\xb1", "Excel workbook", None, id="xls"),
        pytest.param(b"%PDF-1.7", "PDF file", None, id="pdf"),
        pytest.param(b"<!DOCTYPE html><html>", "HTML page", None, id="html"),
        pytest.param(TEXT.encode("utf-32"), "UTF-32", None, id="utf_32"),
        pytest.param(TEXT.encode("utf-16")[:-1], "cut UTF-16", None, id="cut_utf_16"),
        pytest.param(TEXT.encode("utf-16-le"), "NUL character", 1, id="utf_16_without_mark"),
        pytest.param(COLUMNS + b"a,Ada,ac\0ne\n", "NUL character", 2, id="nul"),
        pytest.param(COLUMNS + b"a," + b"x" * 100_001, "giant line", 2, id="giant_line"),
        pytest.param(COLUMNS + b"a,Ada,\n" * 50_000, "too many rows", None, id="many_rows"),
        pytest.param(
            b"image_uuid,reviewer,label" + b",x" * 300 + b"\n", "too many columns", 1, id="wide"
        ),
        pytest.param(b"sep=;\nimage_uuid;reviewer;label\n", "sep= line", 1, id="sep_line"),
        pytest.param(
            b"image_uuid,reviewer\na,Ada\n", "missing column 'label'", None, id="no_column"
        ),
        pytest.param(
            b"image_uuid,reviewer,label,x;image_uuid;reviewer;label;\n",
            "two separators",
            1,
            id="two",
        ),
        pytest.param(
            b"image_uuid,reviewer,label,Label\na,Ada,acne,tinea\n",
            "duplicate header 'label'",
            1,
            id="duplicate_header",
        ),
        pytest.param(
            b"image_uuid,reviewer,label,\na,Ada,acne,tinea\n",
            "column without a name",
            2,
            id="unnamed",
        ),
        pytest.param(COLUMNS + b"a,Ada,acne,tinea\n", "wrong number of cells", 2, id="wide_row"),
        pytest.param(COLUMNS + b"a,Ada\n", "wrong number of cells", 2, id="short_row"),
        pytest.param(COLUMNS + b"a,Ada\r\n", "wrong number of cells", 2, id="short_row_judged"),
        pytest.param(COLUMNS + b"b,Ada,acne\na,Ad", "cut row", 3, id="cut_in_the_middle"),
        pytest.param(COLUMNS + b'a,Ada,"acne\n', "unclosed quote", 2, id="unclosed_quote"),
        pytest.param(COLUMNS + b'a,Ada,"ac"ne\n', "stray quote", 2, id="stray_quote"),
        pytest.param(
            HEADER.encode() + b'a,Ada,acne,,"dark\nb,Ada,tinea,,"\n',
            "unclosed quote",
            2,
            id="swallowed",
        ),
        pytest.param(b"image_uuid,reviewer,lab\xe9l\n", "not UTF-8", 1, id="header_not_utf_8"),
    ],
)
def test_what_would_be_misread_in_silence_is_refused_by_name(
    drop_folder: Path, read: Read, data: bytes, kind: str, row: int | None
) -> None:
    found = refusal(drop_folder, read, data)
    assert (found.kind, found.row) == (kind, row)


@pytest.mark.parametrize(
    ("columns", "last", "counts"),
    [
        pytest.param("image_uuid,reviewer,label", "a,Ada,acne", True, id="a_whole_class"),
        pytest.param(
            "image_uuid,reviewer,label,confidence", "a,Ada,acne,0.8", False, id="a_number"
        ),
        pytest.param("image_uuid,label,reviewer", "a,acne,Ada", False, id="a_name"),
        pytest.param("reviewer,label,image_uuid", "Ada,acne,a", False, id="an_id"),
        pytest.param("image_uuid,reviewer,label,confidence", "a,Ada,acne,", True, id="nothing"),
        pytest.param("image_uuid,reviewer,label,comment", "a,Ada,acne,da", True, id="a_comment"),
    ],
)
def test_a_last_cell_that_nothing_ends_counts_only_if_no_longer_one_could_be_meant(
    drop_folder: Path, read: Read, columns: str, last: str, counts: bool
) -> None:
    (drop_folder / "r.csv").write_text(f"{columns}\n{last}")
    drop = read()
    assert [r.kind for r in drop.refusals] == ([] if counts else ["cut row"])
    assert drop.reviews.height == counts
