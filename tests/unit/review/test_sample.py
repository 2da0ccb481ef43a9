from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from frozen_packet import frame_of, write_packet

from dagster_project.lib.errors import InputError
from dagster_project.lib.review.sample import (
    Packet,
    apply_reviewed,
    choose_packet,
    design_of,
    expected,
    read_packets,
    read_repeats,
    read_reviewed,
    with_reviews,
)

CLASSES = ("acne", "eczema")


def packet(name: str, asked: str, frame: str = "abcdef") -> Packet:
    probability = [1.0 if uuid in asked else 0.25 for uuid in frame]
    return Packet(
        name,
        pl.DataFrame(
            {
                "image_uuid": list(frame),
                "asked": [uuid in asked for uuid in frame],
                "inclusion_probability": probability,
                "stratum": ["certain" if uuid in asked else "x" for uuid in frame],
            }
        ),
    )


def put(folder: Path, frame: str, key: list[tuple[str, str, str]]) -> None:
    """A packet of layout 3: the first row certain, the others drawn with 1/2."""
    strata = [("certain", 1.0), *[("confident/agrees/unflagged", 0.5)] * (len(frame) - 1)]
    rows = [
        {"image_uuid": uuid, "stratum": stratum, "inclusion_probability": probability}
        for uuid, (stratum, probability) in zip(frame, strata, strict=True)
    ]
    power = {"confident_wrong": {"expected": 0.03, "half_width": 0.01}}
    write_packet(folder, frame_of(rows), key, {"power": power})


def cleaned(**status: str) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "image_uuid": list("abcdef"),
            "given_label": ["acne"] * 6,
            "status": [status.get(uuid, "given") for uuid in "abcdef"],
        }
    )


@pytest.mark.parametrize(
    ("packets", "chosen"),
    [
        pytest.param([packet("1", "abc"), packet("2", "ab")], "2", id="most_completely_returned"),
        pytest.param([packet("1", "a"), packet("2", "ab")], "2", id="the_larger_of_equal_ones"),
        pytest.param([packet("2", "ab"), packet("1", "ab")], "1", id="then_by_name"),
        pytest.param([packet("1", "cd")], None, id="not_returned"),
        pytest.param([packet("1", "xy", "xy")], None, id="of_other_images"),
        pytest.param([], None, id="none"),
    ],
)
def test_one_packet_is_chosen(packets: list[Packet], chosen: str | None) -> None:
    found = choose_packet(packets, cleaned(a="confirmed", b="unsure"))
    assert (found and found.name) == chosen


def test_scored_rows_say_what_was_asked() -> None:
    scored = pl.DataFrame({"image_uuid": ["e", "a", "b", "c"], "score": [0.1, 0.2, 0.3, 0.4]})
    known = cleaned(a="confirmed", b="tie", c="corrected", e="single")
    found = with_reviews(scored, known, packet("1", "ab", "abc").design)
    columns = ["reviewed", "returned", "asked", "inclusion_probability", "stratum"]
    assert found.columns[2:] == ["given_label", *columns]
    assert found.select("image_uuid", *columns).rows() == [
        ("e", False, True, False, None, None),
        ("a", True, True, True, 1.0, "certain"),
        ("b", False, True, True, 1.0, "certain"),
        ("c", True, True, False, 0.25, "x"),
    ]
    without = with_reviews(scored, known, None)
    assert without["inclusion_probability"].null_count() == 4
    assert without["reviewed"].to_list() == [False, True, False, True]


def test_packets_are_read_with_their_whole_frame(tmp_path: Path) -> None:
    key = [("a", "a", "certain"), ("b", "b", "drawn"), ("r1", "c", "repeat")]
    put(tmp_path / "bb", "abc", key)
    (only,) = read_packets(tmp_path)
    assert only.name == "bb"
    assert only.design.select("image_uuid", "asked", "inclusion_probability").rows() == [
        ("a", True, 1.0),
        ("b", True, 0.5),
        ("c", False, 0.5),
    ]
    assert {"patient_id", "tier", "flagged", "agrees", "split"} < set(only.design.columns)
    assert read_packets(tmp_path / "nothing") == []
    assert expected([only], "bb") == {"expected": 0.03, "half_width": 0.01}
    assert expected([only], "bb", "recall") is expected([only], "other") is None


def test_a_packet_of_an_older_layout_is_passed_over_and_a_damaged_one_named(
    tmp_path: Path,
) -> None:
    for name in ("aa", "bb"):
        put(tmp_path / name, "ab", [("a", "a", "certain")])
    frame = tmp_path / "aa" / "frame.parquet"
    pl.read_parquet(frame).drop("stratum").write_parquet(frame)
    assert [packet.name for packet in read_packets(tmp_path)] == ["bb"]
    pl.read_parquet(tmp_path / "bb" / "frame.parquet").drop("tier").write_parquet(
        tmp_path / "bb" / "frame.parquet"
    )
    with pytest.raises(InputError, match=r"packet bb, frame\.parquet: missing column 'tier'"):
        read_packets(tmp_path)


