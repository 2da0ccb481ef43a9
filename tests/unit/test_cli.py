"""The command line: every file of the contract, every exit code, one line for every fault."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from harness import write_dataset

from dagster_project import cli
from dagster_project.lib import model_store, sums, tables
from dagster_project.lib.mislabels.candidates import IN_SAMPLE_WORD
from dagster_project.lib.mislabels.weak_classes import weak_classes_picture
from dagster_project.lib.tiers.thresholds import ENV_NAMES

CLASSES = ("acne", "eczema", "psoriasis", "tinea")
COMMANDS = (
    *("sync", "dump", "mislabels", "image-issues", "folds", "packet", "reviews", "refit"),
    *("scorecard", "rollup", "import-taxonomy", "gate", "check-model", "demo"),
)
N = 240

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _bare(bare: None) -> None:
    """Before any other fixture, so that their relative paths are in the empty folder."""


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process: exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = cli.main([str(a) for a in arguments])
        except SystemExit as left:  # argparse
            code = int(left.code or 0)
        return code, *capsys.readouterr()

    return call


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def probabilities() -> tuple[pa.Table, pl.DataFrame]:
    """A model that is right three times in four and mostly knows when it is not; its labels."""
    rng = np.random.default_rng(5)
    truth = rng.integers(len(CLASSES), size=N)
    probs = rng.uniform(0.01, 0.2, (N, len(CLASSES)))
    sure = rng.uniform(0.3, 0.99, N)
    seen = np.where(rng.random(N) < sure, truth, (truth + 1) % len(CLASSES))
    probs[np.arange(N), seen] = sure
    ids = [f"i{i:03d}" for i in range(N)]
    table = pa.table(
        {
            "image_uuid": ids,
            "patient_id": [f"p{i // 2:03d}" for i in range(N)],
            "probs": pa.array(probs.astype(np.float32).tolist(), pa.list_(pa.float32())),
        }
    )
    metadata = {"classes": json.dumps(CLASSES), "tta": "true", "model_tree_hash": "m" * 64}
    labels = pl.DataFrame({"image_uuid": ids, "label": [CLASSES[i] for i in truth]})
    return tables.with_metadata(table, metadata), labels


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """probs.parquet, its halves p0 and p1, labels.csv, labelled.parquet, thresholds.json."""
    folder = tmp_path_factory.mktemp("given")
    table, labels = probabilities()
    pq.write_table(table, folder / "probs.parquet")
    pq.write_table(table.slice(0, 100), folder / "p0.parquet")
    pq.write_table(table.slice(100), folder / "p1.parquet")
    labels.write_csv(folder / "labels.csv")
    labelled = table.append_column("label", pa.array(labels["label"].to_list()))
    pq.write_table(labelled, folder / "labelled.parquet")
    return folder


@pytest.fixture(scope="module")
def refitted(given: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One refit with all defaults."""
    out = tmp_path_factory.mktemp("refitted") / "out"
    files = ["--probs", str(given / "probs.parquet"), "--labels", str(given / "labels.csv")]
    assert cli.main(["refit", *files, "--out", str(out)]) == 0
    return out


# help and usage


