"""`tier-refit gate`: scores in, a sealed folder out, a line for every fault, the exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gate_reports as made
import numpy as np
import polars as pl
import pytest

from dagster_project import cli
from dagster_project.lib import sums
from dagster_project.lib.gate import pictures, publish, words
from dagster_project.lib.gate.inputs import named_scores

Run = Callable[..., tuple[int, str, str]]
N = 4000


@pytest.fixture(autouse=True)
def _bare(bare: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """No picture drawn either."""
    for name in ("sweep_png", "tradeoff_png", "distribution_png"):
        monkeypatch.setattr(pictures, name, lambda *_: b"picture")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process: exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main([str(a) for a in arguments])
        return code, *capsys.readouterr()

    return call


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``s.parquet``, ``other.parquet`` (worse), and configurations."""
    folder = tmp_path_factory.mktemp("gate")
    for seed, name in enumerate(("s", "other")):
        scores = made.scores(N)
        noise = np.exp(np.random.default_rng(seed).normal(0.0, 2.0 * seed, N))
        table = {"score": scores.score * noise, "in_range": scores.in_range}
        pl.DataFrame(table).write_parquet(folder / f"{name}.parquet")
    config(folder / "c.json")
    config(folder / "never.json", points={"safety_first": {"target": 1e-6}})
    return folder


def config(path: Path, **keys: Any) -> Path:
    path.write_text(json.dumps({"gauge": made.GAUGE, **keys}))
    return path


def arguments(given: Path, *more: object, scores: object = "s.parquet", at: str = "c.json",
              out: str = "out") -> list[object]:  # fmt: skip
    return ["gate", "--scores", given / str(scores), "--config", given / at, "--out", out, *more]


def test_a_folder_of_every_file_is_sealed_and_verified(run: Run, given: Path) -> None:
    code, out, err = run(*arguments(given))
    assert code == 0, err
    folder = Path("out")
    assert {path.name for path in folder.iterdir()} == {*publish.FILES, sums.SUMS, sums.RUN}
    lines = out.splitlines()
    assert lines[-1] == str(folder.resolve())
    assert lines[-2].startswith("Frozen: safety_first, tau 0.")
    assert any(" fewer of 1,000 cases: " in line for line in lines)
    assert "gate: " in err
    curves = json.loads((folder / "tau_sweep.json").read_text())["curves"]
    assert {"taus", "fn_in", "fp_cens", "bottom_rate"} <= curves.keys()
    code, out, _ = run("verify", folder)
    assert (code, out) == (0, "out: is what gate wrote, a threshold is frozen\n")
    (folder / "tau_sweep.md").write_text("better")
    assert run("verify", folder)[0] == 3


def test_the_sweep_on_disk_is_what_counting_gives(run: Run, given: Path) -> None:
    taus = (0.05, 0.3)
    at = config(given / "taus.json", taus=list(taus))
    run(*arguments(given, at=at.name))
    curves = json.loads(Path("out/tau_sweep.json").read_text())["curves"]
    table = pl.read_parquet(given / "s.parquet")
    score, inside = table["score"].to_numpy(), table["in_range"].to_numpy()
    bottom = [~(score >= tau) for tau in taus]
    at_ = [curves["taus"].index(tau) for tau in taus]
    assert [curves["fn_in"][i] for i in at_] == [float(b[inside].mean()) for b in bottom]
    assert [curves["fp_cens"][i] for i in at_] == [float((~b)[~inside].mean()) for b in bottom]


def test_the_same_run_again_leaves_the_same_bytes(run: Run, given: Path) -> None:
    run(*arguments(given))
    before = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    assert run(*arguments(given))[0] == 0
    after = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    assert before.keys() == after.keys()
    assert {n for n in before if before[n] != after[n]} <= {sums.RUN}


def test_what_is_not_backed_is_written_without_a_bundle_and_exit_3(run: Run, given: Path) -> None:
    run(*arguments(given))
    code, out, err = run(*arguments(given, at="never.json"))
    assert code == 3
    assert err.splitlines()[-1].startswith("tier-refit: nothing is frozen: ")
    assert "\nNothing is frozen: safety_first is unavailable: fp_cens is not shown" in out
    names = {path.name for path in Path("out").iterdir()}
    assert names == {*publish.FILES, sums.SUMS, sums.RUN} - {publish.BUNDLE}
    points = json.loads(Path("out/operating_points.json").read_text())
    assert points["freeze"]["frozen"] is False
    assert points["freeze"]["reason"]
    code, out, _ = run("verify", "out")
    assert (code, out) == (0, "out: is what gate wrote, no threshold is frozen\n")


def test_another_point_can_be_frozen(run: Run, given: Path) -> None:
    code, out, _ = run(*arguments(given, "--point", "accuracy_first", at="never.json"))
    assert code == 0
    assert "Frozen: accuracy_first" in out
    code, out, err = run(*arguments(given, "--point", "best", out="none"))
    assert (code, out) == (2, "")
    assert "best is no operating point; known are safety_first" in err
    assert not Path("none").exists()


def test_a_gate_made_anew_says_what_changed_since_the_one_it_replaces(
    run: Run, given: Path
) -> None:
    for number, model in enumerate(("rational", "rational", "mlp")):
        at = config(given / f"of{number}.json", identity={"model_family": model})
        code, _, err = run(*arguments(given, at=at.name))
        assert code == 0
        assert ("since the gate in out: model family" in err) == (model == "mlp")
    assert json.loads(Path("out/metadata.json").read_text())["identity"]["model_family"] == "mlp"


