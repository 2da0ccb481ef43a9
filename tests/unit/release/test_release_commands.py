"""`refit`, `verify`, `approve`, `diff` on the command line: what is said, and the exit codes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagster_project import cli
from dagster_project.lib import environment, files, sums, tables
from dagster_project.lib.release import bundle, inputs, people, signatures
from dagster_project.lib.release import refit as fitting

CLASSES = ("acne", "eczema", "psoriasis", "tinea")
N = 160
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _bare(bare: None) -> None:
    """Before any other fixture, so that their relative paths are in the empty folder."""


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = cli.main([str(a) for a in arguments])
        except SystemExit as left:  # argparse
            code = int(left.code or 0)
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def as_user(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Stands for another account of the operating system."""
    return lambda name: monkeypatch.setattr(people, "os_user", lambda: name)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """probs.parquet without class names, labels.txt beside it, labels.csv, policy, deployed."""
    folder = tmp_path_factory.mktemp("given")
    rng = np.random.default_rng(7)
    truth = rng.integers(len(CLASSES), size=N)
    probs = rng.uniform(0.01, 0.2, (N, len(CLASSES)))
    sure = rng.uniform(0.3, 0.99, N)
    probs[np.arange(N), np.where(rng.random(N) < sure, truth, (truth + 1) % 4)] = sure
    ids = [f"i{i:03d}" for i in range(N)]
    values = pa.array(probs.astype(np.float32).tolist(), pa.list_(pa.float32()))
    table = pa.table(
        {"image_uuid": ids, "patient_id": [f"p{i // 2}" for i in range(N)], "probs": values}
    )
    pq.write_table(
        tables.with_metadata(
            table,
            {
                "tta": "true",
                "identity": "d" * 16,
                "null_fields": '["cough"]',
                "dtype": "float32",
                "split": "test",
            },
        ),
        folder / "probs.parquet",
    )
    (folder / "labels.txt").write_text("\n".join(CLASSES) + "\n")
    labels = pl.DataFrame({"image_uuid": ids, "label": [CLASSES[i] for i in truth]})
    labels.write_csv(folder / "labels.csv")
    policy = {"confident": {"rule": "coverage", "target": 0.4},
              "refer": {"rule": "share", "target": 0.2}}  # fmt: skip
    (folder / "policy.json").write_text(json.dumps(policy))
    deployed = {"confident": 0.7, "refer": 0.4, "possible_item": 0.25}
    (folder / "deployed.json").write_text(json.dumps(deployed))
    return folder


def options(given: Path) -> list[object]:
    named = {"--labels": "labels.csv", "--policy": "policy.json", "--deployed": "deployed.json"}
    files = [part for option, name in named.items() for part in (option, given / name)]
    probs = given / "probs.parquet"
    return ["--probs", probs, "--baseline-probs", probs, *files]


