"""Files: a reader sees the old bytes or the new ones, and same value means same bytes."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
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
    # without the last fsync a power cut can undo the rename; the first is for the folder itself
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
    assert steps == ["fsync folder", "fsync file", "rename", "fsync folder"]


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


LEFT = "0123abcd.tmp"


def test_what_a_killed_writer_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    (tmp_path / f".a.txt.{LEFT}").write_text("half")
    for name in ("kept", "current"):
        (tmp_path / f".{name}.{LEFT}" / "sub").mkdir(parents=True)
    files.write_text(tmp_path / "a.txt", "whole")
    with files.publish_folder(tmp_path / "kept"):
        pass
    files.point(tmp_path / "current", "kept")
    assert names(tmp_path) == ["a.txt", "current", "kept"]


def test_what_another_one_is_writing_is_no_leftover(tmp_path: Path) -> None:
    with files.publish(tmp_path / "a") as first, files.publish_folder(tmp_path / "f") as folder:
        first.write_text("first")
        (folder / "first").touch()
        files.write_text(tmp_path / "a", "second")
        with files.publish_folder(tmp_path / "f"):
            pass
        assert first.read_text() == "first"
        assert names(folder) == ["first"]
    assert (tmp_path / "a").read_text() == "first"
    assert names(tmp_path) == ["a", "f"]


def test_many_writers_of_one_name_do_not_take_each_other_for_killed_ones(tmp_path: Path) -> None:
    def write(number: int) -> None:
        for _ in range(40):
            files.write_text(tmp_path / "a", str(number) * 5000)
            files.point(tmp_path / "current", str(number))
            with files.publish_folder(tmp_path / "f") as temp:
                (temp / "a").touch()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))  # raises what a writer raised
    assert len(set((tmp_path / "a").read_text())) == 1
    assert names(tmp_path) == ["a", "current", "f"]


def test_a_name_that_only_looks_like_a_leftover_is_left_alone(tmp_path: Path) -> None:
    others = [f".b.txt.{LEFT}", ".a.txt.tmp", f"a.txt.{LEFT}", f".aXtxt.{LEFT}", f".a.txt.{LEFT}~"]
    for name in others:
        (tmp_path / name).touch()
    (tmp_path / f".a.txt.{LEFT}").symlink_to(others[0])
    files.write_text(tmp_path / "a.txt", "a")
    assert names(tmp_path) == sorted([*others, "a.txt", f".a.txt.{LEFT}"])


def test_where_files_cannot_be_locked_nothing_is_taken_for_a_leftover(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    (tmp_path / f".a.txt.{LEFT}").touch()
    files.write_text(tmp_path / "a.txt", "a")
    assert names(tmp_path) == [f".a.txt.{LEFT}", "a.txt"]


@pytest.mark.parametrize("state", ["held", "taken"])
def test_a_temporary_folder_taken_for_a_leftover_before_it_was_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    # another one looks for leftovers between the making and the locking
    lock = files._lock
    seen: list[Path] = []

    def late(descriptor: int) -> str:
        if not seen:
            seen.extend(tmp_path.iterdir())
            seen[0].rmdir()
            return state
        return lock(descriptor)

    monkeypatch.setattr(files, "_lock", late)
    with files.publish_folder(tmp_path / "f") as temp:
        (temp / "a").touch()
    assert len(seen) == 1
    assert names(tmp_path) == ["f"]


def test_descriptors_do_not_pile_up(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for turn in range(5):
        (tmp_path / f".a.txt.{LEFT}").touch()
        files.write_text(tmp_path / "a.txt", str(turn))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_new_folders_are_made_safe_one_in_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(files, "fsync", synced.append)
    files.make_folder(tmp_path / "a" / "b")
    # the first: ``tmp_path`` may have been made by a process killed before it could sync
    assert synced == [tmp_path.parent, tmp_path, tmp_path / "a"]


def test_a_folder_above_that_may_only_be_passed_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush = files.fsync

    def closed(path: Path) -> None:
        if path == tmp_path.parent:
            raise PermissionError(path)
        flush(path)

    monkeypatch.setattr(files, "fsync", closed)
    files.write_text(tmp_path / "a.txt", "a")
    assert names(tmp_path) == ["a.txt"]


def test_a_published_folder_may_hold_links_to_anything(tmp_path: Path) -> None:
    with files.publish_folder(tmp_path / "f") as temp:
        (temp / "gone").symlink_to("nowhere")
    assert (tmp_path / "f" / "gone").readlink() == Path("nowhere")


def test_what_was_put_aside_is_removed_only_when_its_renames_are_safe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # killed after the second rename: a power cut can still undo both, and ``f`` is the old one
    for name in ("f/new", ".f.replaced/old"):
        (tmp_path / name).mkdir(parents=True)
    there: list[bool] = []
    flush = files.fsync

    def fsync(path: Path) -> None:
        if path == tmp_path:
            there.append((tmp_path / ".f.replaced" / "old").exists())
        flush(path)

    monkeypatch.setattr(files, "fsync", fsync)
    with files.replace_folder(tmp_path / "f"):
        pass
    assert there[0]
    assert names(tmp_path) == ["f"]


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


def test_runs_that_replace_one_folder_at_once_all_succeed(tmp_path: Path) -> None:
    out = tmp_path / "f"

    def replace(number: int) -> None:
        for _ in range(25):
            assert files.replaceable(out, lambda _: ["made"], "a test") == out
            with files.replace_folder(out) as temp:
                (temp / "made").write_text(str(number))

    with ThreadPoolExecutor(4) as pool:  # each opens its own lock, as processes do
        for done in [pool.submit(replace, number) for number in range(4)]:
            done.result(60)
    assert names(out) == ["made"]
    assert names(tmp_path) == ["f"]
