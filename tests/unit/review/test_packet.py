"""The packet: what leaves is blind, what stays knows everything, an equal one is kept."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from packet_worlds import AT, judged
from PIL import Image

from dagster_project.lib import files
from dagster_project.lib.errors import InputError
from dagster_project.lib.labels.drop import read_drop
from dagster_project.lib.review.design import Sampling
from dagster_project.lib.review.hand_out import SHEET
from dagster_project.lib.review.packet import (
    KEY_COLUMNS,
    PacketDesign,
    PacketSource,
    build_packet,
    plan_packet,
)
from dagster_project.lib.review.sample import FRAME_COLUMNS, read_repeats

CLASSES = ("acne", "eczema", "tinea")
N = 60
DESIGN = PacketDesign(
    ("ada", "kim"), CLASSES, Sampling(n=30, n_certain=4, seed=3), n_repeats=3, n_practice=2
)
SECRETS = ("GIVEN", "PREDICTED", "PATIENT", "0.2468", "0.8642", "agrees", "flagged", "stratum")

Build = Callable[..., dict[str, Any]]


@pytest.fixture
def source(tmp_path: Path, photos: Callable[[list[str]], pl.DataFrame]) -> PacketSource:
    """Sixty judged images and ten of another split; every secret is spelled like nothing else."""
    frame = judged(N).with_columns(
        given_label=pl.concat_str(pl.lit("GIVEN"), "given_label"),
        patient_id=pl.concat_str(pl.lit("PATIENT"), "patient_id"),
        quality=pl.lit(0.2468),
        predicted_prob=pl.when(pl.col("predicted_prob") > 0.8)
        .then(0.8642)
        .otherwise("predicted_prob"),
    )
    frame = frame.with_columns(
        predicted_label=pl.when(pl.col("predicted_label") == "acne")
        .then("given_label")
        .otherwise(pl.lit("PREDICTED"))
    )
    others = [f"t{k:04d}" for k in range(10)]
    index = photos([*frame["image_uuid"], *others])
    patients = [*frame["patient_id"], *(f"PATIENT{k}" for k in others)]
    index = index.with_columns(
        patient_id=pl.Series(patients),
        split=pl.Series(["test"] * N + ["train"] * 10),
        itch=pl.Series((["yes", "no", None] * 30)[: N + 10]),
    )
    return PacketSource(frame, index, tmp_path / "data", AT)


@pytest.fixture
def build(tmp_path: Path, source: PacketSource) -> Build:
    def run(design: PacketDesign = DESIGN, **options: Any) -> dict[str, Any]:
        return build_packet(source, design, tmp_path / "out", **options)

    return run


def key_of(summary: dict[str, Any]) -> pl.DataFrame:
    return pl.read_parquet(Path(summary["folder"]) / "key.parquet")


def frame_of(summary: dict[str, Any]) -> pl.DataFrame:
    return pl.read_parquet(Path(summary["folder"]) / "frame.parquet")


def hand_out(summary: dict[str, Any]) -> Path:
    return Path(summary["folder"]) / "hand_out"


def sheet_of(summary: dict[str, Any], reviewer: str) -> pl.DataFrame:
    return pl.read_csv(hand_out(summary) / reviewer / SHEET, infer_schema=False)


def test_the_key_knows_every_showing_and_the_frame_every_image(build: Build) -> None:
    summary = build()
    key, frame = key_of(summary), frame_of(summary)
    assert key.columns == list(KEY_COLUMNS)
    assert frame.columns == list(FRAME_COLUMNS)
    assert frame["image_uuid"].to_list() == judged(N)["image_uuid"].to_list()
    assert set(frame["split"]) == {"test"}
    counts = dict(key["role"].value_counts().rows())
    assert counts == {"certain": 4, "drawn": summary["n_drawn"], "repeat": 3}
    assert summary["n"] == 4 + summary["n_drawn"] <= 30
    asked = key.filter(pl.col("role") != "repeat")
    assert asked["image_uuid"].to_list() == asked["presented_uuid"].to_list()
    known = ["image_uuid", "stratum", "inclusion_probability", "tier", "flagged", "patient_id"]
    assert asked.join(frame, on=known).height == asked.height
    again = key.filter(role="repeat")
    assert again["image_uuid"].is_in(asked["image_uuid"].implode()).all()
    assert not again["presented_uuid"].is_in(frame["image_uuid"].implode()).any()
    assert again["presented_uuid"].str.len_chars().to_list() == [5, 5, 5]
    assert sum(row["n_asked"] for row in summary["strata"]) == summary["n"]


def test_a_reviewer_gets_every_showing_once_in_an_own_order_and_four_blank_columns(
    build: Build,
) -> None:
    summary = build()
    ada, kim = (sheet_of(summary, name) for name in ("ada", "kim"))
    assert ada.columns == [
        "image_uuid", "image_path", "reviewer", "label", "confidence", "comment"
    ]  # fmt: skip
    assert ada.height == summary["n"] + 3
    assert sorted(ada["image_uuid"]) == sorted(kim["image_uuid"])
    assert sorted(ada["image_uuid"]) == sorted(key_of(summary)["presented_uuid"])
    assert ada["image_uuid"].to_list() != kim["image_uuid"].to_list()
    assert ada[:, 2:].null_count().row(0) == (ada.height,) * 4
    for path in ada["image_path"]:
        assert (hand_out(summary) / "ada" / path).is_file()
    assert len(list((hand_out(summary) / "ada" / "images").iterdir())) == ada.height + 2


def test_images_of_a_patient_and_look_alikes_are_never_neighbours(build: Build) -> None:
    alike = pl.DataFrame({"image_uuid": judged(N)["image_uuid"][:24], "group": list(range(12)) * 2})
    summary = build(similar=alike)
    key = key_of(summary).join(alike, on="image_uuid", how="left")
    for name in ("ada", "kim"):
        rows = sheet_of(summary, name).join(
            key, left_on="image_uuid", right_on="presented_uuid", how="left", maintain_order="left"
        )
        for column in ("patient_id", "group"):
            assert not (rows[column] == rows[column].shift()).any()
        gap = summary["orders"][name]["smallest_gap"]
        assert gap >= rows.height // 3
        assert summary["orders"][name]["n_adjacent"] == 0


def test_no_byte_that_leaves_tells_label_prediction_score_quality_role_or_patient(
    build: Build, source: PacketSource
) -> None:
    summary = build(replace(DESIGN, columns=("itch",)))
    paths = [p for p in hand_out(summary).rglob("*") if p.is_file()]
    assert len([p for p in paths if p.suffix == ".zip"]) == 2
    for path in paths:
        data = path.read_bytes()
        for secret in SECRETS:
            assert secret.encode() not in data, (path.name, secret)
    names = "\n".join(str(p.relative_to(hand_out(summary))) for p in paths)
    for uuid in source.index["image_uuid"]:
        assert uuid not in names
    assert b"itch" in (hand_out(summary) / "ada" / "packet.js").read_bytes()
    order = key_of(summary).sort("file")["role"].to_list()
    assert order != sorted(order)


def test_practice_cases_are_of_another_split_and_only_in_the_page(
    build: Build, source: PacketSource
) -> None:
    summary = build()
    key = key_of(summary)
    shown = {p.name for p in (hand_out(summary) / "ada" / "images").iterdir()}
    practice = shown - set(key["file"])
    assert len(practice) == summary["n_practice"] == 2
    page = (hand_out(summary) / "ada" / "packet.js").read_text()
    assert all(name in page for name in practice)
    pixels = {(hand_out(summary) / "ada" / "images" / name).read_bytes() for name in practice}
    train = source.index.filter(split="train")["image_path"]
    assert pixels <= {encoded(source.dataset_dir / path) for path in train}
    assert build(replace(DESIGN, n_practice=0))["n_practice"] == 0


def encoded(path: Path) -> bytes:
    sink = io.BytesIO()
    with Image.open(path) as image:
        image.save(sink, "JPEG", quality=95, subsampling=0)
    return sink.getvalue()


def test_without_another_split_practice_is_never_like_what_is_asked(
    tmp_path: Path, source: PacketSource
) -> None:
    alone = replace(source, index=source.index.head(N))
    summary = build_packet(alone, DESIGN, tmp_path / "out")
    assert summary["n_practice"] == 2
    everything = PacketDesign(("ada",), CLASSES, Sampling(n=200, n_certain=0))
    assert build_packet(alone, everything, tmp_path / "out")["n_practice"] == 0


def test_images_leave_upright_and_without_exif(build: Build, source: PacketSource) -> None:
    everything = replace(DESIGN, sampling=Sampling(n=200))
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "camera of ward 7"
    photo = source.dataset_dir / "i0007.jpg"
    Image.new("RGB", (40, 20)).save(photo, exif=exif, comment=b"Jane Doe")
    summary = build(everything)
    name = key_of(summary).filter(presented_uuid="i0007")["file"][0]
    data = (hand_out(summary) / "kim" / "images" / name).read_bytes()
    assert b"ward 7" in photo.read_bytes()
    assert b"ward 7" not in data
    assert b"Jane Doe" not in data
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (20, 40)
        assert not image.getexif()


def test_an_image_that_does_not_open_has_probability_zero_and_changes_no_other(
    build: Build, source: PacketSource
) -> None:
    before = build()
    key = key_of(before)
    drawn = key.filter(role="drawn")["image_uuid"][0]
    (source.dataset_dir / f"{drawn}.jpg").write_bytes(b"no image")
    after = build()
    assert after["unreadable"] == [drawn]
    assert after["n"] == before["n"] - 1
    pair = frame_of(before).join(frame_of(after), on="image_uuid")
    changed = pair.filter(pl.col("inclusion_probability") != pl.col("inclusion_probability_right"))
    assert changed.select("image_uuid", "inclusion_probability_right").rows() == [(drawn, 0.0)]


def test_a_worst_image_that_does_not_open_gives_way_to_the_next(
    build: Build, source: PacketSource
) -> None:
    flagged = source.judged.filter("flagged")["image_uuid"].sort()
    for uuid in flagged[:2]:
        (source.dataset_dir / f"{uuid}.jpg").write_bytes(b"no image")
    (source.dataset_dir / f"{flagged[2]}.jpg").unlink()
    summary = build()
    certain = key_of(summary).filter(role="certain")["image_uuid"].to_list()
    assert certain == flagged[3:7].to_list()
    assert summary["unreadable"] == flagged[:3].to_list()
    zero = frame_of(summary).filter(pl.col("inclusion_probability") == 0)["image_uuid"]
    assert zero.to_list() == flagged[:3].to_list()
    assert summary["n_outside"] == 3


def test_an_equal_packet_is_not_built_again(build: Build) -> None:
    first = build()
    sheet = hand_out(first) / "ada" / SHEET
    sheet.write_text("under review")
    second = build()
    assert (first["built"], second["built"]) == (True, False)
    assert second["folder"] == first["folder"]
    assert sheet.read_text() == "under review"
    stored = files.read_json(Path(first["folder"]) / "summary.json")
    assert stored == {k: v for k, v in first.items() if k not in ("folder", "built")}


@pytest.mark.parametrize(
    "design",
    [
        pytest.param(replace(DESIGN, sampling=replace(DESIGN.sampling, seed=4)), id="seed"),
        pytest.param(replace(DESIGN, reviewers=("ada",)), id="reviewers"),
        pytest.param(replace(DESIGN, sampling=replace(DESIGN.sampling, n=31)), id="size"),
        pytest.param(replace(DESIGN, classes=(*CLASSES, "scabies")), id="classes"),
        pytest.param(replace(DESIGN, descriptions={"acne": "spots"}), id="descriptions"),
        pytest.param(replace(DESIGN, columns=("itch",)), id="columns"),
        pytest.param(replace(DESIGN, n_practice=1), id="practice"),
    ],
)
def test_another_design_is_another_packet(build: Build, design: PacketDesign) -> None:
    assert build(design)["folder"] != build()["folder"]


def test_repeats_of_two_packets_of_one_seed_never_share_an_id(build: Build) -> None:
    folders = {build(design)["folder"] for design in (DESIGN, replace(DESIGN, n_repeats=4))}
    repeats = read_repeats(Path(folders.pop()).parent)
    assert repeats.height == 7
    of_id = repeats.group_by("presented_uuid").agg(pl.col("image_uuid").n_unique())
    assert of_id["image_uuid"].max() == 1


def test_changed_pixels_of_an_asked_or_a_practice_image_are_another_packet(
    build: Build, source: PacketSource
) -> None:
    first = build()
    asked = key_of(first)["image_uuid"][0]
    Image.new("RGB", (8, 8)).save(source.dataset_dir / f"{asked}.jpg")
    second = build()
    for path in source.index.filter(split="train")["image_path"]:
        Image.new("RGB", (8, 8)).save(source.dataset_dir / path)
    assert len({first["folder"], second["folder"], build()["folder"]}) == 3


def test_the_same_inputs_give_the_same_bytes_and_the_zip_is_the_folder(
    source: PacketSource, tmp_path: Path
) -> None:
    folders = [Path(build_packet(source, DESIGN, tmp_path / out)["folder"]) for out in "ab"]
    one, two = (
        {str(p.relative_to(f)): p.read_bytes() for p in f.rglob("*") if p.is_file()}
        for f in folders
    )
    assert one == two
    packed = zipfile.ZipFile(folders[0] / "hand_out" / "ada.zip")
    top = f"review_{folders[0].name[:8]}_ada/"
    plain = {name.removeprefix(top): packed.read(name) for name in packed.namelist()}
    folder = folders[0] / "hand_out" / "ada"
    assert plain == {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def test_photographs_of_several_reviewers_take_the_disk_once(build: Build) -> None:
    folder = hand_out(build())
    for path in (folder / "ada" / "images").iterdir():
        assert path.stat().st_ino == (folder / "kim" / "images" / path.name).stat().st_ino


def test_nobody_is_shown_again_what_he_has_judged_and_the_design_stays(build: Build) -> None:
    before = build()
    first, other = DESIGN.reviewers[:2]
    asked = key_of(before).filter(pl.col("role") != "repeat")["image_uuid"].sort()
    known = asked[:5].to_list()
    reviews = pl.DataFrame({"image_uuid": known, "reviewer": first.upper()})
    after = build(reviews=reviews)
    assert key_of(after).equals(key_of(before))
    repeats = dict(key_of(after).select("presented_uuid", "image_uuid").rows())
    shown = [repeats[uuid] for uuid in sheet_of(after, first)["image_uuid"]]
    whole = [repeats[uuid] for uuid in sheet_of(before, first)["image_uuid"]]
    assert sorted(shown) == sorted(uuid for uuid in whole if uuid not in known)
    assert sheet_of(after, other).equals(sheet_of(before, other))
    everything = pl.DataFrame({"image_uuid": asked, "reviewer": first})
    with pytest.raises(InputError, match="has judged every image"):
        build(reviews=everything)


def test_a_filled_sheet_is_what_the_drop_accepts(
    build: Build, tmp_path: Path, source: PacketSource
) -> None:
    summary = build()
    drop = tmp_path / "drop"
    drop.mkdir()
    for name in DESIGN.reviewers:
        half = pl.int_range(pl.len()) < 9
        filled = sheet_of(summary, name).with_columns(
            label=pl.when(half).then(pl.lit("tinea")), reviewer=pl.lit(name)
        )
        filled.write_csv(drop / f"review_{summary['packet'][:8]}_{name}.csv")
    known = pl.concat([source.index["image_uuid"], key_of(summary)["presented_uuid"]]).unique()
    found = read_drop(str(drop), classes=CLASSES, image_uuids=known)
    assert (found.refusals, found.n_files, found.reviews.height) == ((), 2, 18)


def test_the_instructions_name_the_file_to_return_and_the_class_list_explains(build: Build) -> None:
    summary = build(replace(DESIGN, descriptions={"acne": "spots of the young"}))
    text = (hand_out(summary) / "kim" / "README.txt").read_text()
    assert f"review_{summary['packet'][:8]}_kim.csv" in text
    assert "first 2 photographs are for practice" in text
    words = (hand_out(summary) / "kim" / "classes.txt").read_text().splitlines()
    assert words[0].split(maxsplit=1) == ["acne", "spots of the young"]
    assert [line.split()[0] for line in words] == [*CLASSES, "unsure", "not_usable"]


def test_a_plan_writes_nothing_and_says_what_the_packet_says(
    build: Build, source: PacketSource, tmp_path: Path
) -> None:
    planned = plan_packet(source, DESIGN)
    assert not (tmp_path / "out").exists()
    summary = build()
    assert planned.sentences() == summary["can_show"]
    assert planned.strata["stratum"].to_list() == [row["stratum"] for row in summary["strata"]]


@pytest.mark.parametrize(
    ("design", "message"),
    [
        pytest.param(replace(DESIGN, reviewers=()), "one or more different names", id="nobody"),
        pytest.param(replace(DESIGN, reviewers=("../x",)), r"reviewers '\.\./x'", id="path"),
        pytest.param(replace(DESIGN, reviewers=("Ada", "ada")), "different names", id="same"),
        pytest.param(replace(DESIGN, sampling=Sampling(n=0)), "n 0", id="empty"),
        pytest.param(replace(DESIGN, sampling=Sampling(n=5)), "n leaves 4 images", id="too_few"),
        pytest.param(replace(DESIGN, n_repeats=61), "repeats 61: only", id="repeats"),
        pytest.param(replace(DESIGN, n_practice=-1), "practice -1", id="practice"),
        pytest.param(replace(DESIGN, columns=("patient_id",)), "patient_id is named", id="column"),
    ],
)
def test_a_bad_design_is_refused_and_nothing_is_written(
    build: Build, design: PacketDesign, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        build(design)
    assert not (tmp_path / "out").exists()


def test_judged_images_that_the_dataset_does_not_have_are_refused(source: PacketSource) -> None:
    with pytest.raises(InputError, match="2 judged images are not in the dataset"):
        plan_packet(replace(source, index=source.index[2:]), DESIGN)


def test_without_a_readable_image_there_is_no_packet(
    build: Build, source: PacketSource, tmp_path: Path
) -> None:
    for path in source.judged["image_path"]:
        (source.dataset_dir / path).write_bytes(b"no image")
    with pytest.raises(InputError, match="nothing to review"):
        build()
    assert not (tmp_path / "out").exists()