def test_every_command_of_the_issue_is_there(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert all(name in out for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_ends_with_an_example_that_parses(run: Run, command: str) -> None:
    code, out, err = run(command, "--help")
    assert (code, err) == (0, "")
    example = out.partition("example:\n")[2].strip()
    assert example.startswith(f"tier-refit {command} ")
    options = cli.build_parser().parse_args(example.split()[1:])
    assert options.command.__name__ == command.replace("-", "_")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param([], "arguments are required: COMMAND", id="no_command"),
        pytest.param(["refti"], "invalid choice: 'refti'", id="unknown_command"),
        pytest.param(["refit", "--out", "o"], "required: --probs", id="missing_option"),
        pytest.param(["refit", "--prob", "p", "--out", "o", "--x"], "--x", id="unknown_option"),
        pytest.param(
            ["dump", "--shard", "16/16"],
            "'16/16': shards are zero-based, 0/16 to 15/16",
            id="shard_too_high",
        ),
        pytest.param(["dump", "--shard", "3"], "'3' is not like 3/16", id="no_shard"),
        pytest.param(["dump", "--batch-size", "0"], "not a whole number above 0", id="batch"),
        pytest.param(["dump", "--dtype", "float8"], "dtype: got 'float8'", id="dtype"),
    ],
)
def test_a_usage_error_is_one_line_and_exit_2(run: Run, arguments: list[str], message: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("command", ["refit", "mislabels"])
def test_several_files_can_follow_one_option_or_repeat_it(command: str) -> None:
    parse = cli.build_parser().parse_args
    together = parse([command, "--probs", "a", "b", "--out", "o"])
    repeated = parse([command, "--probs", "a", "--probs", "b", "--out", "o"])
    assert together.probs == repeated.probs == [Path("a"), Path("b")]


# bad input


def broken(folder: Path, given: Path) -> dict[str, tuple[list[str], str]]:
    """Options that are wrong in one way each, and what the one line must say."""
    table, _ = probabilities()
    good = {"--probs": str(given / "probs.parquet"), "--labels": str(given / "labels.csv")}
    rows = table.column("probs").to_pylist()

    def saved(name: str, made: pa.Table) -> str:
        pq.write_table(made, folder / name)
        return str(folder / name)

    def probs(name: str, value: float) -> str:
        changed = [*rows[:2], [value, *rows[2][1:]], *rows[3:]]
        return saved(name, table.set_column(2, "probs", pa.array(changed, pa.list_(pa.float32()))))

    def written(name: str, text: str) -> str:
        (folder / name).write_text(text)
        return str(folder / name)

    first = "image_uuid,label\ni000,acne\n"
    changes: dict[str, tuple[dict[str, str], str]] = {
        "missing_table": ({"--probs": "gone.parquet"}, "gone.parquet: no such file"),
        "missing_labels": ({"--labels": "gone.csv"}, "gone.csv: no such file"),
        "missing_classes": ({"--classes": "gone.txt"}, "gone.txt: no such file"),
        "unknown_class": (
            {"--labels": written("c.csv", first + "i001,acme\n")},
            'c.csv row 3, column label: unknown class "acme" (4 known; nearest "acne")',
        ),
        "label_twice": (
            {"--labels": written("t.csv", first + "i000,acne\n")},
            "t.csv row 3, column image_uuid: 'i000' on more than one row",
        ),
        "image_twice": (
            {"--probs": saved("d.parquet", pa.concat_tables([table, table.slice(0, 1)]))},
            "column image_uuid: 'i000' on more than one row",
        ),
        "above_one": ({"--probs": probs("a.parquet", 1.5)}, "a.parquet row 3, column probs: 1.5"),
        "nan": ({"--probs": probs("n.parquet", float("nan"))}, "row 3, column probs: nan"),
        "unknown_image": (
            {"--labels": written("u.csv", first + "zzz,acne\n")},
            "u.csv, column image_uuid: 1 labels for unknown images: 'zzz'",
        ),
        "empty_table": (
            {"--probs": saved("e.parquet", table.slice(0, 0))}, "the table has no rows"
        ),
        "empty_labels": (
            {"--labels": written("e.csv", "image_uuid,label\n")}, "e.csv: the table has no rows"
        ),
        "no_labels_anywhere": ({"--labels": ""}, "pass labels (--labels)"),
    }  # fmt: skip
    return {
        name: ([part for pair in (good | change).items() if pair[1] for part in pair], message)
        for name, (change, message) in changes.items()
    }


BROKEN = (
    *("missing_table", "missing_labels", "missing_classes", "unknown_class", "label_twice"),
    *("image_twice", "above_one", "nan", "unknown_image", "empty_table", "empty_labels"),
    "no_labels_anywhere",
)


@pytest.mark.parametrize("fault", BROKEN)
@pytest.mark.parametrize("command", ["refit", "mislabels"])
def test_bad_input_is_one_line_exit_2_and_nothing_written(
    run: Run, given: Path, tmp_path: Path, command: str, fault: str
) -> None:
    options, message = broken(tmp_path, given)[fault]
    before = contents(tmp_path)
    code, out, err = run(command, *options, "--out", tmp_path / "out")
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("tier-refit: ")
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()
    assert contents(tmp_path) == before


def test_the_list_of_faults_is_the_whole_list(given: Path, tmp_path: Path) -> None:
    assert set(broken(tmp_path, given)) == set(BROKEN)


def test_bad_input_leaves_an_earlier_output_as_it_was(
    run: Run, given: Path, refitted: Path, tmp_path: Path
) -> None:
    options, _ = broken(tmp_path, given)["nan"]
    before = contents(refitted)
    assert run("refit", *options, "--out", refitted)[0] == 2
    assert contents(refitted) == before


@pytest.mark.parametrize(
    ("option", "text", "message"),
    [
        pytest.param("--policy", '{"confident": {"rule": "share"}}', "x.json: ", id="policy"),
        pytest.param("--policy", "{", "x.json: not JSON", id="policy_cut_off"),
        pytest.param("--deployed", '{"confident": 0.8}', "refer, possible_item is", id="deployed"),
        pytest.param("--baseline-probs", "no parquet", "x.json: not a readable", id="baseline"),
    ],
)
def test_a_wrong_side_file_of_refit_is_refused(
    run: Run, given: Path, tmp_path: Path, option: str, text: str, message: str
) -> None:
    (tmp_path / "x.json").write_text(text)
    probs = given / "labelled.parquet"
    code, _, err = run("refit", "--probs", probs, option, "x.json", "--out", "out")
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1
    assert not Path("out").exists()


def test_a_wrong_setting_is_one_line_too(
    run: Run, given: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIER_CONFIDENT_THRESHOLD", "high")
    code, _, err = run("refit", "--probs", given / "labelled.parquet", "--out", "out")
    assert code == 2
    assert err.startswith("tier-refit: setting TIER_CONFIDENT_THRESHOLD")
    assert not Path("out").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["refit", "--probs", "{labelled}", "--out", "file/out"], id="refit"),
        pytest.param(["refit", "--probs", "{labelled}", "--out", "file"], id="refit_onto"),
        pytest.param(["mislabels", "--probs", "{labelled}", "--out", "file"], id="mislabels"),
        pytest.param(["sync", ".", "file"], id="sync"),
        pytest.param(
            [*("dump", "--model-dir", ".", "--dataset-dir", "."),
             *("--split", "test", "--out", "file/x.parquet")],
            id="dump",
        ),
    ],
)  # fmt: skip
def test_a_file_in_the_way_of_the_output_is_said_before_any_work(
    run: Run, given: Path, arguments: list[str]
) -> None:
    Path("file").write_text("mine")
    found = [a.replace("{labelled}", str(given / "labelled.parquet")) for a in arguments]
    code, _, err = run(*found)
    assert code == 2
    assert "is a file, a folder is needed" in err
    assert len(err.splitlines()) == 1
    assert Path("file").read_text() == "mine"


