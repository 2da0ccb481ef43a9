"""Files: a reader sees the old bytes or the new ones, and same value means same bytes."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dagster_project.lib import files
from dagster_project.lib.errors import InputError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_published_file_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.txt"
    with files.publish(target) as temp:
        temp.write_text("half")
        assert not target.exists()
        temp.write_text("whole")
    assert target.read_text() == "whole"
    assert names(target.parent) == ["a.txt"]


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt], ids=["error", "ctrl_c"])
def test_a_failed_block_keeps_the_old_bytes_and_leaves_no_temporary_file(
    tmp_path: Path, fault: type[BaseException]
) -> None:
    target = tmp_path / "a.txt"
    files.write_text(target, "old")
    with pytest.raises(fault), files.publish(target) as temp:
        temp.write_text("ha")
        raise fault
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_reader_beside_a_writer_never_sees_half_a_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    whole = {letter * 200_000 for letter in "xy"}
    files.write_text(target, "x" * 200_000)
    stop = threading.Event()

    def write() -> None:
        for turn in range(60):
            files.write_text(target, "yx"[turn % 2] * 200_000)
        stop.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while not stop.is_set():
        seen.add(target.read_text())
    writer.join()
    assert seen <= whole


def test_bytes_and_folder_entry_reach_the_disk_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # without the second fsync a power cut can undo the rename
    steps: list[str] = []
    flush, rename = files.fsync, Path.replace

    def fsync(path: Path) -> None:
        steps.append(f"fsync {'folder' if path.is_dir() else 'file'}")
        flush(path)

    def replace(self: Path, target: Path) -> Path:
        steps.append("rename")
        return rename(self, target)

    monkeypatch.setattr(files, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    files.write_text(tmp_path / "a.txt", "x")
    assert steps == ["fsync file", "rename", "fsync folder"]


def test_a_published_folder_appears_whole(tmp_path: Path) -> None:
    with files.publish_folder(tmp_path / "store" / "f") as temp:
        (temp / "sub").mkdir()
        (temp / "sub" / "a.txt").write_text("a")
        assert not (tmp_path / "store" / "f").exists()
    assert (tmp_path / "store" / "f" / "sub" / "a.txt").read_text() == "a"
    assert names(tmp_path / "store") == ["f"]


def test_an_existing_folder_of_that_name_is_kept(tmp_path: Path) -> None:
    for text in ("first", "second"):
        with files.publish_folder(tmp_path / "f") as temp:
            (temp / "a.txt").write_text(text)
    assert (tmp_path / "f" / "a.txt").read_text() == "first"
    assert names(tmp_path) == ["f"]


def test_who_loses_the_race_for_a_folder_finds_the_winners(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "f"

    def won_by_another(self: Path, destination: Path) -> Path:
        destination.mkdir()
        (destination / "a.txt").write_text("theirs")
        raise OSError("directory not empty")

    with files.publish_folder(target) as temp:
        (temp / "a.txt").write_text("ours")
        monkeypatch.setattr(Path, "rename", won_by_another)
    assert (target / "a.txt").read_text() == "theirs"
    assert names(tmp_path) == ["f"]


def test_a_rename_that_fails_for_another_reason_is_not_swallowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disk_full(self: Path, destination: Path) -> Path:
        raise OSError("no space left")

    with (
        pytest.raises(OSError, match="no space left"),
        files.publish_folder(tmp_path / "f") as temp,
    ):
        (temp / "a.txt").write_text("ours")
        monkeypatch.setattr(Path, "rename", disk_full)
    assert names(tmp_path) == []


def test_a_failed_folder_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="boom"), files.publish_folder(tmp_path / "f") as temp:
        (temp / "a.txt").write_text("a")
        raise ValueError("boom")
    assert names(tmp_path) == []


def test_a_link_flips_in_one_step_and_is_never_absent(tmp_path: Path) -> None:
    for version in ("v1", "v2"):
        (tmp_path / version).mkdir()
    link = tmp_path / "current"
    files.point(link, "v1")
    missing = []
    stop = threading.Event()

    def flip() -> None:
        for turn in range(200):
            files.point(link, ("v2", "v1")[turn % 2])
        stop.set()

    writer = threading.Thread(target=flip)
    writer.start()
    while not stop.is_set():
        if not link.exists():
            missing.append(True)
    writer.join()
    assert not missing
    assert link.readlink() == Path("v1")  # relative: the store can be moved
    assert names(tmp_path) == ["current", "v1", "v2"]


def test_a_link_left_half_made_by_a_killed_process_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / f".current.{os.getpid()}.tmp").symlink_to("gone")
    files.point(tmp_path / "current", "v1")
    assert names(tmp_path) == ["current"]


def test_the_same_value_is_the_same_bytes(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {"b": 1, "a": [0.1, None]})
    files.write_json(tmp_path / "b.json", {"a": [0.1, None], "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert files.read_json(tmp_path / "a.json") == {"a": [0.1, None], "b": 1}


def test_undefined_numbers_are_never_written_as_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "a.json", {"rate": float("nan")})
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(None, "no such file", id="missing"),
        pytest.param(b"{", r"x.json: not JSON", id="cut_off"),
        pytest.param(b"\xff\xfe\x00", "not JSON", id="not_text"),
        pytest.param(b"[1]", "expected a JSON object, got list", id="a_list"),
    ],
)
def test_json_that_is_no_object_is_refused(
    tmp_path: Path, data: bytes | None, message: str
) -> None:
    if data is not None:
        (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(InputError, match=message):
        files.read_json(tmp_path / "x.json")


def test_the_digest_is_fixed_for_ever_and_ignores_key_order() -> None:
    # a changed spelling would make every stored version stale
    spelled = rb'{"a":"\u00e4","b":[1,2.5,null]}'
    assert files.digest({"b": [1, 2.5, None], "a": "ä"}) == files.sha256_bytes(spelled)[:16]
    assert files.digest({"a": 1, "b": 2}) == files.digest({"b": 2, "a": 1})
    assert files.digest([1, 2]) != files.digest([2, 1])
    assert files.digest("1") != files.digest(1)


def test_hashes_are_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert files.sha256_file(tmp_path / "a") == files.sha256_bytes(b"abc") == known


@pytest.fixture
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """The umask of the test's parameter, for the time of the test."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.parametrize(
    "umask",
    [
        pytest.param(0o022, id="read_by_all"),
        pytest.param(0o027, id="read_by_group"),
        pytest.param(0o077, id="private"),
        pytest.param(0o002, id="written_by_group"),
    ],
    indirect=True,
)
def test_who_may_read_what_is_written_is_for_the_umask_to_say(umask: int, tmp_path: Path) -> None:
    files.write_text(tmp_path / "new" / "a.txt", "a")
    for name, publish in (("kept", files.publish_folder), ("replaced", files.replace_folder)):
        with publish(tmp_path / name) as temp:
            (temp / "a.txt").write_text("a")
    found = {path: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert len(found) == 6
    assert found == {path: (0o777 if path.is_dir() else 0o666) & ~umask for path in found}


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    for text in ("first", "second"):
        with files.replace_folder(tmp_path / "f") as temp:
            (temp / f"{text}.txt").write_text(text)
    assert names(tmp_path / "f") == ["second.txt"]
    assert names(tmp_path) == ["f"]


def test_the_old_folder_stays_if_the_block_fails(tmp_path: Path) -> None:
    (tmp_path / "f" / "old").mkdir(parents=True)
    with pytest.raises(ValueError, match="boom"), files.replace_folder(tmp_path / "f") as temp:
        (temp / "new").mkdir()
        raise ValueError("boom")
    assert names(tmp_path / "f") == ["old"]
    assert names(tmp_path) == ["f"]


@pytest.mark.parametrize("fault", [OSError, KeyboardInterrupt], ids=["error", "ctrl_c"])
def test_the_old_folder_is_moved_back_if_the_new_one_cannot_move_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: type[BaseException]
) -> None:
    (tmp_path / "f" / "old").mkdir(parents=True)
    rename = Path.rename

    def no_way_in(self: Path, target: Path) -> Path:
        if self.suffix == ".tmp":
            raise fault("no")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", no_way_in)
    with pytest.raises(fault), files.replace_folder(tmp_path / "f"):
        pass
    assert names(tmp_path / "f") == ["old"]
    assert names(tmp_path) == ["f"]


def test_a_process_killed_between_the_renames_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / "f" / "old").mkdir(parents=True)
    (tmp_path / "f").rename(tmp_path / ".f.replaced")  # where it was killed
    with pytest.raises(ValueError, match="boom"), files.replace_folder(tmp_path / "f"):
        raise ValueError("boom")
    assert names(tmp_path / "f") == ["old"]
    with files.replace_folder(tmp_path / "f") as temp:
        (temp / "new").mkdir()
    assert names(tmp_path / "f") == ["new"]
    assert names(tmp_path) == ["f"]


def test_a_folder_that_was_put_aside_never_covers_a_newer_one(tmp_path: Path) -> None:
    for name in ("f/new", ".f.replaced/old"):  # killed before the old one was removed
        (tmp_path / name).mkdir(parents=True)
    files.restore_folder(tmp_path / "f")
    assert names(tmp_path / "f") == ["new"]
