"""The model of a disk: what a power cut may take, by hand, and what it may not."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from crash.disk import Disk, Image, Op, read_image, write_image

OPEN = Op("open", "a.tmp", handle=1, create=True)
WRITE = Op("write", "a.tmp", handle=1, data=b"new")
SYNC = Op("sync", "a.tmp", handle=1)
RENAME = Op("rename", "a.tmp", "a")
FOLDER = [Op("open", ".", handle=2), Op("sync", ".", handle=2)]


def left(before: Image, ops: list[Op]) -> list[Image]:
    """Each state that a power cut after ``ops`` may leave."""
    disk, rng = Disk(before), random.Random(0)
    for op in ops:
        disk.apply(op)
    found: list[Image] = []
    for how in disk.survivals(200, rng):
        image = disk.after_power_cut(how)
        if image not in found:
            found.append(image)
    return found


def contents(images: list[Image], name: str) -> set[object]:
    return {image.get(name, "absent") for image in images}


def test_after_every_sync_only_the_new_state_is_left() -> None:
    assert left({"a": b"old"}, [OPEN, WRITE, SYNC, RENAME, *FOLDER]) == [{"a": b"new"}]


def test_without_a_sync_of_the_folder_the_old_name_may_be_back() -> None:
    images = left({"a": b"old"}, [OPEN, WRITE, SYNC, RENAME])
    assert contents(images, "a") == {b"old", b"new"}


def test_without_a_sync_of_the_file_a_safe_name_may_hold_anything_between_nothing_and_all() -> None:
    images = left({"a": b"old"}, [OPEN, WRITE, RENAME, *FOLDER])
    assert contents(images, "a") == {b"", b"n", b"ne", b"new", b"\0\0\0"}


def test_a_synced_page_is_never_lost_to_a_later_write() -> None:
    pages = b"a" * 4096 + b"b" * 4096
    late = [Op("open", "a", handle=1), Op("write", handle=1, offset=4096, data=b"c" * 4096)]
    found = contents(left({"a": pages}, late), "a")
    assert all(isinstance(data, bytes) and data.startswith(pages[:4096]) for data in found)
    assert {pages, pages[:4096] + b"c" * 4096} < found


def test_a_write_past_the_end_leaves_zeros_between() -> None:
    ops = [OPEN, Op("write", handle=1, offset=4, data=b"x"), SYNC, *FOLDER]
    assert left({}, ops) == [{"a.tmp": b"\0\0\0\0x"}]


def test_truncating_on_opening_may_or_may_not_have_happened() -> None:
    assert contents(left({"a": b"old"}, [Op("open", "a", handle=1, truncate=True)]), "a") == {
        b"old",
        b"",
    }


def test_a_folder_that_is_synced_inside_may_still_be_lost_with_all_it_holds() -> None:
    ops = [
        Op("mkdir", "d"),
        Op("open", "d/a", handle=1, create=True),
        Op("sync", handle=1),
        Op("open", "d", handle=2),
        Op("sync", handle=2),
    ]
    assert left({}, ops) == [{}, {"d": None, "d/a": b""}]


def test_names_of_one_folder_survive_in_their_order_those_of_two_in_any() -> None:
    made = [Op("open", name, handle=n, create=True) for n, name in enumerate("ab")]
    assert {"b": b""} not in left({}, made)
    apart = [Op("open", f"{d}/a", handle=n, create=True) for n, d in enumerate("de")]
    assert {"d": None, "e": None, "e/a": b""} in left({"d": None, "e": None}, apart)


def test_a_move_between_folders_is_whole_and_takes_what_came_before_with_it() -> None:
    ops = [
        Op("open", "d/a", handle=1, create=True),
        Op("rename", "d/a", "e/a"),
        Op("open", "e", handle=2),
        Op("sync", handle=2),
    ]
    assert left({"d": None, "e": None}, ops) == [{"d": None, "e": None, "e/a": b""}]


def test_an_open_file_is_followed_through_its_rename() -> None:
    disk = Disk({})
    for op in (OPEN, RENAME, WRITE):
        disk.apply(op)
    assert disk.image() == {"a": b"new"}


@pytest.mark.parametrize(
    "op",
    [
        pytest.param(RENAME, id="rename"),
        pytest.param(Op("remove", "a"), id="remove"),
        pytest.param(Op("open", "a", handle=1), id="open"),
        pytest.param(Op("mkdir", "b/a"), id="in_no_folder"),
        pytest.param(WRITE, id="not_open"),
    ],
)
def test_an_impossible_operation_is_an_error(op: Op) -> None:
    with pytest.raises(KeyError):
        Disk({}).apply(op)


def test_a_folder_is_read_as_it_was_written(tmp_path: Path) -> None:
    image: Image = {"a": b"x", "d": None, "d/b": b"", "d/link": "../a", "gone": "nowhere"}
    write_image({"other": b"x"}, tmp_path / "f")
    write_image(image, tmp_path / "f")
    assert read_image(tmp_path / "f") == image
    assert Disk(image).image() == image
