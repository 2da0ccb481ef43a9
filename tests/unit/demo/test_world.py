import io
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from dagster_project.lib import dataset, files
from dagster_project.lib.demo.population import TRUTH_COLUMNS, WorldSize
from dagster_project.lib.demo.world import CODE_VERSION, STAMP, World, build_world
from dagster_project.lib.errors import InputError
from dagster_project.lib.inference import preprocess

TINY = WorldSize("tiny", 10)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("tiny"), TINY, seed=5)


@pytest.fixture(scope="module")
def again(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, list[tuple[int, int]]]:
    """The tiny world once more, elsewhere, in a folder that has another file; its progress."""
    root, seen = tmp_path_factory.mktemp("again"), []
    (root / "settings.env").write_text("A=1")
    built = build_world(root, TINY, seed=5, on_progress=lambda d, t, note="": seen.append((d, t)))
    return built, seen


def hashes(folder: Path) -> dict[str, str]:
    found = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): files.sha256_file(p) for p in found}


def test_the_dataset_meets_the_contract_and_joins_with_the_truth(
    world: World, truth: pl.DataFrame
) -> None:
    index = dataset.dataset_index(world.dataset_dir)
    assert set(index["split"]) == {"train", "test"}
    assert index.select("image_uuid", "patient_id", "split").equals(
        truth.select("image_uuid", "patient_id", "split")
    )
    given = dataset.given_labels(world.dataset_dir)
    assert given["label"].equals(truth["given_label"])
    assert index.width == 4 + 19


def test_the_truth_is_nowhere_in_the_dataset_or_the_model(
    world: World, truth: pl.DataFrame
) -> None:
    manifest = dataset.read_manifest(world.dataset_dir)
    planted = {"true_label", "is_noise", "is_garbage", "near_duplicate_of"}
    assert planted.isdisjoint(manifest.columns)
    assert tuple(truth.columns) == TRUTH_COLUMNS
    for folder in (world.dataset_dir, world.model_bucket, world.candidates):
        assert not list(folder.rglob("*truth*"))


def test_file_names_and_jpeg_headers_name_no_class(world: World, truth: pl.DataFrame) -> None:
    manifest = dataset.read_manifest(world.dataset_dir)
    for image, path in manifest.select("image_uuid", "image_path").iter_rows():
        assert path == f"images/{image}.jpg"
    readable = truth.filter(~pl.col("is_unreadable"))["image_uuid"]
    for image in readable[:50]:
        with Image.open(world.dataset_dir / "images" / f"{image}.jpg") as opened:
            assert set(opened.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


def test_the_shape_of_an_image_is_independent_of_its_class(
    world: World, truth: pl.DataFrame
) -> None:
    wide = []
    whole = truth.filter(~pl.col("is_unreadable"), pl.col("near_duplicate_of").is_null())
    for image, label in whole.select("image_uuid", "true_label").iter_rows():
        with Image.open(world.dataset_dir / "images" / f"{image}.jpg") as opened:
            wide.append((label, opened.width > opened.height))
    shares = pl.DataFrame(wide, schema=["label", "wide"], orient="row").group_by("label")
    big = shares.agg(pl.len(), pl.col("wide").mean()).filter(pl.col("len") >= 20)
    assert big.height >= 3
    assert big["wide"].is_between(0.05, 0.55).all()


def test_exactly_the_planted_files_do_not_open(world: World, truth: pl.DataFrame) -> None:
    broken = set()
    for image in truth["image_uuid"]:
        try:
            preprocess.decode(world.dataset_dir / "images" / f"{image}.jpg")
        except preprocess.DecodeError:
            broken.add(image)
    assert broken == set(truth.filter("is_unreadable")["image_uuid"])


def test_a_near_duplicate_looks_like_its_source_but_is_another_file(
    world: World, truth: pl.DataFrame
) -> None:
    def small(image: str) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
        data = (world.dataset_dir / "images" / f"{image}.jpg").read_bytes()
        thumb = Image.open(io.BytesIO(data)).convert("L").resize((16, 16))
        values = np.asarray(thumb, dtype=np.float64)
        return np.asarray((values - values.mean()) / values.std())

    copies = truth.filter(pl.col("near_duplicate_of").is_not_null())
    assert copies.height >= 4
    sources = copies["near_duplicate_of"]
    copied, source = ([small(i) for i in ids] for ids in (copies["image_uuid"], sources))
    alike = [float((a * b).mean()) for a, b in zip(copied, source, strict=True)]
    others = [float((a * b).mean()) for a, b in zip(copied[1:], source[:-1], strict=True)]
    assert min(alike) > 0.8 > np.median(others)
    contents = hashes(world.dataset_dir / "images")
    assert all(
        contents[f"{a}.jpg"] != contents[f"{b}.jpg"]
        for a, b in zip(copies["image_uuid"], sources, strict=True)
    )


def test_same_seed_gives_the_same_bytes_of_images_tables_and_truth(
    tiny: World, again: tuple[World, list[tuple[int, int]]]
) -> None:
    assert hashes(again[0].dataset_dir) == hashes(tiny.dataset_dir)
    assert hashes(again[0].truth_path.parent) == hashes(tiny.truth_path.parent)


def test_same_seed_gives_the_same_models(
    tiny: World, again: tuple[World, list[tuple[int, int]]]
) -> None:
    assert hashes(again[0].model_bucket) == hashes(tiny.model_bucket)
    assert hashes(again[0].candidates) == hashes(tiny.candidates)


def test_a_finished_world_is_used_as_it_is(tiny: World) -> None:
    before = {p: p.stat().st_mtime_ns for p in tiny.root.rglob("*")}
    found = build_world(tiny.root, TINY, seed=5)
    assert found.reused
    assert not tiny.reused
    assert {p: p.stat().st_mtime_ns for p in tiny.root.rglob("*")} == before


@pytest.mark.parametrize("state", ["building", "older code"])
def test_a_half_built_or_older_world_is_built_again(tmp_path: Path, state: str) -> None:
    stamp = {"size": "tiny", "seed": 5, "code_version": CODE_VERSION, "state": "complete"}
    stamp |= {"state": "building"} if state == "building" else {"code_version": "0"}
    files.write_json(tmp_path / STAMP, stamp)
    rest = tmp_path / "dataset" / "images" / "half.jpg"
    rest.parent.mkdir(parents=True)
    rest.write_bytes(b"half")
    built = build_world(tmp_path, TINY, seed=5)
    assert not built.reused
    assert not rest.exists()
    assert json.loads((tmp_path / STAMP).read_text())["state"] == "complete"


def test_a_folder_that_no_world_wrote_is_refused_and_kept(tmp_path: Path) -> None:
    mine = tmp_path / "dataset" / "mine.csv"
    mine.parent.mkdir()
    mine.write_text("precious")
    with pytest.raises(InputError, match="no demo world wrote"):
        build_world(tmp_path, TINY, seed=5)
    assert mine.read_text() == "precious"


def test_other_files_in_the_root_are_left_alone(
    again: tuple[World, list[tuple[int, int]]],
) -> None:
    assert (again[0].root / "settings.env").read_text() == "A=1"


def test_progress_only_grows_towards_one_total(
    again: tuple[World, list[tuple[int, int]]],
) -> None:
    built, seen = again
    drawn = dataset.read_manifest(built.dataset_dir).height
    assert {total for _, total in seen} == {seen[-1][1]}
    assert drawn < seen[-1][0] == seen[-1][1] < 2 * drawn
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
