"""Every copy is on a pair with the surest relation; a thousand copies are not a million rows."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import PngImagePlugin

from dagster_project.lib.image_issues import duplicates
from dagster_project.lib.image_issues.duplicates import duplicate_pairs, leakage, near_hashes
from dagster_project.lib.image_issues.fingerprints import fingerprint_images
from dagster_project.lib.image_issues.neighbours import Neighbours, nearest

from .conftest import Saver, skin


def pairs_of(frame: pl.DataFrame) -> dict[tuple[str, str], str]:
    return {(a, b): r for a, b, r in frame.select("image_uuid", "other_uuid", "relation").rows()}


def test_each_pair_has_the_surest_relation_and_says_who_is_on_both_sides(
    save: Saver, tmp_path: Path
) -> None:
    small = skin(1).resize((200, 150))
    frame = save({"a": skin(1), "b": skin(1), "c": skin(1), "d": small, "e": skin(2)})
    note = PngImagePlugin.PngInfo()
    note.add_text("camera", "another")
    skin(1).save(tmp_path / "data" / "c.png", pnginfo=note)
    frame = frame.with_columns(
        patient_id=pl.Series(["p", "p", "p", "q", "r"]),
        split=pl.Series(["train", "train", "test", "test", "test"]),
    )
    found = duplicate_pairs(frame, fingerprint_images(frame, tmp_path / "data"))
    assert pairs_of(found) == {
        ("a", "b"): "equal bytes",
        ("a", "c"): "equal pixels",
        ("b", "c"): "equal pixels",
        ("a", "d"): "resized copy",
        ("b", "d"): "resized copy",
        ("c", "d"): "resized copy",
    }
    sides = {(a, b): s for a, b, *s in found.select(
        "image_uuid", "other_uuid", "same_patient", "across_splits").rows()}  # fmt: skip
    assert sides["a", "b"] == [True, False]
    assert sides["a", "c"] == [True, True]
    assert sides["c", "d"] == [False, False]
    assert found["score"].is_between(0, 1).all()


def made(phashes: list[str] | list[None], splits: list[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    ids = [f"i{n:04d}" for n in range(len(phashes))]
    rows = pl.DataFrame({"image_uuid": ids, "patient_id": ids, "split": splits})
    looks = pl.Series(phashes, dtype=pl.String)
    none = pl.Series([None] * len(ids), dtype=pl.String)
    columns = {"image_uuid": ids, "sha256": ids, "pixels": ids, "phash": looks, "error": none}
    return rows, pl.DataFrame(columns)


def test_a_thousand_copies_are_linear_rows_and_every_copy_that_leaks_is_named() -> None:
    one, near = "0" * 64, "0" * 62 + "07"
    splits = ["train"] * 600 + ["test"] * 400
    rows, prints = made([one] * 700 + [near] * 300, splits)
    found = duplicate_pairs(rows, prints)
    assert found.height < 6 * rows.height
    assert set(found["image_uuid"]) | set(found["other_uuid"]) == set(rows["image_uuid"])
    leaks = leakage(found, rows)
    assert leaks["image_uuid"].to_list() == sorted(leaks["image_uuid"])
    assert leaks["image_uuid"].n_unique() == leaks.height == 1000
    assert (leaks["split"] != leaks["other_split"]).all()


def test_two_broken_files_are_no_copies_of_each_other(save: Saver, tmp_path: Path) -> None:
    frame = save({"a": skin(1), "b": skin(1)})
    for uuid in "ab":
        (tmp_path / "data" / f"{uuid}.png").write_bytes(b"")
    assert duplicate_pairs(frame, fingerprint_images(frame, tmp_path / "data")).is_empty()


def test_leakage_names_the_surest_copy_in_the_other_split() -> None:
    rows, prints = made(["0" * 64, "0" * 63 + "f", "0" * 63 + "1"], ["test", "train", "train"])
    found = leakage(duplicate_pairs(rows, prints), rows)
    assert found.filter(image_uuid="i0000")["other_uuid"].to_list() == ["i0002"]
    assert found["image_uuid"].to_list() == ["i0000", "i0002", "i0001"]


@pytest.mark.parametrize("radius", [0, 24, 120])
def test_near_hashes_are_those_that_counting_bits_finds(
    radius: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "_BLOCK_VALUES", 100)  # several blocks
    rng = np.random.default_rng(1)
    base = [int.from_bytes(rng.bytes(32), "big") for _ in range(12)]
    flips = [
        sum(1 << int(b) for b in rng.choice(256, int(rng.integers(1, 40)), False)) for _ in base
    ]
    values = sorted({*base, *(b ^ f for b, f in zip(base, flips, strict=True))})
    hashes = pl.Series([f"{v:064x}" for v in values])
    expected = {
        (i, j, (values[i] ^ values[j]).bit_count())
        for i, j in itertools.combinations(range(len(values)), 2)
        if (values[i] ^ values[j]).bit_count() <= radius
    }
    first, second, bits = near_hashes(hashes, radius)
    assert set(zip(first.tolist(), second.tolist(), bits.tolist(), strict=True)) == expected
    assert bool(expected) is (radius > 0)


def test_look_alikes_are_much_nearer_than_neighbours_mostly_are() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(60, 16)).astype(np.float32)
    values[1] = values[0] + 0.02 * values[2]
    rows, prints = made([None] * 60, ["train"] * 60)
    ids = rows["image_uuid"]
    found = duplicate_pairs(rows, prints, (ids, nearest(values)))
    assert pairs_of(found) == {("i0000", "i0001"): "look-alike"}
    assert duplicate_pairs(rows, prints, (ids, nearest(values)), near=0.0).is_empty()


def test_the_border_of_look_alikes_is_a_share_of_the_median_to_the_nearest() -> None:
    distance = np.array([[0.2], [0.1], [0.4]])
    found = Neighbours(np.array([[1], [0], [0]]), distance)
    assert duplicates.near_distance(found) == pytest.approx(0.3 * 0.2)
    copies = Neighbours(found.index, np.zeros((3, 1)))
    assert duplicates.near_distance(copies) > 0
