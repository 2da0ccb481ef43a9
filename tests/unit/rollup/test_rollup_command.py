"""`tier-refit rollup`: files in, folder out, one line for every fault, and the exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from rollup_files import FITTED, N_PATIENTS, TIERS, write_files

from dagster_project import cli
from dagster_project.lib.rollup import pictures, publish

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _bare(bare: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """No picture drawn either."""
    for name in ("tree_png", "curve_png"):
        monkeypatch.setattr(pictures, name, lambda _: b"picture")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process: exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main(["rollup", *(str(a) for a in arguments)])
        return code, *capsys.readouterr()

    return call


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("given")
    write_files(folder)
    (folder / "thresholds.json").write_text(json.dumps(TIERS.as_dict()))
    return folder


def files(given: Path, **other: object) -> list[object]:
    """Arguments; other files than the usual ones by option, relative to ``given``."""
    usual = {"probs": "probs.parquet", "taxonomy": "looks.csv", "config": "given.json"}
    named = {name: given / path for name, path in usual.items()} | {"out": "out"} | other
    return [part for name, value in named.items() for part in (f"--{name}", value)]


def test_shards_are_one_table_and_every_file_is_written(run: Run, given: Path) -> None:
    arguments = files(
        given, config=given / "fitted.json", probs=given / "p0.parquet", labels=given / "labels.csv"
    )
    code, out, err = run(*arguments, "--probs", given / "p1.parquet", "--taxonomy",
                         given / "causes.csv", "--deployed", given / "thresholds.json")  # fmt: skip
    assert code == 0, err
    folder = Path("out").resolve()
    assert sorted(path.name for path in folder.iterdir()) == sorted(publish.FILES)
    lines = out.splitlines()
    assert lines[0] == "taxonomy looks: NOT CLINICALLY VALIDATED"
    assert lines[1].startswith("Certified: ")
    assert lines[-1] == str(folder)
    assert "rollup: " in err
    report = json.loads((folder / "rollup_report.json").read_text())
    assert report["evaluation"]["outcome_mix"] is not None
    captured = report["evaluation"]["confusion"]
    assert {row["taxonomy"] for row in captured} == {"looks", "causes"}
    rows = pl.read_parquet(folder / "predictions.parquet")
    assert rows.height == 3 * 2 * N_PATIENTS
    assert rows.filter("terminal")["image_uuid"].is_unique().all()


def test_labels_are_only_needed_to_fit(run: Run, given: Path) -> None:
    code, out, _ = run(*files(given))
    assert code == 0
    assert "added" in out
    assert json.loads(Path("out/rollup_report.json").read_text())["evaluation"] is None
    assert "nothing added" in run(*files(given))[1]
    code, out, err = run(*files(given, config=given / "fitted.json", out="none"))
    assert (code, out) == (2, "")
    assert err.startswith("tier-refit: fitted.json: thresholds are to be fitted")
    assert not Path("none").exists()


def test_patients_come_with_the_labels_where_the_table_names_none(run: Run, given: Path) -> None:
    bare = given / "bare.parquet"
    table = pq.read_table(given / "probs.parquet")
    pq.write_table(table.drop_columns(["patient_id"]), bare)
    labels = pl.read_csv(given / "labels.csv").join(
        pl.DataFrame(table.select(["image_uuid", "patient_id"])), on="image_uuid"
    )
    labels.write_csv("labels.csv")
    config = given / "fitted.json"
    code, out, _ = run(*files(given, config=config, probs=bare, labels="labels.csv"))
    assert code == 0
    assert "\nCertified: " in out
    usual = given / "labels.csv"
    code, out, _ = run(*files(given, config=config, probs=bare, labels=usual, out="b"))
    assert code == 0
    assert "\nNot certified: " in out
    assert "patients are not known" in out


def test_labels_as_cleaning_writes_them_fit_as_they_are(run: Run, given: Path) -> None:
    labels = pl.read_csv(given / "labels.csv").with_columns(status=pl.lit("unreviewed"))
    elsewhere = labels.head(1).with_columns(image_uuid=pl.lit("elsewhere"))
    pl.concat([labels, elsewhere]).write_csv("cleaned.csv")
    code, out, _ = run(*files(given, labels="cleaned.csv"), "--json")
    assert (code, json.loads(out)["labels"]) == (0, "cleaned")


def test_cleaned_labels_of_which_some_are_reviewed_need_to_know_how_those_were_drawn(
    run: Run, given: Path
) -> None:
    """As cleaning writes them they do not say it; the file of reviewed labels does."""
    labels = pl.read_csv(given / "labels.csv")
    seen = np.arange(labels.height) % 10 != 0
    cleaned = labels.with_columns(
        given_label="label", status=pl.Series(np.where(seen, "confirmed", "given"))
    )
    cleaned.write_csv("cleaned.csv")
    config = given / "fitted.json"
    code, out, _ = run(*files(given, config=config, labels="cleaned.csv"))
    assert code == 0
    assert "No looser shift is: how probably each image was drawn for review is not known" in out
    note = Path("out/rollup_report.md").read_text()
    assert "Reviewed: 215 of 239 judged images. **Labels reviewed in part favour" in note
    assert "**On labels in force**, of which 215 of 239 are reviewed" in note
    labels.filter(pl.Series(seen)).with_columns(inclusion_probability=pl.lit(0.9)).write_csv(
        "r.csv"
    )
    drawn = ("--reviewed-labels", "r.csv")
    code, out, _ = run(*files(given, config=config, labels=given / "labels.csv"), *drawn)
    assert code == 0
    assert "\nCertified: " in out
    assert "the draw of patients and of reviews" in out
    assert "estimated from reviews" in out
    assert "No looser shift is: " in out
    assert "reviewed images that were drawn at random leave much room" in out
    reviewed = json.loads(Path("out/rollup_report.json").read_text())["reviewed"]
    assert reviewed == {"n_reviewed": 215, "n": 239, "n_drawn": 215, "in_part": True}
    code, _, err = run(*files(given, config=config, labels="cleaned.csv"), *drawn)
    assert code == 2
    assert "cleaned.csv has been cleaned already; pass the labels as given" in err


def test_looks_are_counted_and_a_retry_is_none(run: Run, given: Path) -> None:
    other = given / "other.json"
    other.write_text(json.dumps({"thresholds": {**FITTED["thresholds"], "delta": 0.04}}))
    usual = given / "labels.csv"
    fitted = given / "fitted.json"
    told = [
        run(*files(given, config=config, labels=usual), "--ledger", "looks.jsonl")[1]
        for config in (fitted, fitted, other)
    ]
    looked = [out[out.index(" Look") :].splitlines()[0] for out in told]
    assert looked == [
        " Look 1 at these rows: wrong with probability 5 % at most.",
        " Look 1 at these rows: wrong with probability 5 % at most.",
        " Look 2 at these rows: any of the 2 is wrong with probability 8 % at most, together.",
    ]
    assert len(Path("looks.jsonl").read_text().splitlines()) == 2


def test_json_is_alone_on_stdout_and_is_the_file(run: Run, given: Path) -> None:
    code, out, _ = run(*files(given), "--json")
    assert code == 0
    assert out == Path("out/rollup_report.json").read_text()


def test_an_uncertified_fit_is_an_answer_and_exit_3_if_asked(run: Run, given: Path) -> None:
    strict = given / "strict.json"
    strict.write_text(json.dumps({"thresholds": {**FITTED["thresholds"], "target": 0.001}}))
    arguments = files(given, config=strict, labels=given / "labels.csv")
    assert run(*arguments)[0] == 0
    code, _, err = run(*arguments, "--fail")
    assert code == 3
    assert "thresholds are not certified" in err
    assert Path("out/rollup_report.md").is_file()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        pytest.param("config", '{"rule": "linage"}', "key rule: got 'linage'", id="rule"),
        pytest.param(
            "config", '{"thresholds": {"famly": 1}}', 'c.json: thresholds: no rank', id="rank"
        ),
        pytest.param(
            "config", '{"thresholds": {}, "mask": {"include": []}}', "is empty; keep at least one",
            id="mask",
        ),
        pytest.param("taxonomy", "class,family\neczema,e\n", "have no row", id="missing_classes"),
    ],
)  # fmt: skip
def test_a_fault_is_one_line_and_nothing_is_written(
    run: Run, given: Path, name: str, text: str, message: str
) -> None:
    bad = Path("c.json" if name == "config" else "t.csv")
    bad.write_text(text)
    code, out, err = run(*files(given, **{name: bad}))
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert not Path("out").exists()


def test_shipped_examples_go_by_name_and_others_are_told_of(run: Run, given: Path) -> None:
    code, _, err = run(*files(given, taxonomy="by_morphology"))
    assert code == 2
    assert "by_morphology.csv" in err  # found, and of other classes
    code, _, err = run(*files(given, taxonomy="by_looks"))
    assert code == 2
    assert "those are 'by_aetiology', 'by_morphology'" in err
    (given / "elsewhere").mkdir()
    second = given / "elsewhere" / "looks.csv"
    second.write_bytes((given / "looks.csv").read_bytes())
    code, _, err = run(*files(given), "--taxonomy", second)
    assert code == 2
    assert "a second one is called looks" in err
