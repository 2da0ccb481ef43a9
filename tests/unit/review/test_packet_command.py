"""`tier-refit packet`: a plan that writes nothing, a packet, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from packet_worlds import judged
from PIL import Image

from dagster_project import cli

N = 60


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Probabilities, labels, thresholds, and a dataset without a file of splits."""
    rows = judged(N)
    (tmp_path / "data").mkdir()
    for path in rows["image_path"]:
        Image.new("RGB", (16, 12), (200, 90, 60)).save(tmp_path / "data" / path)
    rows.select(
        "image_uuid", "image_path", "patient_id", label="given_label", itch=pl.lit("yes")
    ).write_csv(tmp_path / "data" / "manifest.csv")
    top, acne = pl.col("predicted_prob"), pl.col("predicted_label") == "acne"
    rows.select(
        "image_uuid",
        pl.when(acne).then(top).otherwise(top / 2).alias("prob_acne"),
        pl.when(acne).then(top / 2).otherwise(top).alias("prob_tinea"),
    ).write_parquet(tmp_path / "probs.parquet")
    given = pl.when(pl.int_range(pl.len()) % 2 == 0).then(pl.lit("acne")).otherwise(pl.lit("tinea"))
    rows = rows.with_columns(given_label=given)
    rows.select("image_uuid", label="given_label").write_csv(tmp_path / "labels.csv")
    thresholds = {"confident": 0.8, "refer": 0.4, "possible_item": 0.25}
    (tmp_path / "thresholds.json").write_text(json.dumps(thresholds))
    return tmp_path


def run(folder: Path, *more: str) -> int:
    return cli.main(
        [
            *("packet", "--probs", str(folder / "probs.parquet")),
            *("--labels", str(folder / "labels.csv")),
            *("--thresholds", str(folder / "thresholds.json")),
            *("--dataset-dir", str(folder / "data"), "--reviewers", "ada,kim", "--n", "30", *more),
        ]
    )


def test_a_plan_prints_strata_and_what_they_can_show_and_writes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(folder.rglob("*"))
    assert run(folder, "--plan") == 0
    out = capsys.readouterr().out
    assert "stratum" in out
    assert "Asks about" in out
    assert " ± " in out
    assert sorted(folder.rglob("*")) == before


def test_a_packet_is_published_and_an_equal_one_is_said_to_be_there(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert run(folder, "--out", str(folder / "packets"), "--certain", "0") == 0
    first, again = [x for x in capsys.readouterr().out.splitlines() if x.startswith(str(folder))]
    assert again == f"{first}: an equal packet was there"
    names = {p.name for p in (Path(first) / "hand_out").iterdir()}
    assert names == {"ada", "kim", "ada.zip", "kim.zip"}
    frame = pl.read_parquet(Path(first) / "frame.parquet")
    assert frame["patient_id"].to_list() == judged(N)["patient_id"].to_list()


def test_pairs_of_image_issues_are_kept_apart(folder: Path) -> None:
    out, n = folder / "packets", judged(N).height
    ids = judged(N)["image_uuid"]
    clique = pl.DataFrame(
        {"image_uuid": [ids[0]] * 14, "other_uuid": ids[1:15], "score": [0.1] * 14}
    )
    clique.write_csv(folder / "near.csv")
    clique.clear().write_csv(folder / "exact.csv")
    sure = ("--n", str(n), "--repeats", "0", "--out", str(out))
    for more in ((), ("--similar", str(folder / "near.csv"), str(folder / "exact.csv"))):
        assert run(folder, *sure, *more) == 0
    beside = []
    for packet in out.iterdir():
        for sheet in packet.glob("hand_out/*/derm_review_BLIND.csv"):
            alike = pl.read_csv(sheet)["image_uuid"].is_in(ids[:15].implode())
            beside.append(int((alike & alike.shift()).sum()))
    assert sorted(beside)[:2] == [0, 0]
    assert sorted(beside)[2] > 0


def test_what_came_back_is_not_shown_to_its_reader_again(folder: Path) -> None:
    first, second = folder / "first", folder / "second"
    assert run(folder, "--repeats", "0", "--out", str(first)) == 0
    (sheet,) = sorted(first.glob("*/hand_out/*/derm_review_BLIND.csv"))[:1]
    half = pl.int_range(pl.len()) < 4
    asked = pl.read_csv(sheet, infer_schema=False)
    asked.with_columns(
        reviewer=pl.lit(sheet.parent.name), label=pl.when(half).then(pl.lit("unsure"))
    ).write_csv(folder / "back.csv")
    more = ("--returned", str(folder / "back.csv"))
    assert run(folder, "--repeats", "0", "--out", str(second), *more) == 0
    (again,) = second.glob(f"*/hand_out/{sheet.parent.name}/derm_review_BLIND.csv")
    left = pl.read_csv(again, infer_schema=False)["image_uuid"]
    assert set(left) == set(asked["image_uuid"][4:])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        pytest.param([], "--out is missing", id="out"),
        pytest.param(["--out", "{}/p", "--certain", "31"], "n_certain 31", id="certain"),
        pytest.param(["--out", "{}/p", "--columns", "patient_id"], "identifies", id="column"),
        pytest.param(["--out", "{}/probs.parquet/p"], "is a file", id="file_in_the_way"),
        pytest.param(["--out", "{}/p", "--similar", "{}/labels.csv"], "other_uuid", id="pairs"),
        pytest.param(["--out", "{}/p", "--returned", "{}/labels.csv"], "reviewer", id="returned"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    folder: Path, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(folder.rglob("*"))
    assert run(folder, *(text.format(folder) for text in more)) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1
    assert sorted(folder.rglob("*")) == before


def test_rows_without_ids_and_folds_are_read_as_by_the_other_commands(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = folder / "probs.parquet"
    assert run(folder, "--plan") == 0
    plan = capsys.readouterr().out
    table = pl.read_parquet(own)
    ids = table.select(
        file=pl.lit("probs.parquet"), row=pl.int_range(pl.len()), image_uuid="image_uuid"
    )
    ids.write_csv(folder / "ids.csv")
    table.drop("image_uuid").write_parquet(own)
    assert run(folder, "--plan", "--row-ids", str(folder / "ids.csv")) == 0
    assert capsys.readouterr().out == plan
    folds = judged(N).select("image_uuid", "patient_id")
    folds = folds.with_columns(fold=pl.col("patient_id").rank("dense").cast(pl.Int64) % 2)
    folds.write_csv(folder / "folds.csv")
    scored = table.join(folds.select("image_uuid", "fold"), on="image_uuid", maintain_order="left")
    scored.write_parquet(own)
    assert run(folder, "--plan", "--folds", str(folder / "folds.csv")) == 0
    scored.with_columns(fold=1 - pl.col("fold")).write_parquet(own)
    assert run(folder, "--plan", "--folds", str(folder / "folds.csv")) == 2
    assert "column fold" in capsys.readouterr().err
