from __future__ import annotations

import os
from pathlib import Path

import pytest

from dagster_project.lib import model_store
from dagster_project.lib.errors import InputError
from dagster_project.lib.model_store import artifact as art
from dagster_project.lib.model_store import folder


def names(dest: Path) -> list[str]:
    """What readers see; ``.sync`` is not theirs."""
    return sorted(p.name for p in dest.iterdir() if p.name != ".sync")


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were copied."""
    seen: list[str] = []
    plain = folder.copy_file

    def copy_file(source: Path, dest: Path, on_bytes: object) -> str:
        seen.append(source.name)
        return plain(source, dest, on_bytes)  # type: ignore[arg-type]

    monkeypatch.setattr(folder, "copy_file", copy_file)
    return seen


@pytest.mark.parametrize("manifest", [True, False], ids=["manifest", "no manifest"])
def test_an_artifact_is_published_by_its_hash_and_current_points_at_it(
    source: Path, tmp_path: Path, manifest: bool
) -> None:
    if manifest:
        art.write_manifest(source)
    counts: list[tuple[int, int]] = []
    dest = tmp_path / "models"
    found = model_store.sync(str(source), dest, on_progress=lambda *c: counts.append(c))
    assert found.path == dest / found.tree_hash == model_store.published(dest, found.tree_hash)
    assert model_store.current(dest) == found.path
    assert (dest / "current").readlink() == Path(found.tree_hash)
    assert names(dest) == sorted([found.tree_hash, "current"])
    assert {p.name: p.read_bytes() for p in found.path.iterdir()} == {
        p.name: p.read_bytes() for p in source.iterdir()
    }
    total = found.files["bytes"].sum()
    assert counts[-1] == (total, total)


def test_an_equal_artifact_is_hashed_again_and_nothing_is_copied(
    source: Path, tmp_path: Path, copied: list[str]
) -> None:
    first = model_store.sync(str(source), tmp_path / "m")
    copied.clear()
    inode = (first.path / "best_model.pt").stat().st_ino
    second = model_store.sync(str(source), tmp_path / "m")
    assert copied == []
    assert second.tree_hash == first.tree_hash
    assert (second.path / "best_model.pt").stat().st_ino == inode


def test_current_flips_to_a_checkpoint_of_the_same_size_and_back(
    source: Path, tmp_path: Path, copied: list[str]
) -> None:
    path, dest = source / "best_model.pt", tmp_path / "m"
    old = path.read_bytes()
    first = model_store.sync(str(source), dest)
    path.write_bytes(old[::-1])
    second = model_store.sync(str(source), dest)
    assert first.tree_hash != second.tree_hash
    assert model_store.current(dest) == second.path
    assert (first.path / "best_model.pt").read_bytes() == old
    path.write_bytes(old)
    copied.clear()
    assert model_store.sync(str(source), dest).tree_hash == first.tree_hash
    assert model_store.current(dest) == first.path
    assert copied == []


def test_a_published_file_whose_byte_was_flipped_is_found_and_copied_again(
    source: Path, tmp_path: Path
) -> None:
    dest = tmp_path / "m"
    first = model_store.sync(str(source), dest)
    path = first.path / "best_model.pt"
    good = path.read_bytes()
    path.write_bytes(bytes([good[0] ^ 1]) + good[1:])
    again = model_store.sync(str(source), dest)
    assert again.path == first.path
    assert path.read_bytes() == good
    assert names(dest) == sorted([first.tree_hash, "current"])


def test_a_failed_sync_leaves_the_old_artifact_in_force(source: Path, tmp_path: Path) -> None:
    dest = tmp_path / "m"
    first = model_store.sync(str(source), dest)
    (source / "best_model.pt").write_bytes(b"a new checkpoint")
    art.write_manifest(source)
    (source / "best_model.pt").write_bytes(b"a new check")
    with pytest.raises(InputError, match=rf"{source}, best_model.pt: sha256 is"):
        model_store.sync(str(source), dest)
    assert model_store.current(dest) == first.path
    assert names(dest) == sorted([first.tree_hash, "current"])


def test_a_sync_that_is_killed_while_copying_publishes_nothing(
    source: Path, tmp_path: Path
) -> None:
    def killed(done: int, total: int, note: str = "") -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model_store.sync(str(source), tmp_path / "m", on_progress=killed)
    assert names(tmp_path / "m") == []


def test_an_incomplete_source_is_refused(source: Path, tmp_path: Path) -> None:
    (source / "labels.txt").unlink()
    with pytest.raises(InputError, match=r"'labels.txt' is missing"):
        model_store.sync(str(source), tmp_path / "m")


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
@pytest.mark.parametrize("name", ["labels.txt", "manifest.json"])
def test_what_is_no_regular_file_is_refused_and_never_waited_for(
    source: Path, tmp_path: Path, kind: str, name: str
) -> None:
    path = source / name
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(InputError, match=f"{name}: not a regular file"):
        model_store.sync(str(source), tmp_path / "m")
    assert names(tmp_path / "m") == []


def test_a_link_to_a_file_is_copied_as_the_file(source: Path, tmp_path: Path) -> None:
    real = tmp_path / "blob"
    (source / "labels.txt").rename(real)
    (source / "labels.txt").symlink_to(real)
    found = model_store.sync(str(source), tmp_path / "m")
    assert not (found.path / "labels.txt").is_symlink()
    assert (found.path / "labels.txt").read_bytes() == real.read_bytes()


def test_a_source_that_changes_while_it_is_copied_is_refused(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = folder.hash_files

    def hash_then_change(where: Path, wanted: list[str]) -> dict[str, str]:
        found = plain(where, wanted)
        (source / "labels.txt").write_text("c\nd\n")
        return found

    monkeypatch.setattr(folder, "hash_files", hash_then_change)
    with pytest.raises(InputError, match=r"labels\.txt: sha256 is"):
        model_store.sync(str(source), tmp_path / "m")
    assert names(tmp_path / "m") == []


def test_what_was_copied_is_told_from_what_was_there(source: Path, tmp_path: Path) -> None:
    first = model_store.sync(str(source), tmp_path / "m")
    second = model_store.sync(str(source), tmp_path / "m")
    assert first.bytes_fetched == first.files["bytes"].sum()
    assert (second.bytes_fetched, second.offline) == (0, False)
    assert first.seconds > 0


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        pytest.param("nowhere", "no such folder", id="no folder"),
        pytest.param("https://x/y", "expected s3://bucket/prefix/ or a folder", id="https"),
        pytest.param("s3:///prefix", "no bucket", id="no bucket"),
    ],
)
def test_a_uri_that_names_no_artifact_is_refused(uri: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        model_store.sync(uri, tmp_path / "m")


def test_a_checkpoint_beside_the_model_in_service_leaves_current_as_it_is(
    source: Path, tmp_path: Path, copied: list[str]
) -> None:
    dest = tmp_path / "m"
    in_service = model_store.sync(str(source), dest)
    (source / "best_model.pt").write_bytes(b"another")
    beside = model_store.sync(str(source), dest, point=False)
    assert model_store.published(dest, beside.tree_hash) == beside.path != in_service.path
    assert model_store.current(dest) == in_service.path
    copied.clear()
    other = tmp_path / "elsewhere"
    other.mkdir()
    for path in in_service.path.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    equal = model_store.sync(str(other), dest, point=False)
    assert (equal.path, copied) == (in_service.path, []), "equal trees lie there once"


def test_a_first_checkpoint_makes_no_model_in_service(source: Path, tmp_path: Path) -> None:
    model_store.sync(str(source), tmp_path / "m", point=False)
    with pytest.raises(InputError, match="no model has been synced there yet"):
        model_store.current(tmp_path / "m")
