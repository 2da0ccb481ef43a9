"""`tier-refit reviews`: the drop as the pipeline reads it, and every file of the answer."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from frozen_packet import JUDGED, packet, write_packet

from dagster_project import cli

FILES = {
    *("cleaned_labels.csv", "refusals.csv", "reviewers.csv"),
    *("agreement.json", "agreement.png", "summary.json"),
}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "drop").mkdir()
    (tmp_path / "labels.txt").write_text("acne\neczema\ntinea\n")
    (tmp_path / "given.csv").write_text("image_uuid,label\na,acne\nb,acne\nc,tinea\n")
    (tmp_path / "drop" / "ada.csv").write_text(
        "image_uuid,reviewer,label\na,Ada,eczema\nb,Ada,acne\n"
    )
    (tmp_path / "drop" / "kim.csv").write_text("image_uuid;reviewer;label\na;Kim;Eczema \n")
    return tmp_path


def run(*more: str) -> int:
    files = ("--classes", "labels.txt", "--labels", "given.csv", "--out", "out")
    return cli.main(["reviews", "drop", *files, *more])


def cleaned(folder: Path) -> list[tuple[str, ...]]:
    table = pl.read_csv(folder / "out" / "cleaned_labels.csv", infer_schema=False)
    return table.select("image_uuid", "label", "status", "source").rows()


def test_every_file_of_the_answer_is_written(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run() == 0
    assert {path.name for path in (world / "out").iterdir()} == FILES
    assert cleaned(world) == [
        ("a", "eczema", "corrected", "consensus"),
        ("b", "acne", "single", "given"),
        ("c", "tinea", "given", "given"),
    ]
    said = capsys.readouterr()
    assert "of 2 reviewed images 0 confirmed, 1 corrected" in said.out
    assert said.err == ""
    assert sorted(p.name for p in (world / "drop").iterdir()) == ["ada.csv", "kim.csv"]
    first = {p.name: p.read_bytes() for p in (world / "out").iterdir()}
    run()
    assert {p.name: p.read_bytes() for p in (world / "out").iterdir()} == first


def test_a_refused_file_is_exit_3_with_the_rest_written(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (world / "drop" / "kim.csv").write_text("image_uuid,reviewer,label\na,Kim,ezcema\n")
    assert run() == 3
    assert cleaned(world)[0] == ("a", "acne", "single", "given")
    told = pl.read_csv(world / "out" / "refusals.csv", infer_schema=False)
    assert told.select("file", "row", "value", "nearest").rows() == [
        ("kim.csv", "2", "ezcema", "eczema")
    ]
    assert "1 of 2 files are refused" in capsys.readouterr().err


def test_repeats_of_a_packet_are_known_where_the_packets_are_given(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (world / "drop" / "ada.csv").write_text("image_uuid,reviewer,label\na,Ada,eczema\nq,Ada,acne\n")
    folder = world / "packets" / "0123456789abcdef"
    frame = packet().design.drop("asked").head(1).with_columns(image_uuid=pl.lit("a"))
    write_packet(folder, frame, [("a", "a", "drawn"), ("q", "a", "repeat")])
    assert run() == 3
    assert "pass --packets" in capsys.readouterr().err
    assert run("--packets", str(folder)) == 2
    assert "no packet there" in capsys.readouterr().err
    assert run("--packets", "packets") == 0
    assert cleaned(world)[0] == ("a", "eczema", "corrected", "consensus")


def returned(world: Path, split: str | None = "test") -> None:
    """The hand-counted packet with its answers by two readers; one saw i00 again and hesitates."""
    frame, asked = packet(split).design.drop("asked"), list(JUDGED)
    key = [*((uuid, uuid, "drawn") for uuid in asked), ("q17", "i00", "repeat")]
    write_packet(world / "packets" / "f00d", frame, key)
    frame.select("image_uuid", label="given_label").write_csv(world / "given.csv")
    for reader, again in (("ada", "acne"), ("kim", "tinea")):
        said = [*JUDGED.items(), ("q17", again)]
        table = pl.DataFrame(said, schema=["image_uuid", "label"], orient="row")
        table = table.with_columns(reviewer=pl.lit(reader))
        table.write_csv(world / "drop" / f"{reader}.csv")


def test_with_packets_it_says_what_the_reviews_taught(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    returned(world)
    assert run("--packets", "packets") == 0
    said = capsys.readouterr()
    assert said.err == ""
    for part in (
        "Test: 10 of 10 images asked about are back; 10 are decided, 0 are not",
        "Test: 32.5 % (95 %: ",  # counted by hand in the tests of review_findings
        "Test: of the flagged labels 66.7 % (95 %: ",
        "of all wrong labels 61.5 % (95 %: ",
        "Train: no packet asks about the train split.",
        "reviewers gave the same answer 1 of 2 times",
    ):
        assert part in said.out
    names = {f"review_findings.{end}" for end in ("json", "csv", "png")}
    assert {path.name for path in (world / "out").iterdir()} == FILES | names
    text = (world / "out" / "review_findings.json").read_text()
    found = json.loads(text)
    assert found["splits"]["test"]["noise"]["estimate"] == pytest.approx(6.5 / 20)
    assert found["thresholds"] is None
    assert found["sentences"] == said.out.splitlines()[1:]
    table = pl.read_csv(world / "out" / "review_findings.csv")
    assert table.filter(statistic="recall")["estimate"].to_list() == [pytest.approx(4 / 6.5)]
    assert not [uuid for uuid in ("i00", "i01", "q17", "pi0") if uuid in text]


def test_a_refused_file_leaves_what_the_others_taught(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    returned(world)
    (world / "drop" / "lee.csv").write_text("image_uuid,reviewer,label\ni02,Lee,akne\n")
    assert run("--packets", "packets") == 3
    assert "Test: 32.5 % (95 %: " in capsys.readouterr().out
    assert (world / "out" / "review_findings.json").is_file()


def test_images_of_a_packet_without_splits_are_called_test_images(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    returned(world, split=None)
    assert run("--packets", "packets") == 0
    said = capsys.readouterr()
    assert "Test: 32.5 % (95 %: " in said.out
    told = "packets: images of a data set without splits are called test images here\n"
    assert said.err == told


def test_a_packet_that_cannot_be_read_is_exit_2_and_nothing_written(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    returned(world)
    path = world / "packets" / "f00d" / "frame.parquet"
    pl.read_parquet(path).drop("flagged").write_parquet(path)
    assert run("--packets", "packets") == 2
    assert "packet f00d, frame.parquet: missing column 'flagged'" in capsys.readouterr().err
    assert not (world / "out").exists()


def test_rules_are_those_of_the_environment(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIER_REFIT_CONSENSUS_SINGLE", "exclude")
    monkeypatch.setenv("TIER_REFIT_REFERENCES", "Kim")
    assert run() == 0
    assert cleaned(world)[:2] == [
        ("a", "eczema", "corrected", "reference"),
        ("b", None, "single", None),
    ]


def test_verified_labels_are_found_in_the_metadata(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TIER_REFIT_VERIFIED_LABELS", "biopsed=true")
    assert run() == 2
    assert "pass --metadata" in capsys.readouterr().err
    assert not (world / "out").exists()
    (world / "m.csv").write_text("image_uuid,patient_id,biopsed\na,p,True\nb,p,False\nc,q,\n")
    assert run("--metadata", "m.csv") == 0
    assert cleaned(world)[0] == ("a", "acne", "confirmed", "reference")
    report = json.loads((world / "out" / "agreement.json").read_text())
    assert report["interval_by"] == "patient"
    assert json.loads((world / "out" / "summary.json").read_text())["n_overruled_by_reference"] == 1


def test_probabilities_rank_what_to_review_next(world: Path) -> None:
    probs = {"image_uuid": ["a", "b", "c"], "prob_acne": [0.5, 0.9, 0.4]}
    probs |= {"prob_eczema": [0.4, 0.05, 0.3], "prob_tinea": [0.1, 0.05, 0.3]}
    pl.DataFrame(probs).write_parquet(world / "p.parquet")
    assert run("--probs", "p.parquet") == 0
    table = pl.read_csv(world / "out" / "next_reviews.csv", infer_schema=False)
    assert table["image_uuid"].to_list()[:1] == ["b"]
    assert table["why"].to_list()[:1] == ["single"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        pytest.param("no_drop", "no review file", id="no_drop"),
        pytest.param("labels", "unknown class", id="given_label"),
    ],
)
def test_bad_input_is_exit_2_and_nothing_written(
    world: Path, capsys: pytest.CaptureFixture[str], spoil: str, message: str
) -> None:
    if spoil == "no_drop":
        for path in (world / "drop").iterdir():
            path.unlink()
    else:
        (world / "given.csv").write_text("image_uuid,label\na,akne\n")
    assert run() == 2
    assert message in capsys.readouterr().err
    assert not (world / "out").exists()