def test_a_bundle_has_the_hashes_of_what_lies_beside_it(run: Run, given: Path) -> None:
    run(*arguments(given))
    listed = sums.read_sums(Path("out"))
    hashes = json.loads(Path("out/metadata.json").read_text())["files"]
    assert hashes == {name: sha for name, sha in listed.items() if name != publish.BUNDLE}


def test_json_is_alone_on_stdout_and_is_the_file(run: Run, given: Path) -> None:
    code, out, _ = run(*arguments(given, "--json"))
    assert code == 0
    assert out == Path("out/operating_points.json").read_text()


def test_models_are_compared_each_at_its_own_tau_and_the_first_is_gated(
    run: Run, given: Path
) -> None:
    named = [f"bad@0={given / 'other.parquet'}", f"good@0={given / 's.parquet'}",
             f"good@1={given / 's.parquet'}"]  # fmt: skip
    code, _, err = run("gate", "--scores", *named, "--config", given / "c.json", "--point",
                       "balanced", "--out", "out")  # fmt: skip
    assert code == 0, err
    points = json.loads(Path("out/operating_points.json").read_text())
    rows = points["models"]["rows"]
    assert [(row["model"], row["seed"]) for row in rows] == [
        ("bad", 0), ("good", 0), ("good", 1)
    ]  # fmt: skip
    assert rows[0]["tau"] == points["points"]["balanced"]["tau"] != rows[1]["tau"]
    assert rows[0]["fp_cens"] > rows[1]["fp_cens"]
    note = Path("out/operating_points.md").read_text()
    assert "## Models and seeds" in note
    assert "Another question than the one above" in note
    assert "- safety_first: **good**, accept_rate " in note
    assert " on the mean of 2 seeds; by least `fp_cens`, then" in note
    run(*arguments(given))
    assert json.loads(Path("out/operating_points.json").read_text())["models"] is None


def test_models_of_other_cases_are_not_compared(run: Run, given: Path) -> None:
    pl.read_parquet(given / "s.parquet").head(N - 2).write_parquet("short.parquet")
    pl.read_parquet(given / "s.parquet").with_columns(in_range=True).write_parquet("in.parquet")
    for other, says in (("short.parquet", "3,998 rows, and"), ("in.parquet", "rows in range, and")):
        code, out, err = run("gate", "--scores", f"a={given / 's.parquet'}", f"b={other}",
                             "--config", given / "c.json", "--out", "out")  # fmt: skip
        assert (code, out) == (2, "")
        assert says in err
        assert "compared on the same cases" in err
        assert not Path("out").exists()


@pytest.mark.parametrize(
    ("values", "says"),
    [
        pytest.param(["a.parquet", "b.parquet"], "for each of several NAME=FILE", id="no_names"),
        pytest.param(["m@x=a.parquet"], "NAME@SEED=FILE with a whole number", id="no_number"),
        pytest.param(["m="], "expected one FILE", id="no_file"),
        pytest.param(["m=a.parquet", "m@0=b.parquet"], "a second file of m@0", id="twice"),
    ],
)
def test_several_files_need_names_of_their_own(
    run: Run, given: Path, values: list[str], says: str
) -> None:
    code, _, err = run("gate", "--scores", *values, "--config", given / "c.json", "--out", "o")
    assert code == 2
    assert says in err


def test_a_name_has_no_slash() -> None:
    assert named_scores(["./a=b.parquet"]) == {("model", 0): Path("a=b.parquet")}
    assert [*named_scores(["m@12=x/a=b.parquet"]).items()] == [(("m", 12), Path("x/a=b.parquet"))]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("{", "not JSON", id="no_json"),
        pytest.param("{}", "gauge", id="no_gauge"),
        pytest.param(json.dumps({"gauge": made.GAUGE, "tau": 1}), "tau", id="unknown_key"),
        pytest.param(json.dumps({"gauge": made.GAUGE, "freeze": "x"}), "freeze", id="no_point"),
    ],
)
def test_a_configuration_that_is_none_is_one_line_and_nothing_is_written(
    run: Run, given: Path, text: str, says: str
) -> None:
    Path("bad.json").write_text(text)
    code, out, err = run("gate", "--scores", given / "s.parquet", "--config", "bad.json",
                         "--out", "out")  # fmt: skip
    assert (code, out) == (2, "")
    assert err.startswith("tier-refit: bad.json: ")
    assert says in err
    assert err.count("\n") == 1
    assert not Path("out").exists()


def test_a_folder_of_somebody_elses_is_left_alone(run: Run, given: Path) -> None:
    Path("out").mkdir()
    Path("out/mine.txt").write_text("mine")
    code, _, err = run(*arguments(given))
    assert code == 2
    assert "'mine.txt', not written by a gate" in err
    sealed = sums.with_sums({"thresholds.json": b"{}", "tau.txt": b""})
    Path("release").mkdir()
    sums.fill(Path("release"), sealed, None)
    assert run(*arguments(given, out="release"))[0] == 2
    assert (Path("release") / "thresholds.json").is_file()


@pytest.mark.parametrize("command", ["approve {} --as A --meaning review", "diff {} {}",
                                     "verify {} --recompute"])  # fmt: skip
def test_a_gate_is_no_release(run: Run, given: Path, command: str) -> None:
    run(*arguments(given))
    code, _, err = run(*command.format("out", "out").split())
    assert code == 2
    assert "out: is a gate, a release is needed" in err


def test_the_picture_names_in_the_notes_are_the_files(run: Run, given: Path) -> None:
    run(*arguments(given))
    notes = "".join(Path("out", name).read_text() for name in ("tau_sweep.md",
                                                               "operating_points.md"))  # fmt: skip
    for name in words.PICTURES:
        assert f"({name})" in notes
