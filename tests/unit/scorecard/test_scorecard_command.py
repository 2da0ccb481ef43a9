"""`tier-refit scorecard`: files in, folder out, one line for every fault, and the exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from report_worlds import N, labels, mistaken, table, write_table

from dagster_project import cli
from dagster_project.cli_arguments import named_paths
from dagster_project.lib.errors import InputError
from dagster_project.lib.scorecard import pictures, publish

Run = Callable[..., tuple[int, str, str]]

CHECKPOINTS = """
[rule]
recall_drop = 0.2

[[checkpoint]]
name = "baseline"
model = "/models/b"
baseline = true

[[checkpoint]]
name = "focal"
model = "/models/f"
changed = ["focal_loss"]
seed = 3
"""


@pytest.fixture(autouse=True)
def _bare(bare: None) -> None:
    """Before any other fixture, so that their relative paths are in the empty folder."""


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process: exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main(["scorecard", *(str(a) for a in arguments)])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """No picture is drawn: a second each, and others look at them."""
    for name in ("recall_change_png", "reliability_png", "operating_curves_png"):
        monkeypatch.setattr(pictures, name, lambda *_: b"picture")


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table a checkpoint, that of focal in two shards; labels; checkpoints.toml."""
    folder = tmp_path_factory.mktemp("given")
    for name in ("baseline", "collapsed"):
        write_table(folder / f"{name}.parquet", table(name))
    write_table(folder / "f0.parquet", table("focal"), slice(0, 200))
    write_table(folder / "f1.parquet", table("focal"), slice(200, None))
    labels().write_csv(folder / "labels.csv")
    mistaken().write_csv(folder / "given.csv")
    (folder / "checkpoints.toml").write_text(CHECKPOINTS)
    return folder


def two(given: Path) -> list[object]:
    """Baseline, and focal in two shards."""
    focal = [f"focal={given / 'f0.parquet'}", given / "f1.parquet"]
    base = f"baseline={given / 'baseline.parquet'}"
    return ["--probs", base, "--probs", *focal, "--labels", given / "labels.csv"]


def test_shards_of_a_configuration_are_one_table_and_every_file_is_written(
    run: Run, given: Path
) -> None:
    code, out, err = run(*two(given), "--out", "card")
    assert code == 0
    folder = Path("card").resolve()
    assert sorted(path.name for path in folder.iterdir()) == sorted(publish.FILES)
    lines = out.splitlines()
    assert lines[0].startswith("focal  KEEP     ")
    assert lines[-1] == str(folder)
    assert "scorecard: " in err
    card = json.loads((folder / "scorecard.json").read_text())
    assert [row["n"] for row in card["configs"]] == [N, N]
    assert card["tta"]["reason"]
    assert (card["levers_known"], card["composition"]) == (False, None)
    assert card["noise"]["source"] == "the confident joint of baseline"


@pytest.mark.usefixtures("undrawn")
def test_json_is_alone_on_stdout_and_is_the_file(run: Run, given: Path) -> None:
    code, out, _ = run(*two(given), "--out", "card", "--json")
    assert code == 0
    assert out == Path("card/scorecard.json").read_text()


@pytest.mark.usefixtures("undrawn")
def test_a_rejected_checkpoint_is_exit_3_on_request_and_everything_is_written(
    run: Run, given: Path
) -> None:
    probs = [f"{name}={given / name}.parquet" for name in ("baseline", "collapsed")]
    options = ["--probs", *probs, "--labels", given / "labels.csv", "--out", "card"]
    assert run(*options)[0] == 0
    Path("card/scorecard.md").unlink()
    code, out, err = run(*options, "--fail")
    assert code == 3
    assert out.startswith("collapsed  REJECT")
    assert err.splitlines()[-1].startswith("tier-refit: collapsed: REJECT; ")
    assert Path("card/scorecard.md").exists()


@pytest.mark.usefixtures("undrawn")
def test_the_list_of_checkpoints_brings_levers_seeds_and_the_rule(run: Run, given: Path) -> None:
    options = ["--checkpoints", given / "checkpoints.toml", "--given-labels", given / "given.csv"]
    assert run(*two(given), *options, "--out", "card")[0] == 0
    card = json.loads(Path("card/scorecard.json").read_text())
    focal = card["configs"][1]
    assert (focal["changed"], focal["seed"]) == (["focal_loss"], 3)
    assert (card["rule"]["recall_drop"], card["levers_known"]) == (0.2, True)
    assert card["labels"] == {"source": "cleaned", "n_changed": 201}


@pytest.mark.usefixtures("undrawn")
def test_another_baseline_turns_the_comparison_round(run: Run, given: Path) -> None:
    assert run(*two(given), "--baseline", "focal", "--out", "card")[0] == 0
    card = json.loads(Path("card/scorecard.json").read_text())
    assert list(card["comparisons"]) == ["baseline"]
    assert card["comparisons"]["baseline"]["differences"]["top1"]["estimate"] < 0


def test_a_baseline_with_levers_of_its_own_is_refused_on_the_command_line_too(
    run: Run, given: Path
) -> None:
    listed = (given / "checkpoints.toml").read_text().replace("baseline = true\n", "")
    Path("listed.toml").write_text(listed)
    options = ["--checkpoints", "listed.toml", "--out", "card"]
    code, _, err = run(*two(given), "--baseline", "focal", *options)
    assert code == 2
    assert "--baseline focal: listed.toml says that it changed 'focal_loss'" in err
    assert run(*two(given), "--baseline", "baseline", *options)[0] == 0