# refit


def test_refit_writes_every_file_of_the_contract(refitted: Path) -> None:
    assert {p.name for p in refitted.iterdir()} >= {
        *("coverage_curve.csv", "coverage_curve.png", "refer_candidates.csv"),
        *("possible_item_sweep.csv", "tier_reports.json", "thresholds.json", "thresholds.env"),
        *("thresholds.auto.tfvars.json", "metadata.json", "report.md", "SHA256SUMS", "run.json"),
    }
    assert sums.verify(refitted) == []


def test_the_tables_of_refit_have_the_columns_of_the_contract(refitted: Path) -> None:
    columns = {p.name: pl.read_csv(p).columns for p in refitted.glob("*.csv")}
    assert columns.pop("per_class.csv")[:4] == ["class", "n", "n_patients", "recall"]
    assert columns == {
        "coverage_curve.csv": ["threshold", "n", "coverage", "top1", "top3", "confident_wrong"],
        "refer_candidates.csv": [
            *("threshold", "refer_share", "n_refer", "kept_top1", "kept_top3")
        ],
        "possible_item_sweep.csv": [
            *("cut", "matches_1", "matches_2", "matches_3", "mean", "truth_in_highlighted")
        ],
    }


def test_the_report_has_the_keys_of_the_contract(refitted: Path) -> None:
    report = json.loads((refitted / "tier_reports.json").read_text())
    assert set(report) >= {
        *("n", "thresholds", "full_coverage", "tiers", "outcomes", "selection", "labels"),
        "baseline",
    }
    assert set(report["thresholds"]) == {"confident", "refer", "possible_item"}
    assert set(report["full_coverage"]) == {"top1", "top3"}
    assert set(report["tiers"]) == {"confident", "possible", "refer"}
    assert all(set(t) == {"n", "share", "top1", "top3"} for t in report["tiers"].values())
    assert set(report["outcomes"]) == {
        *("confident_correct", "confident_wrong", "possible_top3", "possible_miss", "refer")
    }
    assert set(report["selection"]) == {"confident", "refer"}
    for chosen in report["selection"].values():
        assert set(chosen) >= {"rule", "target", "fitted", "ci95", "certificate"}
    assert set(report["labels"]) == {"version", "provisional", "n_reviewed"}
    assert report["labels"]["provisional"] is True
    assert report["baseline"] is None
    assert report["n"] == N


def test_the_thresholds_are_the_same_in_all_three_files(refitted: Path) -> None:
    thresholds = json.loads((refitted / "thresholds.json").read_text())
    assert set(thresholds) == {
        *("confident", "refer", "possible_item", "possible_floor", "possible_cap", "tta"),
        *("policy_sha256", "label_version", "model_tree_hash"),
    }
    assert thresholds["tta"] is True
    assert thresholds["model_tree_hash"] == "m" * 64
    values = [thresholds[key] for key in ("confident", "refer", "possible_item")]
    names = ["TIER_CONFIDENT_THRESHOLD", "TIER_REFER_THRESHOLD", "POSSIBLE_ITEM_THRESHOLD"]
    lines = (refitted / "thresholds.env").read_text().splitlines()
    env = dict(line.split("=") for line in lines if not line.startswith("#"))
    assert env == {n: repr(v) for n, v in zip(names, values, strict=True)} | {"TTA": "true"}
    tfvars = json.loads((refitted / "thresholds.auto.tfvars.json").read_text())
    assert tfvars == {n.lower(): v for n, v in zip(names, values, strict=True)}


def test_refit_ends_with_the_thresholds_and_the_folder(
    run: Run, given: Path, refitted: Path, tmp_path: Path
) -> None:
    shards = [given / "p1.parquet", given / "p0.parquet"]
    code, out, err = run("refit", "--probs", *shards, "--labels", given / "labels.csv", "-o", "out")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == str(tmp_path / "out")
    assert out.startswith("confident 0.")
    # the order of shards changes no byte
    whole, halves = contents(refitted), contents(tmp_path / "out")
    del whole["run.json"], halves["run.json"]
    assert whole == halves


def test_repeating_an_option_is_the_same_run(run: Run, given: Path, refitted: Path) -> None:
    p0, p1, labels = (given / name for name in ("p0.parquet", "p1.parquet", "labels.csv"))
    assert run("refit", "--probs", p0, "--probs", p1, "--labels", labels, "--out", "out")[0] == 0
    assert Path("out/SHA256SUMS").read_bytes() == (refitted / "SHA256SUMS").read_bytes()


def test_labels_that_travel_with_the_table_are_as_good_as_a_file(
    run: Run, given: Path, refitted: Path
) -> None:
    assert run("refit", "--probs", given / "labelled.parquet", "--out", "out")[0] == 0
    assert Path("out/SHA256SUMS").read_bytes() == (refitted / "SHA256SUMS").read_bytes()


def report_of(folder: str) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((Path(folder) / "tier_reports.json").read_text())
    return report


