"""Listing a drop: only finished CSV files, consistently, or a plain refusal to read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dagster_project.lib.labels import drop_source
from dagster_project.lib.labels.drop_source import DropUnreadable, read_files


def test_only_finished_csv_files_directly_in_the_folder_count(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", ".hidden.csv", "c.csv.tmp", "notes.txt"):
        (tmp_path / name).write_text(name)
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "d.csv").write_text("x")
    assert [(f.name, f.data) for f in read_files(str(tmp_path))] == [
        ("a.csv", b"a.csv"),
        ("b.csv", b"b.csv"),
    ]


def test_a_file_over_the_cap_is_seen_and_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drop_source, "MAX_FILE_BYTES", 10)
    (tmp_path / "fits.csv").write_bytes(b"x" * 10)
    (tmp_path / "over.csv").write_bytes(b"x" * 11)
    assert [f.data is None for f in read_files(str(tmp_path))] == [False, True]


def test_a_file_that_vanishes_after_listing_is_as_if_never_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stays.csv").write_text("x")
    gone = tmp_path / "gone.csv"
    gone.write_text("x")
    original = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        if path == gone:
            gone.unlink(missing_ok=True)
        return original(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    assert [f.name for f in read_files(str(tmp_path))] == ["stays.csv"]


def test_a_file_replaced_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.csv"
    path.write_text("old")
    original = Path.read_bytes
    replaced: list[bool] = []

    def read_bytes(at: Path) -> bytes:
        data = original(at)
        if not replaced:
            replaced.append(True)
            other = tmp_path / "new"
            other.write_text("new")
            other.replace(path)
        return data

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    assert read_files(str(tmp_path))[0].data == b"new"


def test_files_that_never_stand_still_are_unreadable_not_an_endless_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.csv"
    path.write_text("x")
    original = Path.read_bytes
    clock = iter(range(1, 100))

    def read_bytes(at: Path) -> bytes:
        os.utime(at, (0, next(clock)))
        return original(at)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    with pytest.raises(DropUnreadable, match="changed while they were read"):
        read_files(str(tmp_path))


def test_a_file_in_place_of_the_folder_is_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "drop"
    path.write_text("x")
    with pytest.raises(DropUnreadable, match="Not a directory"):
        read_files(str(path))


def test_another_scheme_is_not_taken_for_a_missing_folder() -> None:
    with pytest.raises(DropUnreadable, match="expected a folder or s3://"):
        read_files("gs://bucket/in")
