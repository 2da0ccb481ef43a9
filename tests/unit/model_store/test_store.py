from __future__ import annotations

from pathlib import Path

import pytest

from dagster_project.lib import model_store
from dagster_project.lib.errors import InputError
from dagster_project.lib.model_store import artifact as art
from dagster_project.lib.model_store import store
from dagster_project.lib.model_store.source import Source, open_source


def names(dest: Path) -> list[str]:
    return sorted(p.name for p in dest.iterdir())


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were fetched."""
    seen: list[str] = []
    plain = open_source

    def opened(uri: str) -> Source:
        source = plain(uri)

        def fetch(name: str, dest: Path, on_bytes: object) -> None:
            seen.append(name)
            source.fetch(name, dest, on_bytes)  # type: ignore[arg-type]

        return Source(source.uri, source.sizes, fetch)

    monkeypatch.setattr(store, "open_source", opened)
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
    source: Path, tmp_path: Path, fetched: list[str]
) -> None:
    first = model_store.sync(str(source), tmp_path / "m")
    fetched.clear()
    inode = (first.path / "best_model.pt").stat().st_ino
    second = model_store.sync(str(source), tmp_path / "m")
    assert fetched == []
    assert second.tree_hash == first.tree_hash
    assert (second.path / "best_model.pt").stat().st_ino == inode


def test_current_flips_to_a_checkpoint_of_the_same_size_and_back(
    source: Path, tmp_path: Path, fetched: list[str]
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
    fetched.clear()
    assert model_store.sync(str(source), dest).tree_hash == first.tree_hash
    assert model_store.current(dest) == first.path
    assert fetched == []


def test_a_published_file_whose_byte_was_flipped_is_found_and_fetched_again(
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
