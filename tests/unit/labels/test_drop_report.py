"""The report beside the drop: there while a file is refused, never in the way."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from dagster_project.lib import files
from dagster_project.lib.labels import drop_report
from dagster_project.lib.labels.drop_report import REPORT, publish_report

from .conftest import HEADER, Bucket, Put, Read


def test_a_refused_file_is_told_beside_it_with_its_cells_until_it_is_mended(
    put: Put, read: Read, drop_folder: Path
) -> None:
    put("good.csv", "b,Kim,acne,,\n")
    put("ann.csv", "a,Ada,ezcema,,\n")
    assert publish_report(str(drop_folder), read()) is None
    with (drop_folder / REPORT).open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert (row["status"], row["file"], row["row"], row["column"]) == (
        "refused",
        "ann.csv",
        "2",
        "label",
    )
    assert (row["value"], row["nearest"]) == ("ezcema", "eczema")
    assert read().n_files == 2, "the report is no review file"
    put("ann.csv", "a,Ada,eczema,,\n")
    assert publish_report(str(drop_folder), read()) is None
    assert sorted(p.name for p in drop_folder.iterdir()) == ["ann.csv", "good.csv"]


def test_a_warning_is_told_beside_the_file_too(put: Put, read: Read, drop_folder: Path) -> None:
    put("r.csv", "a,Ada,acne,,\n")
    first = read()
    put("r.csv", "a,Zoe,acne,,\n")
    publish_report(str(drop_folder), read(first.reviews))
    with (drop_folder / REPORT).open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert (row["status"], row["kind"]) == ("warning", "another reviewer than before")


def test_an_equal_report_is_left_alone(
    put: Put, read: Read, drop_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("ann.csv", "a,Ada,ezcema,,\n")
    publish_report(str(drop_folder), read())
    written: list[Path] = []
    monkeypatch.setattr(files, "publish_bytes", lambda path, _: written.append(path))
    publish_report(str(drop_folder), read())
    assert written == []
    put("ann.csv", "a,Ada,akne,,\n")
    publish_report(str(drop_folder), read())
    assert written == [drop_folder / REPORT]


def test_notes_of_others_in_its_folder_stay(put: Put, read: Read, drop_folder: Path) -> None:
    put("ann.csv", "a,Ada,ezcema,,\n")
    publish_report(str(drop_folder), read())
    note = drop_folder / "refused" / "note.txt"
    note.write_text("mended tomorrow")
    put("ann.csv", "")
    publish_report(str(drop_folder), read())
    assert [p.name for p in note.parent.iterdir()] == ["note.txt"]


def test_a_drop_that_is_not_there_is_not_made(read: Read, drop_folder: Path) -> None:
    drop_folder.rmdir()
    assert publish_report(str(drop_folder), read()) is None
    assert not drop_folder.exists()


def test_where_it_cannot_be_written_that_is_said_and_nothing_else_happens(
    put: Put, read: Read, drop_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("ann.csv", "a,Ada,ezcema,,\n")
    (drop_folder / "refused").write_text("a file in the place of the folder")
    assert publish_report(str(drop_folder), read()) == f"{REPORT}: Not a directory"

    def read_only(*_: object) -> None:
        raise OSError(30, os.strerror(30))

    (drop_folder / "refused").unlink()
    monkeypatch.setattr(files, "publish_bytes", read_only)
    assert publish_report(str(drop_folder), read()) == f"{REPORT}: Read-only file system"


def test_a_place_that_hangs_is_given_up(
    put: Put, read: Read, drop_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    put("ann.csv", "a,Ada,ezcema,,\n")
    drop = read()
    monkeypatch.setattr(drop_report, "DEADLINE_S", 0.1)
    monkeypatch.setattr(files, "publish_bytes", lambda *_: time.sleep(2))
    assert publish_report(str(drop_folder), drop) == f"{REPORT}: not written within 0.1 s"


def test_on_s3_it_is_put_once_and_deleted_when_the_file_is_mended(
    put: Put, read: Read, bucket: Bucket
) -> None:
    put("ann.csv", "a,Ada,ezcema,,\n")
    for _ in range(2):
        assert publish_report("s3://labels/in", read()) is None
    assert bucket.requests == [f"PUT in/{REPORT}"]
    assert b"ezcema,eczema" in bucket.objects[f"in/{REPORT}"]
    put("ann.csv", "a,Ada,eczema,,\n")
    assert publish_report("s3://labels/in", read()) is None
    assert bucket.requests[1:] == [f"DELETE in/{REPORT}"]
    assert bucket.objects == {}


def test_on_s3_without_permission_it_is_a_line_and_no_error(
    put: Put, read: Read, bucket: Bucket
) -> None:
    put("ann.csv", "a,Ada,ezcema,,\n")
    bucket.read_only = True
    found = publish_report("s3://labels/in", read())
    assert found is not None
    assert "access denied" in found
    assert "\n" not in found


def test_on_s3_it_is_no_review_file(read: Read, bucket: Bucket) -> None:
    bucket.objects |= {"in/ann.csv": HEADER.encode(), f"in/{REPORT}": b"status,file\n"}
    assert read(uri="s3://labels/in").n_files == 1


def test_a_tick_has_time_for_reading_and_reporting() -> None:
    from dagster_project.lib.labels import drop_source

    assert drop_source.DEADLINE_S + drop_report.DEADLINE_S <= 50