@pytest.fixture(scope="module")
def made(given: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One refit by user anna."""
    out = tmp_path_factory.mktemp("made") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(people, "os_user", lambda: "anna")
        assert cli.main(["refit", *map(str, options(given)), "--out", str(out)]) == 0
    return out


@pytest.fixture
def out(made: Path, tmp_path: Path, as_user: Callable[[str], None]) -> Path:
    """A copy of it, to be spoilt; anna is still there."""
    as_user("anna")
    return Path(shutil.copytree(made, tmp_path / "out"))


@pytest.fixture
def released(out: Path, tmp_path: Path) -> Path:
    """The same as a release in a folder of releases, as Dagster leaves it."""
    (tmp_path / "releases").mkdir()
    folder = out.rename(tmp_path / "releases" / signatures.release_name(out))
    files.point(tmp_path / "releases" / "latest", folder.name)
    return folder


# refit


def test_refit_says_what_changes_against_what_is_in_service(run: Run, given: Path) -> None:
    code, stdout, _ = run("refit", *options(given), "--out", "out")
    assert code == 0
    lines = stdout.splitlines()
    assert lines[0].startswith("confident ")
    assert lines[1] == "against what is in service: old -> new"
    assert any(line.split()[:2] == ["threshold", "refer"] and "0.400 ->" in line for line in lines)
    assert any("confident wrong per 1,000" in line for line in lines)
    assert lines[-1].endswith("out")


def test_run_json_names_the_author_and_every_input(out: Path, given: Path) -> None:
    run = json.loads((out / "run.json").read_text())
    assert run["user"] == "anna"
    assert set(run) == {"command", "time", "host", "user", "recompute"}
    recorded = run["recompute"]["files"]
    assert set(recorded) == {
        *("probs_00", "baseline_00", "labels", "policy", "deployed"),
        *("probs_00_classes", "baseline_00_classes"),
    }
    labels = given / "labels.csv"
    assert recorded["labels"] == {
        "path": str(labels),
        "sha256": files.sha256_file(labels),
        "bytes": labels.stat().st_size,
    }


def test_metadata_say_what_it_was_made_from_and_by(out: Path) -> None:
    found = json.loads((out / "metadata.json").read_text())
    assert found["inputs"]["scored_rows"]["rows"] == N
    assert set(found["inputs"]) == {"scored_rows", "baseline_rows"}
    assert found["dump"]["versions"] == ["d" * 16]
    assert (found["dump"]["dtype"], found["dump"]["device"]) == ("float32", None)
    assert found["null_fields"] == ["cough"]
    assert found["split"] == {"name": "test", "splits_sha256": None, "recipe": None}
    assert set(found["code"]) == {"version", "commit", "dirty"}
    assert found["seeds"]["bootstrap"] > 0
    assert {"python", "numpy", "polars", "torch", "pyarrow"} <= set(found["packages"])
    assert found["model_tree_hash"] is None


def test_no_path_host_or_time_is_in_a_hashed_file(out: Path, given: Path, tmp_path: Path) -> None:
    run = json.loads((out / "run.json").read_text())
    for name in sums.read_sums(out):
        text = (out / name).read_bytes()
        for secret in (str(given), str(tmp_path), run["time"], "anna"):
            assert secret.encode() not in text, (name, secret)


def test_the_same_rows_in_other_files_give_the_same_bytes(
    run: Run, out: Path, given: Path, tmp_path: Path
) -> None:
    shutil.copytree(given, tmp_path / "copy")
    assert run("refit", *options(tmp_path / "copy"), "--out", "again")[0] == 0
    assert Path("again/SHA256SUMS").read_bytes() == (out / "SHA256SUMS").read_bytes()


@pytest.mark.parametrize("name", ["latest", "new"])
def test_a_refit_replaces_no_release_and_puts_nothing_among_them(
    run: Run, released: Path, given: Path, name: str
) -> None:
    before = sorted(released.parent.rglob("*"))
    code, _, err = run("refit", *options(given), "--out", released.parent / name)
    assert code == 2
    assert "lies among releases, which are never replaced" in err
    assert sorted(released.parent.rglob("*")) == before


# verify


def test_a_sound_output_verifies_and_comes_out_the_same_again(run: Run, out: Path) -> None:
    assert run("verify", out) == (0, f"{out}: is what was released\n", "")
    code, stdout, _ = run("verify", out, "--recompute")
    assert (code, stdout) == (0, f"{out}: is what was released, and comes out the same again\n")


def test_each_fault_is_a_line_and_the_exit_code_3(run: Run, released: Path) -> None:
    (released / "report.md").write_text("all is well")
    (released / "notes.txt").touch()
    code, stdout, err = run("verify", released)
    assert code == 3
    assert stdout.splitlines() == [
        "report.md: its content is not what was released",
        "notes.txt: was not released here",
    ]
    assert "(2 in all, see above)" in err
    assert len(err.splitlines()) == 1


def test_a_release_under_another_name_does_not_verify(run: Run, released: Path) -> None:
    moved = released.rename(released.parent / "v2")
    code, stdout, _ = run("verify", moved)
    assert (code, stdout) == (3, f"v2: the folder is not named by its content, {released.name}\n")


@pytest.mark.parametrize("folder", ["nowhere", "."])
def test_verify_of_no_release_is_bad_input(run: Run, folder: str) -> None:
    code, _, err = run("verify", folder)
    assert code == 2
    assert "pass a folder that refit or gate wrote" in err


@pytest.fixture
def of_copies(out: Path, given: Path, tmp_path: Path) -> Path:
    """The refit with its record changed to copies of its inputs, which a test may spoil."""
    shutil.copytree(given, tmp_path, dirs_exist_ok=True)
    text = (out / "run.json").read_text()
    (out / "run.json").write_text(text.replace(str(given), str(tmp_path)))
    return out


@pytest.mark.parametrize("name", ["labels.csv", "labels.txt", "policy.json"])
def test_an_input_that_changed_is_named(
    run: Run, of_copies: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes() + b"\n")
    code, stdout, _ = run("verify", of_copies, "--recompute")
    assert code == 3
    assert f"{tmp_path / name} is not what the release was made from" in stdout
    assert run("verify", of_copies)[0] == 0


def test_an_input_that_is_gone_is_bad_input(run: Run, of_copies: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").unlink()
    code, _, err = run("verify", of_copies, "--recompute")
    assert code == 2
    assert "labels (" in err
    assert "not there any more" in err


def test_a_release_without_a_record_cannot_be_recomputed(run: Run, out: Path) -> None:
    (out / "run.json").write_text('{"host": "here"}')
    code, _, err = run("verify", out, "--recompute")
    assert code == 2
    assert "does not say what the release was made from" in err


def test_other_options_come_out_otherwise(run: Run, out: Path) -> None:
    run_json = json.loads((out / "run.json").read_text())
    run_json["recompute"]["options"]["reviewed"] = True
    (out / "run.json").write_text(json.dumps(run_json))
    code, stdout, _ = run("verify", out, "--recompute")
    assert code == 3
    assert "tier_reports.json: comes out otherwise" in stdout
    assert "likely reason" not in stdout


def test_other_versions_are_the_likely_reason_and_no_difference_by_themselves(
    run: Run, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now: dict[str, Any] = environment.environment()
    other = {**now, "packages": {**now["packages"], "numpy": "9.9"}}
    monkeypatch.setattr(inputs, "environment", lambda: other)
    monkeypatch.setattr(bundle, "environment", lambda: other)
    assert run("verify", out, "--recompute")[0] == 0
    real = fitting.refit

    def elsewhere(*arguments: Any, **named: Any) -> Any:
        result = real(*arguments, **named)
        result.contents["coverage_curve.csv"] += b"0.5,0\n"
        return result

    monkeypatch.setattr(inputs, "refit", elsewhere)
    code, stdout, _ = run("verify", out, "--recompute")
    assert code == 3
    assert stdout.splitlines() == [
        "coverage_curve.csv: comes out otherwise",
        f"likely reason: numpy {now['packages']['numpy']} then, 9.9 now",
    ]


def test_a_blocked_refit_comes_out_the_same_too(run: Run, given: Path, tmp_path: Path) -> None:
    Path("far.json").write_text('{"confident": 0.2, "refer": 0.1, "possible_item": 0.25}')
    probs, labels = given / "probs.parquet", given / "labels.csv"
    arguments = ["--probs", probs, "--labels", labels, "--deployed", "far.json", "--out", "out"]
    assert run("refit", *arguments)[0] == 3
    assert run("verify", "out", "--recompute")[0] == 0
    code, _, err = run("approve", "out", "--as", "B", "--meaning", "approval")
    assert code == 3
    assert "was blocked" in err


# approve


def test_a_release_is_approved_once_by_somebody_else(
    run: Run, released: Path, as_user: Callable[[str], None]
) -> None:
    latest = released.parent / "latest"
    code, _, err = run("approve", latest, "--as", "Bert", "--meaning", "approval")
    assert code == 3
    assert "user anna ran this refit and cannot sign it too" in err
    as_user("bert")
    code, stdout, err = run("approve", latest, "--as", "Dr. Bert", "--meaning", "approval")
    assert (code, err) == (0, "")
    assert "signed as approval by Dr. Bert (user bert)" in stdout
    assert "in service by approve; before: nothing" in stdout
    assert (released.parent / "current").resolve() == released
    code, stdout, _ = run("approve", latest, "--as", "Dr. Bert", "--meaning", "approval")
    assert code == 0
    assert "already signed" in stdout
    assert "in service as before" in stdout
    assert run("verify", released.parent / "current", "--recompute")[0] == 0


def test_the_output_of_a_refit_is_signed_in_its_place_and_then_not_replaced(
    run: Run, out: Path, given: Path, as_user: Callable[[str], None]
) -> None:
    as_user("bert")
    code, stdout, _ = run("approve", out, "--as", "Bert", "--meaning", "approval")
    assert code == 0
    assert "no folder of releases: nothing is put in service" in stdout
    code, _, err = run("refit", *options(given), "--out", out)
    assert code == 2
    assert "approval.json" in err


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--as", "B"], id="no_meaning"),
        pytest.param(["--meaning", "review"], id="no_name"),
        pytest.param(["--as", "B", "--meaning", "maybe"], id="other_meaning"),
        pytest.param(["--as", " ", "--meaning", "review"], id="empty_name"),
    ],
)
def test_approve_without_name_or_meaning_is_a_usage_error(
    run: Run, out: Path, arguments: list[str]
) -> None:
    code, _, err = run("approve", out, *arguments)
    assert code == 2
    assert len(err.splitlines()) == 1


# diff


def test_diff_prints_a_table_or_json_and_fails_on_demand(run: Run, given: Path, out: Path) -> None:
    labels, probs = given / "labels.csv", given / "probs.parquet"
    assert run("refit", "--probs", probs, "--labels", labels, "--out", "other")[0] == 0
    code, stdout, err = run("diff", out, "other")
    assert (code, err) == (0, "")
    assert "outcomes per 1,000" in stdout
    assert "policy_sha256" in stdout
    code, stdout, _ = run("diff", out, "other", "--json", "--fail")
    assert code == 3
    assert json.loads(stdout)["differ"] is True
    assert run("diff", out, out, "--fail") == (0, "out and out are equal\n", "")


def test_diff_says_so_where_a_folder_is_not_what_was_released(run: Run, out: Path) -> None:
    (out / "report.md").write_text("changed")
    code, _, err = run("diff", out, out)
    assert code == 0
    assert "report.md: its content is not what was released" in err


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "x"])
def test_a_tolerance_is_a_number_from_0_on(run: Run, value: str) -> None:
    code, _, err = run("diff", "a", "b", f"--atol={value}")
    assert code == 2
    assert "not a number from 0 on" in err


@pytest.mark.parametrize("command", ["verify", "approve", "diff"])
def test_help_ends_with_an_example_that_parses(
    run: Run, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shlex

    code, stdout, _ = run(command, "--help")
    assert code == 0
    example = shlex.split(stdout.partition("example:\n")[2].strip())
    assert example[:2] == ["tier-refit", command]
    parsed = cli.build_parser().parse_args(example[1:])
    assert parsed.command.__name__ == command
