"""The drop: a faulty file is refused whole, the others count, what was accepted stays in force."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import polars as pl
import pytest

from dagster_project.lib.labels import drop
from dagster_project.lib.labels.drop import (
    COLUMNS,
    MAX_FAULTS,
    NO_REVIEWS,
    DropUnreadable,
    label_version,
    write_refusals,
)

from .conftest import HEADER, Bucket, Put, Read


def judgements(frame: pl.DataFrame) -> list[tuple[str, str, str]]:
    return frame.select("image_uuid", "reviewer", "label").rows()


def test_accepted_files_become_sorted_text_rows(put: Put, read: Read) -> None:
    put("two.csv", "b,Kim,unsure,,\n")
    put("one.csv", "b,Ada,not_usable,0.80,blurred\n0012,Ada,acne,,\n12,Ada,eczema,1,\n")
    drop = read()
    assert drop.reviews.columns == list(COLUMNS)
    assert drop.reviews.rows() == [
        ("0012", "Ada", "acne", None, None, "one.csv"),
        ("12", "Ada", "eczema", "1.0", None, "one.csv"),
        ("b", "Ada", "not_usable", "0.8", "blurred", "one.csv"),
        ("b", "Kim", "unsure", None, None, "two.csv"),
    ]
    assert (drop.refusals, drop.n_files) == ((), 2)


def test_the_three_required_columns_are_enough_and_others_are_left_out(
    drop_folder: Path, read: Read
) -> None:
    (drop_folder / "r.csv").write_text("image_path,label,image_uuid,reviewer\nx.jpg,acne,a,Ada\n")
    assert read().reviews.rows() == [("a", "Ada", "acne", None, None, "r.csv")]


def test_columns_of_other_tools_cannot_shadow_ours(drop_folder: Path, read: Read) -> None:
    rows = "__row,file,image_uuid,reviewer,label\n9,evil.csv,a,Ada,acne\n"
    (drop_folder / "r.csv").write_text(rows)
    assert read().reviews.rows() == [("a", "Ada", "acne", None, None, "r.csv")]


def test_rows_without_a_label_are_not_judged_yet(put: Put, read: Read) -> None:
    put("r.csv", "a,Ada,acne,,\nb,Ada,,,\nnot-an-image,,  ,9,\n")
    assert judgements(read().reviews) == [("a", "Ada", "acne")]


def test_an_empty_packet_is_not_a_version(put: Put, read: Read) -> None:
    put("one.csv", "a,Ada,acne,,\n")
    before = read()
    put("blank.csv", "a,Kim,,,\nb,Kim,,,\n")
    assert read().version == before.version


@pytest.mark.parametrize(
    "exists", [pytest.param(True, id="empty"), pytest.param(False, id="no_folder")]
)
def test_nothing_ever_judged_has_the_constant_version(
    drop_folder: Path, read: Read, exists: bool
) -> None:
    if not exists:
        drop_folder.rmdir()
    drop = read()
    assert (drop.version, drop.n_files, drop.reviews.height) == (NO_REVIEWS, 0, 0)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        pytest.param(
            "b,Ada,acne,,\na,Ada,ezcema,,\n",
            'bad.csv row 3, column label: unknown class "ezcema" (5 known; nearest "eczema")',
            id="unknown_class",
        ),
        pytest.param(
            "z9,Ada,acne,,\n", 'bad.csv row 2, column image_uuid: unknown image "z9"', id="image"
        ),
        pytest.param(
            "a,Ada,acne,1.2,\n", 'row 2, column confidence: "1.2" is not a number', id="above_one"
        ),
        pytest.param(
            "a,Ada,acne,nan,\n", 'row 2, column confidence: "nan" is not a number', id="nan"
        ),
        pytest.param(
            "a,Ada,acne,high,\n", 'row 2, column confidence: "high" is not a number', id="word"
        ),
        pytest.param("a,,acne,,\n", "row 2, column reviewer: empty", id="no_reviewer"),
        pytest.param(",Ada,acne,,\n", "row 2, column image_uuid: empty", id="no_image"),
        pytest.param(
            "a,Ada,acne,,\na,Ada,tinea,,\n",
            'row 3, column label: "tinea" for image "a" by reviewer "Ada", but row 2 says "acne"',
            id="conflict_inside",
        ),
        pytest.param("a,Ada,acne\n", "bad.csv row 2: 3 cells where the header has 5", id="ragged"),
    ],
)
def test_one_fault_refuses_the_file_whole_and_the_others_count(
    put: Put, read: Read, rows: str, message: str
) -> None:
    put("good.csv", "c,Kim,tinea,,\n")
    put("bad.csv", rows)
    drop = read()
    assert judgements(drop.reviews) == [("c", "Kim", "tinea")]
    assert len(drop.refusals) == 1
    assert message in str(drop.refusals[0])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "bad.csv: the file is empty", id="no_bytes"),
        pytest.param(b"image_uuid,label\na,acne\n", "bad.csv: missing column 'reviewer'", id="col"),
        pytest.param(
            HEADER.encode() + b"a,Ad\xe9,acne,,\n",
            'bad.csv row 2, column reviewer: "Ad\N{LATIN SMALL LETTER E WITH ACUTE}" is not UTF-8',
            id="cp",
        ),
        pytest.param(b"\x1f\x8b\x08\x00", "bad.csv: this is a gzip file", id="gzip"),
    ],
)
def test_bytes_that_are_no_csv_are_a_refusal_and_no_crash(
    drop_folder: Path, read: Read, data: bytes, message: str
) -> None:
    (drop_folder / "bad.csv").write_bytes(data)
    drop = read()
    assert str(drop.refusals[0]).startswith(message)
    assert drop.version == NO_REVIEWS


def test_all_faults_of_a_file_are_told_in_row_order(put: Put, read: Read) -> None:
    put("bad.csv", "a,Ada,acne,7,\nzz,Ada,acn,,\nb,,acne,,\n")
    places = [(r.row, r.column) for r in read().refusals]
    assert places == [(2, "confidence"), (3, "image_uuid"), (3, "label"), (4, "reviewer")]


def test_the_number_of_faults_told_is_capped(put: Put, read: Read) -> None:
    put("bad.csv", "".join(f"x{i},Ada,acne,,\n" for i in range(500)))
    refusals = read().refusals
    assert [r.row for r in refusals] == [*range(2, MAX_FAULTS + 2), None]
    assert str(refusals[-1]) == "bad.csv: and more faults of these kinds"


def test_a_file_that_contradicts_one_earlier_in_name_order_is_refused(put: Put, read: Read) -> None:
    put("1.csv", "a,Ada,acne,,\n")
    put("2.csv", "a,Ada,tinea,,\nb,Ada,acne,,\n")
    drop = read()
    assert judgements(drop.reviews) == [("a", "Ada", "acne")]
    assert 'but 1.csv says "acne"' in str(drop.refusals[0])


def test_two_reviewers_may_differ(put: Put, read: Read) -> None:
    put("1.csv", "a,Ada,acne,,\na,Kim,tinea,,\n")
    assert read().refusals == ()


def test_identical_duplicates_collapse(put: Put, read: Read) -> None:
    put("1.csv", "a,Ada,acne,0.5,\na,Ada,acne,0.50,\n")
    once = read()
    put("2.csv", "a,Ada,acne,0.5,\n")
    assert judgements(read().reviews) == [("a", "Ada", "acne")]
    assert read().version == once.version


def test_a_refused_file_keeps_its_last_accepted_content_in_force(put: Put, read: Read) -> None:
    put("1.csv", "a,Ada,acne,,\n")
    put("2.csv", "b,Kim,tinea,,\n")
    first = read()
    put("1.csv", "a,Ada,acne,,\nb,Ada,nonsense,,\n")
    put("2.csv", "b,Kim,tinea,,\nc,Kim,acne,,\n")
    second = read(first.reviews)
    assert judgements(second.reviews) == [
        ("a", "Ada", "acne"),
        ("b", "Kim", "tinea"),
        ("c", "Kim", "acne"),
    ]
    assert [r.file for r in second.refusals] == ["1.csv"]


def spoil(path: Path) -> None:
    path.write_text(path.read_text() + "c,Ada,nonsense,,\n")


@pytest.mark.parametrize("rest", ["typo", "no_csv"])
def test_what_a_file_held_under_its_old_name_survives_a_fault_in_it(
    put: Put, read: Read, drop_folder: Path, rest: str
) -> None:
    old = put("ann.csv", "a,Ada,acne,,\nb,Ada,tinea,,\n")
    put("bob.csv", "c,Bob,acne,,\n")
    first = read()
    new = old.rename(drop_folder / "ann_final.csv")
    # no new version, so the snapshot is not written again and still names ann.csv
    assert read(first.reviews).version == first.version
    if rest == "typo":
        new.write_text(HEADER + "a,Ada,acne,,\nb,Ada,tinae,,\n")
    else:
        new.write_bytes(b"\xff\xfe\x00")
    second = read(first.reviews)
    assert second.version == first.version
    assert {r.file for r in second.refusals} == {"ann_final.csv"}


def test_what_moved_to_another_file_survives_a_fault_there(put: Put, read: Read) -> None:
    put("1.csv", "a,Ada,acne,,\nb,Ada,tinea,,\n")
    first = read()
    put("1.csv", "a,Ada,acne,,\n")
    spoil(put("2.csv", "b,Ada,tinea,,\n"))
    second = read(first.reviews)
    assert second.version == first.version
    assert second.refusals


def test_a_withdrawal_waits_until_no_file_is_refused(put: Put, read: Read) -> None:
    gone = put("1.csv", "a,Ada,acne,,\n")
    put("2.csv", "b,Kim,acne,,\n")
    bad = put("3.csv", "c,Kim,nonsense,,\n")
    first = read()
    gone.unlink()
    second = read(first.reviews)
    assert second.version == first.version
    bad.unlink()
    assert judgements(read(second.reviews).reviews) == [("b", "Kim", "acne")]


def test_an_accepted_file_wins_over_what_is_in_force_elsewhere(put: Put, read: Read) -> None:
    put("1.csv", "a,Ada,acne,,\nb,Ada,acne,,\n")
    first = read()
    put("1.csv", "a,Ada,tinea,,\n")
    put("2.csv", "c,Kim,nonsense,,\n")
    second = read(first.reviews)
    assert judgements(second.reviews) == [("a", "Ada", "tinea"), ("b", "Ada", "acne")]


def test_a_later_file_cannot_contradict_what_a_refused_one_last_said(put: Put, read: Read) -> None:
    one = put("1.csv", "a,Ada,acne,0.5,\n")
    put("2.csv", "a,Ada,tinea,,\n")
    put("3.csv", "a,Ada,acne,,\n")
    first = read()
    spoil(one)
    second = read(first.reviews)
    assert second.version == first.version
    assert {r.file for r in second.refusals} == {"1.csv", "2.csv"}
    assert read(second.reviews).version == first.version


def test_a_file_spoilt_alone_changes_no_version(put: Put, read: Read) -> None:
    put("1.csv", "a,Ada,acne,,\n")
    first = read()
    put("1.csv", "a,Ada,nonsense,,\n")
    second = read(first.reviews)
    assert second.version == first.version
    assert second.refusals


def test_content_in_force_yields_to_an_earlier_file_that_contradicts_it(
    put: Put, read: Read
) -> None:
    put("2.csv", "a,Ada,acne,,\nb,Ada,acne,,\n")
    first = read()
    put("1.csv", "a,Ada,tinea,,\n")
    second = read(first.reviews)
    assert judgements(second.reviews) == [("a", "Ada", "tinea"), ("b", "Ada", "acne")]
    assert [r.file for r in second.refusals] == ["2.csv"]


def test_an_emptied_drop_keeps_what_is_in_force(put: Put, read: Read) -> None:
    path = put("1.csv", "a,Ada,acne,,\n")
    first = read()
    path.unlink()
    assert read(first.reviews).version == first.version
    put("1.csv", "a,Ada,,,\n")
    second = read(first.reviews)
    assert second.version == first.version
    assert second.reviews.equals(first.reviews)


def test_a_file_taken_back_takes_its_reviews_back_while_others_remain(put: Put, read: Read) -> None:
    put("1.csv", "a,Ada,acne,,\n")
    only_one = read()
    second = put("2.csv", "b,Kim,acne,,\n")
    both = read(only_one.reviews)
    second.unlink()
    assert both.version != only_one.version
    assert read(both.reviews).version == only_one.version


def test_reviews_of_images_or_classes_that_are_gone_do_not_stay_in_force(read: Read) -> None:
    rows = [("zz", "Ada", "acne"), ("a", "Ada", "gone"), ("b", "Ada", "acne")]
    old = pl.DataFrame(
        [(*row, None, None, "1.csv") for row in rows],
        schema=dict.fromkeys(COLUMNS, pl.String),
        orient="row",
    )
    assert judgements(read(old).reviews) == [("b", "Ada", "acne")]


def test_the_version_ignores_times_names_order_and_comments(
    put: Put, read: Read, drop_folder: Path
) -> None:
    path = put("1.csv", "a,Ada,acne,0.5,hm\nb,Ada,tinea,,\n")
    first = read().version
    os.utime(path, (1, 1))
    assert read().version == first
    path.rename(drop_folder / "renamed.csv")
    assert read().version == first
    put("renamed.csv", "b,Ada,tinea,,\na,Ada,acne,0.50,other\n")
    assert read().version == first


@pytest.mark.parametrize(
    "row",
    [
        pytest.param("a,Ada,tinea,0.5,", id="label"),
        pytest.param("a,Ada,acne,0.6,", id="confidence"),
        pytest.param("a,Kim,acne,0.5,", id="reviewer"),
        pytest.param("b,Ada,acne,0.5,", id="image"),
    ],
)
def test_the_version_sees_every_part_of_a_judgement(put: Put, read: Read, row: str) -> None:
    put("1.csv", "a,Ada,acne,0.5,\n")
    first = read().version
    put("1.csv", row + "\n")
    assert read().version != first


def test_label_version_depends_on_both_sides() -> None:
    versions = {label_version(a, b) for a in ("g1", "g2") for b in ("r1", NO_REVIEWS)}
    assert len(versions) == 4
    assert label_version("g1", "r1", {}) == label_version("g1", "r1")
    assert label_version("g1", "r1", {"single": "accept"}) not in versions


def test_a_drop_on_s3_reads_as_the_folder_does(put: Put, read: Read, bucket: Bucket) -> None:
    objects = bucket.objects
    for name in ("1.csv", "2.csv"):
        objects[f"in/{name}"] = put(name, f"a,{name[0]},acne,,\n").read_bytes()
    objects["in/old/3.csv"] = objects["other.csv"] = b"not ours"
    assert read(uri="s3://labels/in").version == read().version
    assert read(uri="s3://labels/in/").reviews.equals(read().reviews)


def test_an_object_that_vanishes_after_listing_is_read_again(read: Read, bucket: Bucket) -> None:
    bucket.objects["in/1.csv"] = (HEADER + "a,Ada,acne,,\n").encode()
    bucket.gone_once.add("in/1.csv")
    assert read(uri="s3://labels/in").n_files == 1


@pytest.mark.parametrize(
    "uri", [pytest.param("s3://labels/in", id="denied"), pytest.param("s3://no/in", id="bucket")]
)
def test_trouble_with_s3_is_one_kind_of_error(read: Read, bucket: Bucket, uri: str) -> None:
    bucket.broken = uri == "s3://labels/in"
    with pytest.raises(DropUnreadable, match=f"{uri}: "):
        read(uri=uri)


SECRETS = ("img-Miller", "dr_ann", "akne", "tinea", "acne", "secret", "c0lumn")


@pytest.mark.parametrize(
    ("content", "place"),
    [
        pytest.param(
            HEADER + "a,dr_ann,akne,,\n", "x.csv row 2, column label: unknown class", id="class"
        ),
        pytest.param(
            HEADER + "img-Miller,dr_ann,acne,,\n",
            "x.csv row 2, column image_uuid: unknown image",
            id="image",
        ),
        pytest.param(
            HEADER + "a,dr_ann,acne,secret,\n",
            "x.csv row 2, column confidence: not a number from 0 to 1",
            id="confidence",
        ),
        pytest.param(HEADER + "a,,acne,,\n", "x.csv row 2, column reviewer: empty", id="empty"),
        pytest.param(
            HEADER + "a,dr_ann,acne,,\na,dr_ann,tinea,,\n",
            "x.csv row 3, column label: contradicts row 2",
            id="inside",
        ),
        pytest.param(
            HEADER + "b,dr_ann,tinea,,\n",
            "x.csv row 2, column label: contradicts other.csv",
            id="another_file",
        ),
        pytest.param(HEADER + "a,dr_ann\n", "x.csv row 2: wrong number of cells", id="ragged"),
        pytest.param(
            "c0lumn,c0lumn,image_uuid,reviewer,label\n",
            "x.csv row 1: duplicate header",
            id="header",
        ),
        pytest.param(
            "img-Miller,dr_ann,label\n",
            "x.csv: missing column 'image_uuid', 'reviewer'",
            id="columns",
        ),
    ],
)
def test_a_place_says_what_is_wrong_and_nothing_that_stands_in_the_file(
    drop_folder: Path, put: Put, read: Read, content: str, place: str
) -> None:
    put("other.csv", "b,dr_ann,acne,,\n")
    (drop_folder / "x.csv").write_text(content)
    refusal = read().refusals[0]
    assert refusal.place == place
    assert not any(secret in refusal.place for secret in SECRETS)
    assert str(refusal).split(": ")[0] == place.split(": ", maxsplit=1)[0]


def test_refusals_are_written_for_those_who_mend_the_files(
    put: Put, read: Read, tmp_path: Path
) -> None:
    put("1.csv", "a,Ada,ezcema,,\n")
    put("2.csv", "a,Ada\n")
    put("3.csv", "=1+1,Ada,acne,,\n")
    path = tmp_path / "report" / "refused.csv"
    write_refusals(path, read().refusals)
    with path.open(newline="") as stream:
        rows = list(csv.reader(stream))
    formula = "'=1+1"  # what a spreadsheet would calculate is told as text
    assert rows == [
        ["status", "file", "row", "column", "kind", "value", "nearest", "reason"],
        ["refused", "1.csv", "2", "label", "unknown class", "ezcema", "eczema",
         'unknown class "ezcema" (5 known; nearest "eczema")'],
        ["refused", "2.csv", "2", "", "wrong number of cells", "", "",
         "2 cells where the header has 5; fill it up"],
        ["refused", "3.csv", "2", "image_uuid", "formula", formula, "",
         '"=1+1" is a formula; write the id itself'],
    ]  # fmt: skip
    write_refusals(path, ())
    assert path.read_text() == "status,file,row,column,kind,value,nearest,reason\n"


def test_more_judgements_than_any_review_has_are_not_read(
    put: Put, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drop, "MAX_JUDGEMENTS", 2)
    put("1.csv", "a,Ada,acne,,\nb,Ada,acne,,\n")
    put("2.csv", "a,Ada,acne,,\n")
    assert read().reviews.height == 2
    put("2.csv", "c,Ada,acne,,\n")
    with pytest.raises(DropUnreadable, match="more than 2 judgements"):
        read()


def test_spellings_of_one_reviewer_are_one_reviewer(put: Put, read: Read) -> None:
    """Or a person who writes the name in two ways would confirm himself."""
    put("1.csv", "a,Dr Ada,acne,,\nb,dr_ada,acne,,\n")
    first = read()
    put("2.csv", "a,DR-ADA,acne,,\n")
    second = read(first.reviews)
    assert second.version == first.version
    assert second.reviews["reviewer"].to_list() == ["DR-ADA", "DR-ADA"]
    put("3.csv", "a,dr ada,tinea,,\n")
    third = read(second.reviews)
    assert [r.place for r in third.refusals] == ["3.csv row 2, column label: contradicts 1.csv"]
    assert read(third.reviews).reviews.equals(third.reviews)


def test_a_file_saved_over_by_another_reviewer_is_a_warning(put: Put, read: Read) -> None:
    put("derm_review_BLIND.csv", "a,Ada,acne,,\nb,Ada,tinea,,\n")
    put("kim.csv", "a,Kim,acne,,\n")
    first = read()
    assert first.warnings == ()
    put("derm_review_BLIND.csv", "a,Zoe,acne,,\nb,Zoe,tinea,,\n")
    second = read(first.reviews)
    assert [w.place for w in second.warnings] == [
        "derm_review_BLIND.csv, column reviewer: another reviewer than before"
    ]
    assert "2 judgements by 'Ada' are withdrawn, the file is now of 'Zoe'" in str(
        second.warnings[0]
    )
    assert set(second.reviews["reviewer"]) == {"Kim", "Zoe"}


def test_a_file_that_changed_hands_in_part_or_was_renamed_is_no_warning(
    put: Put, read: Read
) -> None:
    put("1.csv", "a,Ada,acne,,\nb,Ada,tinea,,\n")
    first = read()
    put("1.csv", "a,Zoe,acne,,\nb,Ada,tinea,,\n")
    assert read(first.reviews).warnings == ()
    put("1.csv", "a,Zoe,acne,,\n")
    put("2.csv", "a,Ada,acne,,\nb,Ada,tinea,,\n")
    assert read(first.reviews).warnings == ()