def test_reviewed_labels_are_not_provisional(run: Run, given: Path) -> None:
    probs = given / "labelled.parquet"
    assert run("refit", "--probs", probs, "--reviewed", "--out", "out")[0] == 0
    assert report_of("out")["labels"]["provisional"] is False


def test_a_baseline_is_compared(run: Run, given: Path) -> None:
    probs = given / "labelled.parquet"
    code, _, _ = run("refit", "--probs", probs, "--baseline-probs", probs, "--out", "out")
    assert code == 0
    assert report_of("out")["baseline"]["difference"]["top1"] == 0


def test_what_is_deployed_comes_from_a_file_or_the_environment(
    run: Run, given: Path, refitted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probs, thresholds = given / "labelled.parquet", refitted / "thresholds.json"
    assert run("refit", "--probs", probs, "--deployed", thresholds, "--out", "file")[0] == 0
    values = json.loads(thresholds.read_text())
    for key, name in ENV_NAMES.items():
        monkeypatch.setenv(name, str(values[key]))
    assert run("refit", "--probs", probs, "--out", "environment")[0] == 0
    by_file, by_environment = report_of("file"), report_of("environment")
    assert by_file["deployed"]["thresholds"] == by_file["thresholds"]
    assert by_file == by_environment


def test_a_blocked_release_is_exit_3_with_evidence_and_nothing_to_deploy(
    run: Run, given: Path
) -> None:
    Path("old.json").write_text('{"confident": 0.2, "refer": 0.1, "possible_item": 0.25}')
    probs = given / "labelled.parquet"
    code, _, err = run("refit", "--probs", probs, "--deployed", "old.json", "--out", "out")
    assert code == 3
    assert "moved too far from the deployed one" in err
    assert len(err.splitlines()) == 1
    names = {p.name for p in Path("out").iterdir()}
    assert names.isdisjoint({"thresholds.json", "thresholds.env", "thresholds.auto.tfvars.json"})
    assert {"tier_reports.json", "coverage_curve.csv"} <= names


def test_a_target_that_cannot_be_met_is_exit_3_and_nothing_written(run: Run, given: Path) -> None:
    policy = {
        "confident": {"rule": "covered_top1", "target": 1.0},
        "refer": {"rule": "kept_top3", "target": 1.0},
    }
    rows = {"image_uuid": [f"i{i:03d}" for i in range(N)], "label": ["acne"] * N}
    table = pq.read_table(given / "probs.parquet").to_pydict()
    for row in table["probs"]:
        row[0] = 0.0  # never acne: no threshold makes that right
    rows |= {"probs": table["probs"]}
    made = tables.with_metadata(pa.table(rows), {"classes": json.dumps(CLASSES)})
    pq.write_table(made, "hopeless.parquet")
    Path("policy.json").write_text(json.dumps(policy))
    options = ["--probs", "hopeless.parquet", "--policy", "policy.json"]
    code, _, err = run("refit", *options, "--out", "out")
    assert code == 3
    assert len(err.splitlines()) == 1
    assert not Path("out").exists()


# image issues


@pytest.fixture
def copies() -> None:
    """A data set of one picture twice, of two patients and with two labels; no splits."""
    from PIL import Image

    Path("data").mkdir()
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8))
    for name in ("a", "b"):
        picture.save(f"data/{name}.png")
    rows = [("i000", "a.png", "p0", "acne"), ("i001", "b.png", "p1", "tinea")]
    names = ["image_uuid", "image_path", "patient_id", "label"]
    pl.DataFrame(rows, schema=names, orient="row").write_csv("data/manifest.csv")


