"""The packet: what leaves is blind, what stays knows everything, an equal one is kept."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from dagster_project.lib.errors import InputError
from dagster_project.lib.labels.drop import read_drop
from dagster_project.lib.review.packet import KEY_COLUMNS, PacketDesign, build_packet

CLASSES = ("acne", "eczema", "tinea")

IDS = [f"r{i:02d}" for i in range(30)]
DESIGN = PacketDesign(("ada", "kim"), CLASSES, n=8, control_share=0.25, seed=3)

Build = Callable[..., dict[str, object]]


def issues(ids: list[str]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "image_uuid": ids,
            "patient_id": None,
            "given_label": "acne",
            "predicted_label": "tinea",
            "quality": [0.001 * i for i in range(len(ids))],
            "image_path": [f"{uuid}.jpg" for uuid in ids],
        }
    )


@pytest.fixture
def index(photos: Callable[[list[str]], pl.DataFrame]) -> pl.DataFrame:
    return photos(IDS).with_columns(label=pl.lit("eczema"))


@pytest.fixture
def build(tmp_path: Path, index: pl.DataFrame) -> Build:
    def run(design: PacketDesign = DESIGN, ids: list[str] = IDS[:10]) -> dict[str, object]:
        return build_packet(issues(ids), index, tmp_path / "data", tmp_path / "out", design)

    return run


def key_of(summary: dict[str, object]) -> pl.DataFrame:
    return pl.read_parquet(Path(str(summary["folder"])) / "key.parquet")


def hand_out(summary: dict[str, object]) -> Path:
    return Path(str(summary["folder"])) / "hand_out"


def sheets(summary: dict[str, object]) -> list[pl.DataFrame]:
    paths = sorted(hand_out(summary).glob("review_*.csv"))
    return [pl.read_csv(path, infer_schema=False) for path in paths]


def test_the_worst_candidates_and_hidden_controls_are_chosen(build: Build) -> None:
    summary = build()
    assert (summary["n"], summary["n_candidates"], summary["n_controls"]) == (8, 6, 2)
    key = key_of(summary)
    assert key.columns == list(KEY_COLUMNS)
    roles = dict(key.select("image_uuid", "role").rows())
    assert sorted(u for u, role in roles.items() if role == "candidate") == IDS[:6]
    controls = key.filter(pl.col("role") == "control")
    assert set(controls["image_uuid"]) <= set(IDS[6:])
    assert controls["given_label"].to_list() == ["eczema"] * 2
    flagged = controls["image_uuid"].is_in(IDS[:10])
    assert controls["quality"].is_not_null().to_list() == flagged.to_list()


def test_every_image_of_the_frame_has_its_known_probability(build: Build) -> None:
    summary = build()
    key, frame = key_of(summary), pl.read_parquet(Path(str(summary["folder"])) / "frame.parquet")
    assert frame["image_uuid"].to_list() == IDS
    assert frame["inclusion_probability"].to_list() == [1.0] * 6 + [2 / 24] * 24
    assert key.join(frame, on=["image_uuid", "inclusion_probability"]).height == key.height
    assert summary["design"] == {
        "n_frame": 30,
        "n_flagged": 10,
        "n_flagged_not_candidates": 4,
        "n_pool": 24,
        "n_examined": 2,
        "control_probability": 2 / 24,
    }


def test_flagged_rows_beyond_the_worst_are_drawn_as_often_as_any_other(build: Build) -> None:
    drawn: list[str] = []
    wide = replace(DESIGN, n=12, control_share=0.5, reviewers=("ada",))
    for seed in range(12):
        key = key_of(build(replace(wide, seed=seed)))
        drawn += key.filter(pl.col("role") == "control")["image_uuid"].to_list()
    flagged = sum(uuid in IDS[6:10] for uuid in drawn)
    # 72 draws, a sixth of the pool flagged: 12 expected; 2 or fewer has probability 0.0002
    assert 3 <= flagged <= 25
    assert len(set(drawn)) > 15


def test_every_reviewer_gets_every_row_once_in_an_own_order(build: Build) -> None:
    summary = build()
    ada, kim = sheets(summary)
    assert ada.columns == [
        "image_uuid", "image_path", "reviewer", "label", "confidence", "comment"
    ]  # fmt: skip
    assert (
        sorted(ada["image_uuid"])
        == sorted(kim["image_uuid"])
        == sorted(key_of(summary)["image_uuid"])
    )
    assert ada["image_uuid"].to_list() != kim["image_uuid"].to_list()
    assert set(ada["reviewer"]) == {"ada"}
    assert ada.select("label", "confidence", "comment").null_count().row(0) == (8, 8, 8)
    for path in ada["image_path"]:
        assert (hand_out(summary) / path).is_file()


def test_nothing_that_leaves_tells_label_prediction_quality_role_or_patient(build: Build) -> None:
    summary = build()
    folder = hand_out(summary)
    names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))
    assert not any(uuid in name for name in names for uuid in IDS)
    assert (folder / "classes.txt").read_text().split() == [*CLASSES, "unsure", "not_usable"]
    for path in [*folder.glob("*.csv"), folder / "README.txt"]:
        text = path.read_text()
        for word in ("acne", "tinea", "eczema", "0.00", "candidate", "control", "pr0"):
            assert word not in text
    order = key_of(summary).sort("file")["role"].to_list()
    assert order != sorted(order)


def test_images_leave_upright_and_without_exif(
    build: Build, tmp_path: Path, index: pl.DataFrame
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "camera of ward 7"
    source = tmp_path / "data" / f"{IDS[0]}.jpg"
    Image.new("RGB", (40, 20)).save(source, exif=exif, comment=b"Jane Doe")
    summary = build()
    name = key_of(summary).filter(pl.col("image_uuid") == IDS[0])["file"][0]
    data = (hand_out(summary) / "images" / name).read_bytes()
    assert b"ward 7" in source.read_bytes()
    assert b"ward 7" not in data
    assert b"Jane Doe" not in data
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (20, 40)
        assert not image.getexif()


def test_unreadable_images_are_left_out_listed_and_replaced(build: Build, tmp_path: Path) -> None:
    (tmp_path / "data" / f"{IDS[2]}.jpg").write_bytes(b"no image")
    (tmp_path / "data" / f"{IDS[4]}.jpg").unlink()
    summary = build()
    assert summary["unreadable"] == [IDS[2], IDS[4]]
    assert summary["n_candidates"] == 6
    assert IDS[7] in key_of(summary)["image_uuid"].to_list()
    frame = pl.read_parquet(Path(str(summary["folder"])) / "frame.parquet")
    unreadable = frame.filter(pl.col("inclusion_probability") == 0)["image_uuid"]
    assert unreadable.to_list() == [IDS[2], IDS[4]]


def test_an_unreadable_control_counts_as_examined(build: Build, tmp_path: Path) -> None:
    control = key_of(build()).filter(pl.col("role") == "control")["image_uuid"][0]
    (tmp_path / "data" / f"{control}.jpg").unlink()
    summary = build()
    probabilities = key_of(summary).filter(pl.col("role") == "control")["inclusion_probability"]
    assert (summary["n_controls"], probabilities.to_list()) == (2, [3 / 24] * 2)


def test_with_few_candidates_the_share_of_controls_is_kept(build: Build) -> None:
    summary = build(ids=IDS[:3])
    assert (summary["n_candidates"], summary["n_controls"]) == (3, 1)


def test_an_equal_packet_is_not_built_again(build: Build) -> None:
    first = build()
    sheet = next(hand_out(first).glob("*.csv"))
    sheet.write_text("under review")
    second = build()
    assert (first["built"], second["built"]) == (True, False)
    assert second["folder"] == first["folder"]
    assert sheet.read_text() == "under review"


@pytest.mark.parametrize(
    "design",
    [
        pytest.param(replace(DESIGN, seed=4), id="seed"),
        pytest.param(replace(DESIGN, reviewers=("ada",)), id="reviewers"),
        pytest.param(replace(DESIGN, n=9), id="size"),
        pytest.param(replace(DESIGN, classes=(*CLASSES, "scabies")), id="classes"),
    ],
)
def test_another_design_is_another_packet(build: Build, design: PacketDesign) -> None:
    assert build(design)["folder"] != build()["folder"]


def test_changed_pixels_are_another_packet(build: Build, tmp_path: Path) -> None:
    first = build()
    Image.new("RGB", (8, 8)).save(tmp_path / "data" / f"{IDS[0]}.jpg")
    assert build()["folder"] != first["folder"]


def test_a_filled_sheet_is_what_the_drop_accepts(
    build: Build, tmp_path: Path, index: pl.DataFrame
) -> None:
    summary = build()
    folder = tmp_path / "drop"
    folder.mkdir()
    for path in hand_out(summary).glob("*.csv"):
        sheet = pl.read_csv(path, infer_schema=False)
        half = pl.int_range(pl.len()) < 4
        filled = sheet.with_columns(label=pl.when(half).then(pl.lit("tinea")))
        filled.write_csv(folder / path.name)
    drop = read_drop(str(folder), classes=CLASSES, image_uuids=index["image_uuid"])
    assert (drop.refusals, drop.n_files, drop.reviews.height) == ((), 2, 8)


@pytest.mark.parametrize(
    ("design", "message"),
    [
        pytest.param(replace(DESIGN, reviewers=()), "one or more different names", id="nobody"),
        pytest.param(replace(DESIGN, reviewers=("../x",)), r"reviewers '\.\./x'", id="path"),
        pytest.param(replace(DESIGN, reviewers=("Ada", "ada")), "different names", id="same"),
        pytest.param(replace(DESIGN, n=0), "n 0", id="empty"),
        pytest.param(replace(DESIGN, control_share=1.0), r"share in \[0, 1\)", id="all_controls"),
    ],
)
def test_a_bad_design_is_refused(build: Build, design: PacketDesign, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(design)


def test_without_a_readable_candidate_there_is_no_packet(build: Build, tmp_path: Path) -> None:
    for uuid in IDS[:2]:
        (tmp_path / "data" / f"{uuid}.jpg").unlink()
    with pytest.raises(InputError, match="nothing to review"):
        build(ids=IDS[:2])
    assert not (tmp_path / "out").exists()