@pytest.mark.usefixtures("undrawn")
def test_noise_is_what_the_reviews_show_where_the_labels_say_which_there_were(
    run: Run, given: Path
) -> None:
    import polars as pl

    status = pl.when(pl.int_range(N) < 200).then(pl.lit("confirmed")).otherwise(pl.lit("given"))
    labels().with_columns(status=status).write_csv("reviewed.csv")
    options = [*two(given)[:-1], "reviewed.csv", "--given-labels", given / "labels.csv"]
    assert run(*options, "--out", "card")[0] == 0
    card = json.loads(Path("card/scorecard.json").read_text())
    assert card["noise"]["source"].startswith("200 decided reviews")
    few = pl.when(pl.int_range(N) < 20).then(pl.lit("confirmed")).otherwise(pl.lit("given"))
    labels().with_columns(status=few).write_csv("reviewed.csv")
    assert run(*options, "--out", "card")[0] == 0
    card = json.loads(Path("card/scorecard.json").read_text())
    assert (card["noise"]["source"], card["noise"]["n"]) == (
        "the confident joint of baseline",
        N - 20,
    )


@pytest.mark.usefixtures("undrawn")
def test_cleaned_labels_fit_as_cleaning_writes_them(run: Run, given: Path) -> None:
    import polars as pl

    rows = labels().with_columns(status=pl.lit("given"))
    unusable = rows[:3].with_columns(label=pl.lit(None, pl.String), status=pl.lit("not_usable"))
    elsewhere = rows[:1].with_columns(image_uuid=pl.lit("of the train split"))
    cleaned = pl.concat([unusable, rows[3:], elsewhere])
    cleaned.write_csv("cleaned_labels.csv")
    options = [*two(given)[:-1], "cleaned_labels.csv"]
    assert run(*options, "--out", "card")[0] == 0
    card = json.loads(Path("card/scorecard.json").read_text())
    assert (card["n"], card["n_without_label"]) == (N - 3, 3)
    for wrong, says in (
        (cleaned.drop("status"), "row 2, column label: empty (3 such rows)"),
        (elsewhere, "none of the 600 images has a label"),
        (cleaned.with_columns(label=pl.lit("acme")), 'unknown class "acme"'),
    ):
        wrong.write_csv("cleaned_labels.csv")
        code, _, told = run(*options, "--out", "none")
        assert (code, says in told) == (2, True), told
        assert not Path("none").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(["--probs", "x=gone.parquet"], "gone.parquet: no such file", id="file"),
        pytest.param(["--baseline", "x"], "--baseline x: no --probs has that name", id="baseline"),
        pytest.param(["--labels", "gone.csv"], "gone.csv: no such file", id="labels"),
        pytest.param(["--given-labels", "gone.csv"], "gone.csv: no such file", id="given"),
        pytest.param(["--policy", "gone.json"], "gone.json: no such policy file", id="policy"),
        pytest.param(["--deployed", "gone.json"], "gone.json: no such file", id="deployed"),
        pytest.param(["--classes", "gone.txt"], "gone.txt: no such file", id="classes"),
        pytest.param(["--checkpoints", "gone.toml"], "gone.toml: no such file", id="checkpoints"),
        pytest.param(
            ["--probs", "x={given}/f0.parquet"],
            "x: other images than baseline (400 missing: 'i200', 'i201', 'i202' and 397 more)",
            id="rows",
        ),
        pytest.param(
            ["--probs", "x={given}/baseline.parquet", "--checkpoints", "{given}/checkpoints.toml"],
            "'x' is no entry of the checkpoints ('baseline', 'focal'); add it, or leave it out",
            id="stranger",
        ),
        pytest.param(
            ["--baseline", "focal", "--checkpoints", "{given}/checkpoints.toml"],
            "--baseline focal: checkpoints.toml declares baseline; leave the option out",
            id="two_baselines",
        ),
        pytest.param(["--out", "{given}"], "not written by a scorecard", id="foreign"),
    ],
)
def test_bad_input_is_one_line_exit_2_and_nothing_written(
    run: Run, given: Path, change: list[str], says: str
) -> None:
    before = sorted(path.name for path in given.iterdir())
    changed = [part.format(given=given) for part in change]
    code, out, err = run(*two(given), "--out", "card", *changed)
    assert (code, out) == (2, "")
    assert says in err
    assert len(err.splitlines()) == 1
    assert not Path("card").exists()
    assert sorted(path.name for path in given.iterdir()) == before


@pytest.mark.usefixtures("undrawn")
def test_labels_that_travel_with_the_tables_may_not_contradict_each_other(run: Run) -> None:
    mine, other = (labels()["label"], mistaken()["label"])
    for name, column in (("baseline", mine), ("focal", other)):
        found = table(name)
        found.frame.insert_column(-1, column)
        write_table(Path(f"{name}.parquet"), found)
    options = ["--probs", "baseline=baseline.parquet", "focal=focal.parquet", "--out", "card"]
    code, _, err = run(*options)
    assert code == 2
    assert "focal, column label: other labels than baseline on 201 images: 'i003'" in err
    assert run("--probs", "baseline=baseline.parquet", "--out", "card")[0] == 0


def test_a_file_without_a_name_before_it_is_refused() -> None:
    with pytest.raises(InputError, match=r"--probs b.parquet: expected NAME=FILE"):
        named_paths(["b.parquet", "focal=f.parquet"])
    with pytest.raises(InputError, match=r"--probs focal=: expected NAME=FILE"):
        named_paths(["focal="])


def test_a_name_that_comes_again_goes_on_and_a_folder_may_hold_an_equals_sign() -> None:
    found = named_paths(["a=1", "b=dir/x=0/2", "dir/x=1/3", "a=4"])
    assert found == {"a": [Path("1"), Path("4")], "b": [Path("dir/x=0/2"), Path("dir/x=1/3")]}