def test_repeats_of_all_packets_are_listed(tmp_path: Path) -> None:
    put(tmp_path / "bb", "abc", [("a", "a", "certain"), ("r2", "a", "repeat")])
    put(tmp_path / "aa", "abc", [("r1", "b", "repeat")])
    assert read_repeats(tmp_path).rows() == [("r1", "b", "aa"), ("r2", "a", "bb")]
    nothing = read_repeats(tmp_path / "nothing")
    assert nothing.columns == ["presented_uuid", "image_uuid", "packet"]
    assert nothing.is_empty()


def write(folder: Path, rows: str, more: str = "") -> Path:
    path = folder / "reviewed.csv"
    path.write_text(f"image_uuid,label,inclusion_probability{more}\n" + rows)
    return path


def test_reviewed_labels_take_the_place_of_given_ones(tmp_path: Path) -> None:
    reviewed = read_reviewed(
        write(tmp_path, "a,eczema,1\nb,unsure,0.5\nc,not_usable,.5\nd,acne,\n"), CLASSES
    )
    given = pl.DataFrame({"image_uuid": list("abcde"), "label": ["acne"] * 5})
    found = apply_reviewed(given, reviewed)
    assert found["label"].to_list() == ["eczema", "acne", None, "acne", "acne"]
    assert found["status"].to_list() == ["corrected", "unsure", "not_usable", "confirmed", "given"]
    assert design_of(reviewed, given["image_uuid"]).rows() == [
        ("a", True, 1.0, "certain"),
        ("b", True, 0.5, "0.5"),
        ("c", True, 0.5, "0.5"),
        ("d", False, 0.5, "0.5"),
        ("e", False, 0.5, "0.5"),
    ]


def test_named_strata_list_those_who_were_not_asked(tmp_path: Path) -> None:
    path = write(tmp_path, "a,eczema,1,top\nb,acne,.5,x\nc,,.5,x\nd,acne,,\n", ",stratum")
    reviewed = read_reviewed(path, CLASSES)
    given = pl.DataFrame({"image_uuid": list("abcde"), "label": ["acne"] * 5})
    assert apply_reviewed(given, reviewed)["status"].to_list() == [
        "corrected",
        "confirmed",
        "given",
        "confirmed",
        "given",
    ]
    assert design_of(reviewed, given["image_uuid"]).rows() == [
        ("a", True, 1.0, "top"),
        ("b", True, 0.5, "x"),
        ("c", False, 0.5, "x"),
        ("d", False, None, None),
        ("e", False, None, None),
    ]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        pytest.param("a,acne,.5,x\nb,acne,.4,x\n", "row 3, column inclusion_prob", id="two"),
        pytest.param("a,acne,.5,\n", "row 2, column stratum: .* go together", id="no_stratum"),
        pytest.param("a,acne,,x\n", "row 2, column stratum: .* go together", id="no_probability"),
        pytest.param("a,,,\n", "row 2, column label: empty", id="open_outside"),
    ],
)
def test_strata_that_do_not_add_up_are_refused(tmp_path: Path, rows: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_reviewed(write(tmp_path, rows, ",stratum"), CLASSES)


def test_unequal_probabilities_say_nothing_of_rows_that_are_not_listed(tmp_path: Path) -> None:
    reviewed = read_reviewed(write(tmp_path, "a,acne,.2\nb,acne,.4\n"), CLASSES)
    design = design_of(reviewed, pl.Series(["a", "b", "c"]))
    assert design["inclusion_probability"].to_list() == [0.2, 0.4, None]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        pytest.param("a,acne,0\n", r"row 2, column inclusion_probability", id="zero"),
        pytest.param("a,acne,1\nb,acne,1.5\n", "row 3, column inclusion_prob", id="over_one"),
        pytest.param("a,acne,nan\n", "row 2, column inclusion_probability", id="nan"),
        pytest.param("a,acne,half\n", "row 2, column inclusion_probability", id="text"),
        pytest.param("a,acne,1\na,acne,1\n", "row 3, column image_uuid: a second", id="twice"),
        pytest.param("a,,1\n", "row 2, column label: empty", id="no_label"),
        pytest.param(",acne,1\n", "row 2, column image_uuid: empty", id="no_id"),
        pytest.param("a,akne,1\n", 'row 2, column label: unknown class "akne"', id="class"),
    ],
)
def test_a_bad_reviewed_file_is_refused(tmp_path: Path, rows: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_reviewed(write(tmp_path, rows), CLASSES)


def test_a_review_of_an_unknown_image_is_refused() -> None:
    reviewed = pl.DataFrame(
        {"image_uuid": ["x"], "label": ["acne"], "inclusion_probability": [1.0]}
    )
    given = pl.DataFrame({"image_uuid": ["a"], "label": ["acne"]})
    with pytest.raises(InputError, match="1 unknown images: 'x'"):
        apply_reviewed(given, reviewed)