@pytest.mark.usefixtures("copies")
def test_image_issues_writes_each_kind_and_decodes_nothing_twice(
    run: Run, given: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dagster_project.lib.image_issues import fingerprints

    Path("data/splits.csv").write_text("patient_id,split\np0,train\np1,test\n")
    arguments = ["image-issues", "--dataset-dir", "data", "--out", "out"]
    code, out, _ = run(*arguments, "--probs", given / "probs.parquet")
    assert code == 0
    assert "exact_duplicates: 1\n" in out
    assert "outliers: not looked for\n" in out
    assert "images_leaking: 2\n" in out
    assert "conflicting_duplicates: 1\nclusters: 0\n" in out
    first = contents(Path("out"))

    def decoded(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(fingerprints, "open_photo", decoded)
    assert run(*arguments, "--probs", given / "probs.parquet")[0] == 0
    assert contents(Path("out")) == first
    code, _, err = run(*arguments, "--embeddings", "gone.parquet", "--out", "other")
    assert (code, err) == (2, "tier-refit: gone.parquet: no such file\n")
    assert not Path("other").exists()


@pytest.mark.usefixtures("copies")
def test_image_issues_without_splits_say_all_but_leaks(run: Run) -> None:
    arguments = ["image-issues", "--dataset-dir", "data", "--out", "out"]
    Path("data/splits.csv").write_text("patient_id,split\np0,train\np1,test\n")
    assert run(*arguments)[0] == 0
    assert Path("out/leakage.csv").is_file()
    Path("data/splits.csv").unlink()
    code, out, err = run(*arguments)
    assert code == 0
    told = "data: no splits.csv or splits.parquet, so leaks across splits are not known"
    assert err.splitlines()[0] == told
    assert "exact_duplicates: 1\n" in out
    assert "images_leaking: not looked for\n" in out
    assert "conflicting_duplicates: 1\n" in out
    counts = json.loads(Path("out/image_issues.json").read_text())
    assert (counts["images_leaking"], counts["pairs_across_patients"]) == (None, 1)
    assert not [path.name for path in Path("out").glob("leakage.*")]
    pairs = tables.read_table(Path("out/exact_duplicates.csv"), ["across_splits"])
    assert pairs["across_splits"].to_list() == [None]


# mislabels


def test_mislabels_writes_its_files(run: Run, given: Path) -> None:
    probs = [given / "p0.parquet", given / "p1.parquet"]
    labels = given / "labels.csv"
    code, out, err = run("mislabels", "--probs", *probs, "--labels", labels, "--out", "out")
    assert (code, err) == (0, "")
    assert {p.name for p in Path("out").iterdir()} == {
        *("label_issues.csv", "issues_per_class.csv", "issue_confusions.csv"),
        *("mislabel_candidates.png", "summary.json", "weak_classes.csv", "weak_classes.png"),
    }
    weak = pl.read_csv("out/weak_classes.csv")
    assert weak["class"].to_list() == list(CLASSES)
    assert weak["n_test"].sum() == N
    # issue rate beside F1: the very table, drawn
    drawn = weak_classes_picture(weak, words=IN_SAMPLE_WORD[None])
    assert Path("out/weak_classes.png").read_bytes() == drawn
    issues = pl.read_csv("out/label_issues.csv")
    assert issues.columns == [
        *("image_uuid", "patient_id", "given_label", "predicted_label", "quality"),
        *("given_prob", "predicted_prob", "image_path"),
    ]
    assert issues["quality"].is_sorted()
    per_class = pl.read_csv("out/issues_per_class.csv")
    rate = ["issue_rate", "issue_rate_low", "issue_rate_high"]
    assert per_class.columns == ["class", "n", "n_issues", *rate, "n_patients"]
    assert per_class["class"].to_list() == list(CLASSES)
    confusions = pl.read_csv("out/issue_confusions.csv")
    assert confusions.columns == ["given", "predicted", "n", "share"]
    summary = json.loads(Path("out/summary.json").read_text())
    assert set(summary) >= {"n", "n_issues", "issue_rate", "in_sample", "method"}
    assert (summary["n"], summary["n_issues"]) == (N, issues.height)
    assert summary["in_sample"] is None
    found, means = out.strip().splitlines()
    assert found == f"out: {issues.height} of {N} labels are suspicious"
    assert means == summary["in_sample_means"]
    assert "not known" in means


@pytest.mark.parametrize(
    ("option", "known"), [("--in-sample", True), ("--no-in-sample", False)], ids=["yes", "no"]
)
def test_whether_the_model_saw_these_rows_is_recorded(
    run: Run, given: Path, option: str, known: bool
) -> None:
    assert run("mislabels", "--probs", given / "labelled.parquet", option, "--out", "out")[0] == 0
    assert json.loads(Path("out/summary.json").read_text())["in_sample"] is known


def test_an_unknown_method_is_refused_with_those_there_are(run: Run, given: Path) -> None:
    probs = given / "labelled.parquet"
    code, _, err = run("mislabels", "--probs", probs, "--method", "magic", "--out", "out")
    assert code == 2
    assert "prune_by_noise_rate" in err
    assert not Path("out").exists()


def test_folds_that_stood_the_check_make_the_labels_out_of_sample(run: Run, given: Path) -> None:
    table = pl.read_parquet(given / "labelled.parquet")
    patients = pl.Series([f"p{i // 2}" for i in range(table.height)])
    fold = pl.Series([i // 2 % 3 for i in range(table.height)])
    table = table.with_columns(patient_id=patients, fold=fold)
    made = tables.with_metadata(table.to_arrow(), {"classes": json.dumps(CLASSES)})
    pq.write_table(made, "folded.parquet")
    table.select("image_uuid", "patient_id", "fold").write_csv("folds.csv")
    code, out, _ = run(
        "mislabels", "--probs", "folded.parquet", "--folds", "folds.csv", "--out", "o"
    )
    assert code == 0
    summary = json.loads(Path("o/summary.json").read_text())
    assert summary["in_sample"] is False
    assert "equal to folds.csv by image and patient" in out
    swapped = table.select("image_uuid", "patient_id", fold=2 - pl.col("fold"))
    swapped.write_csv("folds.csv")
    for command in ("mislabels", "refit"):
        options = ["--probs", "folded.parquet", "--folds", "folds.csv", "--out", "other"]
        code, _, err = run(command, *options)
        assert code == 2
        assert "column fold: 0, assigned to 2 in folds.csv" in err
        assert not Path("other").exists()


def test_rows_without_ids_are_read_with_a_mapping_and_never_without(
    run: Run, given: Path, refitted: Path
) -> None:
    table = pq.read_table(given / "probs.parquet")
    ids = table.column("image_uuid").to_pylist()
    pq.write_table(table.drop_columns(["image_uuid"]), "bare.parquet")
    rows = pl.DataFrame({"file": "bare.parquet", "row": range(len(ids)), "image_uuid": ids})
    rows.sample(fraction=1, shuffle=True, seed=0).write_csv("ids.csv")
    files = ["--probs", "bare.parquet", "--labels", given / "labels.csv"]
    for command in ("mislabels", "refit"):
        code, _, err = run(command, *files, "--out", "never")
        assert (code, "pass --row-ids" in err, Path("never").exists()) == (2, True, False)
    assert run("mislabels", *files, "--row-ids", "ids.csv", "--out", "mapped")[0] == 0
    files[1] = given / "probs.parquet"
    assert run("mislabels", *files, "--out", "own")[0] == 0
    assert contents(Path("mapped")) == contents(Path("own"))
    files[1] = "bare.parquet"
    assert run("refit", *files, "--row-ids", "ids.csv", "--out", "refit")[0] == 0
    name = "coverage_curve.csv"
    assert Path("refit", name).read_bytes() == (refitted / name).read_bytes()
    assert "row_ids" in json.loads(Path("refit/run.json").read_text())["recompute"]["files"]


def test_a_mapping_for_no_probabilities_is_bad_usage(run: Run, given: Path) -> None:
    Path("data").mkdir()
    shutil.copy(given / "labels.csv", "data/manifest.csv")
    frame = pl.read_csv("data/manifest.csv").with_columns(
        image_path="image_uuid", patient_id="image_uuid"
    )
    frame.write_csv("data/manifest.csv")
    frame.select("patient_id", split=pl.lit("test")).write_csv("data/splits.csv")
    arguments = ["image-issues", "--dataset-dir", "data", "--row-ids", "ids.csv", "--out", "never"]
    code, _, err = run(*arguments)
    assert (code, "with --probs" in err, Path("never").exists()) == (2, True, False)


# folds


def test_folds_are_written_for_a_dataset_or_one_of_its_splits(run: Run, tmp_path: Path) -> None:
    write_dataset(tmp_path / "data")
    code, out, err = run("folds", "--dataset-dir", "data", "--k", "5", "--out", "folds.parquet")
    assert (code, err) == (0, "assigning 120 images\n")
    folds = pl.read_parquet("folds.parquet")
    assert folds.columns == ["image_uuid", "patient_id", "fold"]
    assert folds["fold"].unique().sort().to_list() == [0, 1, 2, 3, 4]
    assert out.splitlines()[0] == "folds.parquet: 120 images in 5 folds"
    assert any(line.startswith("worst class: ") for line in out.splitlines())
    options = ["--dataset-dir", "data", "--split", "train", "--out", "train.csv"]
    assert run("folds", *options)[0] == 0
    assert pl.read_csv("train.csv").height == 60
    code, _, err = run("folds", "--dataset-dir", "data", "--k", "1", "--out", "no.csv")
    assert (code, "k 1: at least two folds" in err, Path("no.csv").exists()) == (2, True, False)


# sync and dump


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The smallest model of the deployed family."""
    import torch

    from dagster_project.lib.inference import architectures, checkpoint, questionnaire

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(7)
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 8,
    }
    preprocess = {
        "size": 16,
        "resize": "squash",
        "resample": "bilinear",
        "antialias": True,
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
    }
    config = {
        "architecture": "siglip_metadata",
        "vision": vision,
        "pooling": "pooler",
        "head": {"type": "mlp", "hidden": 4},
        "preprocess": preprocess,
        "epoch": 1,
    }
    schema = {"version": "1", "fields": [{"name": "cough", "type": "boolean"}]}
    width = questionnaire.n_features(questionnaire.parse_schema(schema))
    module = architectures.build(config, width, len(CLASSES))
    folder = tmp_path_factory.mktemp("model") / "artifact"
    checkpoint.save_artifact(folder, module, config=config, schema=schema, classes=CLASSES)
    yield folder
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five test images, one of them no picture."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("dataset")
    rows = ["image_uuid,image_path,patient_id,label,cough"]
    for i in range(5):
        Image.new("RGB", (20, 16), (40 * i, 99, 120)).save(folder / f"{i}.png")
        rows.append(f"u{i},{i}.png,p{i},acne,yes")
    (folder / "3.png").write_bytes(b"no picture")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    splits = "patient_id,split\n" + "".join(f"p{i},test\n" for i in range(5))
    (folder / "splits.csv").write_text(splits)
    return folder


@pytest.fixture
def dump(run: Run, artifact: Path, photographs: Path) -> Run:
    def call(*more: object) -> tuple[int, str, str]:
        folders = ("--model-dir", artifact, "--dataset-dir", photographs, "--device", "cpu")
        return run("dump", *folders, "--split", "test", *more)

    return call


def test_sync_publishes_the_folder_that_it_prints_last(run: Run, artifact: Path) -> None:
    code, out, _ = run("sync", artifact, "models")
    assert code == 0
    published = Path(out.splitlines()[-1])
    assert published.name == model_store.read_artifact(artifact).tree_hash
    assert contents(published) == contents(artifact)
    assert Path("models/current").resolve() == published
    assert run("sync", artifact, "models") == (0, out, "")  # nothing fetched, same answer


def test_an_incomplete_artifact_is_refused_and_current_stays(run: Run, artifact: Path) -> None:
    run("sync", artifact, "models")
    before = Path("models/current").readlink()
    Path("half").mkdir()
    Path("half/labels.txt").write_text("a\nb\n")
    code, _, err = run("sync", "half", "models")
    assert code == 2
    assert len(err.splitlines()) == 1
    assert Path("models/current").readlink() == before
    assert {p.name for p in Path("models").iterdir()} == {".sync", "current", str(before)}


def test_a_dump_names_its_classes_and_keeps_the_row_it_could_not_read(dump: Run) -> None:
    code, out, err = dump("--out", "d/t.parquet")
    assert code == 0
    assert out.strip() == "d/t.parquet: 5 rows, 1 with an error"
    assert err.splitlines()[-1].startswith("dump test: 5/5 rows")
    assert re.search(r"decode \d+% transfer \d+% model \d+% .*, float32, batch 64", err)
    table = tables.read_arrow(Path("d/t.parquet"))
    assert json.loads(tables.metadata_of(table)["classes"]) == list(CLASSES)
    assert [e is not None for e in table.column("error").to_pylist()] == [*[False] * 3, True, False]
    assert not [p for p in Path("d").iterdir() if p.suffix == ".tmp"]


def test_more_unreadable_images_than_allowed_are_exit_3_with_the_dump_written(dump: Run) -> None:
    assert dump("--max-error-share", "0.2", "--out", "t.parquet")[0] == 0
    code, _, err = dump("--max-error-share", "0.19", "--out", "t.parquet")
    assert code == 3
    assert "1 of 5 rows have no probabilities (20.0 %, allowed 19.0 %)" in err.splitlines()[-1]
    assert Path("t.parquet").is_file()
    assert dump("--max-error-share", "2", "--out", "t.parquet")[0] == 2


@pytest.mark.parametrize(("given", "recorded"), [("bf16", "bfloat16"), ("fp32", "float32")])
def test_short_names_of_arithmetic_are_accepted(dump: Run, given: str, recorded: str) -> None:
    assert dump("--dtype", given, "--out", "t.parquet")[0] == 0
    assert tables.read_metadata(Path("t.parquet"))["dtype"] == recorded


def test_an_equal_dump_is_used_again_and_a_different_one_is_not(dump: Run) -> None:
    dump("--out", "t.parquet")
    before = Path("t.parquet").stat().st_mtime_ns
    code, out, _ = dump("--out", "t.parquet")
    assert code == 0
    assert "an equal dump was there, nothing computed" in out
    assert Path("t.parquet").stat().st_mtime_ns == before
    code, out, _ = dump("--no-tta", "--null-fields", "", "--out", "t.parquet")
    assert code == 0
    assert "nothing computed" not in out


def test_shards_of_a_dump_are_read_as_one_table(dump: Run) -> None:
    from dagster_project.lib.probability_table import read_probabilities

    paths = [Path(f"{i}.parquet") for i in range(2)]
    for i, path in enumerate(paths):
        assert dump("--shard", f"{i}/2", "--out", path)[0] == 0
    assert read_probabilities(paths).frame["image_uuid"].to_list() == ["u0", "u2", "u4", "u1", "u3"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(["--out", "x.csv"], "x.csv: the output is a parquet file", id="csv"),
        pytest.param(["--shard", "16/16", "--out", "x.parquet"], "zero-based", id="shard"),
        pytest.param(["--null-fields", "cof", "--out", "x.parquet"], "cof", id="field"),
        pytest.param(["--split", "val", "--out", "x.parquet"], 'split "val" has no', id="split"),
        pytest.param(["--model-dir", "gone", "--out", "x.parquet"], "gone", id="model"),
        pytest.param(["--dataset-dir", "gone", "--out", "x.parquet"], "gone", id="dataset"),
    ],
)
def test_a_dump_that_cannot_be_made_is_refused_before_it_starts(
    dump: Run, tmp_path: Path, options: list[str], message: str
) -> None:
    code, out, err = dump(*options)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


# being stopped


def test_ctrl_c_is_quiet_and_exit_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(model_store, "sync", interrupted)
    assert run("sync", "a", "b") == (130, "", "")


def test_a_reader_that_has_gone_is_no_traceback(artifact: Path, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "dagster_project.cli", "sync", str(artifact), "models"]
    # buffered, as usual: the fault then shows when the buffer is flushed
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        command,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=env,
        check=False,
    )
    os.close(writing)
    assert done.returncode == cli.EXIT_PIPE
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
    assert (tmp_path / "models" / "current").exists()


def test_a_fault_of_ours_is_not_disguised(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(model_store, "sync", wrong)
    with pytest.raises(ZeroDivisionError):
        cli.main(["sync", "a", "b"])


# outputs that cannot be written

OUTPUTS = {
    "refit": ["refit", "--probs", "{labelled}", "--out", "{out}"],
    "mislabels": ["mislabels", "--probs", "{labelled}", "--out", "{out}"],
    "scorecard": ["scorecard", "--probs", "a={labelled}", "--out", "{out}"],
    "image-issues": ["image-issues", "--dataset-dir", ".", "--out", "{out}"],
    "sync": ["sync", ".", "{out}"],
    "dump": [
        *("dump", "--model-dir", ".", "--dataset-dir", ".", "--split", "test"),
        *("--out", "{out}/x.parquet"),
    ],
    "demo": ["demo", "--root", "{out}"],
}


def output_arguments(command: str, given: Path, out: str) -> list[str]:
    filled = {"{labelled}": str(given / "labelled.parquet"), "{out}": out}
    arguments = OUTPUTS[command]
    for old, new in filled.items():
        arguments = [argument.replace(old, new) for argument in arguments]
    return arguments


@pytest.mark.parametrize("command", OUTPUTS)
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a folder where nobody can write")
def test_a_folder_where_nothing_can_be_made_is_said_before_any_work_even_to_root(
    run: Run, given: Path, command: str
) -> None:
    code, out, err = run(*output_arguments(command, given, "/proc/zz"))
    assert (code, out) == (2, "")
    assert err.startswith("tier-refit: /proc/zz: cannot be written (")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("command", OUTPUTS)
def test_a_name_that_is_too_long_is_no_traceback(run: Run, given: Path, command: str) -> None:
    code, _, err = run(*output_arguments(command, given, "x" * 300))
    assert code == 2
    assert "cannot be written (File name too long)" in err


def test_a_file_as_root_of_the_demo_is_bad_usage(run: Run) -> None:
    Path("file").write_text("mine")
    code, _, err = run("demo", "--root", "file")
    assert code == 2
    assert "is a file, a folder is needed" in err
    assert Path("file").read_text() == "mine"


def test_a_folder_in_place_of_the_dump_is_bad_usage(run: Run) -> None:
    Path("x.parquet").mkdir()
    folders = ("--model-dir", ".", "--dataset-dir", ".", "--split", "test")
    code, _, err = run("dump", *folders, "--out", "x.parquet")
    assert code == 2
    assert "x.parquet: is a folder, a file is needed" in err


def test_the_check_leaves_nothing_behind(run: Run, tmp_path: Path) -> None:
    assert run("sync", "gone", "a/b")[0] == 2
    assert list(tmp_path.iterdir()) == []


def test_refit_does_not_replace_the_working_folder(run: Run, given: Path) -> None:
    code, _, err = run("refit", "--probs", given / "labelled.parquet", "--out", ".")
    assert code == 2
    assert "the working folder or a mount point cannot be replaced" in err


def test_refit_follows_a_link_to_its_folder(run: Run, given: Path, tmp_path: Path) -> None:
    Path("real").mkdir()
    Path("link").symlink_to("real")
    code, out, _ = run("refit", "--probs", given / "labelled.parquet", "--out", "link")
    assert code == 0
    assert out.splitlines()[-1] == str(tmp_path / "real")
    assert Path("link").is_symlink()
    assert sums.verify(Path("link")) == []


@pytest.mark.parametrize(
    ("options", "provisional"), [([], True), (["--reviewed"], False)], ids=["default", "reviewed"]
)
def test_how_many_labels_are_reviewed_is_not_known_to_the_command_line(
    run: Run, given: Path, options: list[str], provisional: bool
) -> None:
    assert run("refit", "--probs", given / "labelled.parquet", *options, "--out", "o")[0] == 0
    labels = report_of("o")["labels"]
    assert (labels["provisional"], labels["n_reviewed"]) == (provisional, None)
    assert "not known" in Path("o/report.md").read_text().splitlines()[2]


def test_a_policy_that_is_a_folder_is_named_once(run: Run, given: Path) -> None:
    probs = given / "labelled.parquet"
    code, _, err = run("refit", "--probs", probs, "--policy", ".", "--out", "o")
    assert (code, err) == (2, "tier-refit: .: no such policy file\n")


def test_a_full_disk_is_one_line_and_exit_1(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "models/a")

    monkeypatch.setattr(model_store, "sync", full)
    code, out, err = run("sync", "a", "b")
    assert (code, out) == (1, "")
    assert "No space left on device: 'models/a'; make room" in err
    assert len(err.splitlines()) == 1


def test_another_fault_of_the_system_is_not_disguised(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*arguments: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(model_store, "sync", wrong)
    with pytest.raises(PermissionError):
        cli.main(["sync", "a", "b"])


def test_a_dump_of_an_unsigned_model_is_refused_where_a_key_is_set(
    dump: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "key.pem").write_bytes(public.public_bytes(*form))
    monkeypatch.setenv("MODEL_PUBLIC_KEY", "key.pem")
    code, _, err = dump("--out", "p.parquet")
    assert code == 2
    assert "has no model.sig and MODEL_PUBLIC_KEY is set" in err
    assert not Path("p.parquet").exists()


# check-model


def test_every_model_gets_its_line_and_one_refusal_decides_the_exit_code(
    run: Run, artifact: Path, tmp_path: Path
) -> None:
    flipped, fine = tmp_path / "flipped", tmp_path / "fine"
    for folder in (flipped, fine):
        shutil.copytree(artifact, folder)
    data = bytearray((flipped / "best_model.pt").read_bytes())
    data[len(data) // 2] ^= 1
    (flipped / "best_model.pt").write_bytes(data)
    code, out, err = run("check-model", flipped, tmp_path / "absent", fine)
    lines = out.splitlines()
    assert code == 2
    assert [line.split()[0] for line in lines] == [
        str(path) for path in (flipped, tmp_path / "absent", fine)
    ]
    assert "best_model.pt: sha256 is" in lines[0]
    assert "no such folder" in lines[1]
    assert lines[2].split()[1:] == [model_store.read_artifact(fine).tree_hash[:12], "ok"]
    assert err.count("\n") == 1
    assert "2 of 3 artifacts are refused" in err


def test_a_model_that_is_refused_without_a_manifest_says_what_its_weights_are(
    run: Run, artifact: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "bare"
    shutil.copytree(artifact, folder)
    (folder / "manifest.json").unlink()
    assert run("check-model", folder)[0] == 0
    (folder / "best_model.pt").write_bytes(b"\x80\x02}.")
    code, out, _ = run("check-model", folder)
    assert code == 2
    assert "bare pickle" in out
    assert model_store.read_artifact(folder).tree_hash[:12] in out
